"""What the tests share: a place for a project, and a process of its own for each scenario."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from compilers import C_COMPILERS

HERE = Path(__file__).parent

# Imported by every scenario before its own lines.
PRELUDE = """
import faulthandler, gc, json, os, signal, sys, threading, time
faulthandler.enable()
faulthandler.dump_traceback_later(100, exit=True)
sys.path.insert(0, os.getcwd())
import relib
from observe import *
"""


@dataclass
class Outcome:
    """How a scenario ended."""

    status: int
    output: str
    errors: str

    @property
    def value(self) -> object:
        """What the scenario passed to say()."""
        return json.loads(self.output.splitlines()[-1])


class Project:
    """A directory with sources, and processes that run in it."""

    def __init__(self, root: Path, environ: dict[str, str]) -> None:
        self.root = root
        self.environ = environ

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
        return path

    def start(self, script: str, **environ: str) -> subprocess.Popen[str]:
        """A process that runs `script` after the prelude; its working directory is the project."""
        path = self.root / "scenario.py"
        path.write_text(PRELUDE + textwrap.dedent(script))
        return subprocess.Popen(
            [sys.executable, "-X", "faulthandler", str(path)],
            cwd=self.root,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *, status: int = 0, **environ: str) -> Outcome:
        """Run `script` to its end, which must be `status`: a crash is a failure."""
        process = self.start(script, **environ)
        try:
            output, errors = process.communicate(timeout=150)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            pytest.fail(f"the scenario did not end\n{output}\n{errors}")
        assert process.returncode == status, f"exit status {process.returncode}\n{output}\n{errors}"
        return Outcome(process.returncode, output, errors)


@pytest.fixture(scope="session")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all scenarios."""
    path = tmp_path_factory.mktemp("store") / "relib"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def project(tmp_path: Path, shared_store: Path) -> Project:
    """An empty project."""
    return project_at(tmp_path, shared_store)


@pytest.fixture(scope="module")
def shared_project(tmp_path_factory: pytest.TempPathFactory, shared_store: Path) -> Project:
    """An empty project for a file whose scenarios use one source: that is built once.

    What is built is the project's own, so that a project for each would mean a build for each.
    """
    return project_at(tmp_path_factory.mktemp("project"), shared_store)


def project_at(root: Path, store: Path) -> Project:
    """A project whose builds are quick rather than good."""
    environ = {
        **{key: value for key, value in os.environ.items() if not key.startswith("RELIB_")},
        "RELIB_STORE": str(store),
        "CFLAGS": "-O0 -g0",
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(HERE / "support"), os.environ.get("PYTHONPATH")])
        ),
        "PYTHONUNBUFFERED": "1",
    }
    environ.pop("CC", None)
    environ.pop("CXX", None)
    return Project(root, environ)


c_compiler: Callable[..., pytest.MarkDecorator] = pytest.mark.parametrize("cc", C_COMPILERS)
