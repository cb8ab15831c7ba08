"""The libraries of tests/native, and scenarios that have them loaded."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from conftest import Project

SOURCES = Path(__file__).parent / "native"


def compile_library(
    name: str, directory: Path, *flags: str, cc: str = "gcc", library: str | None = None
) -> Path:
    """Compile tests/native/NAME.c, without optimization unless the flags say so."""
    path = directory / f"{library or name}.so"
    paths = sysconfig.get_paths()
    include = [f"-I{paths['include']}", f"-I{paths['platinclude']}"]
    command = [shutil.which(cc) or "cc", "-O0", "-g0", "-w", "-shared", "-fPIC", "-pthread"]
    if cc == "tcc":
        command = [cc, "-w", "-shared"]
    source = SOURCES / f"{name}.c"
    subprocess.run([*command, *flags, *include, str(source), "-o", str(path)], check=True)
    return path


class Scenario:
    """Runs scripts after a prelude, with the paths of libraries as variables."""

    def __init__(self, project: Project, prelude: str, libraries: dict[str, Path]) -> None:
        self.project = project
        self.prelude = prelude
        self.libraries = libraries

    def run(self, script: str) -> None:
        """Run it to its end; one that says why it cannot be played here is skipped."""
        paths = "".join(f"{name} = {str(path)!r}\n" for name, path in self.libraries.items())
        outcome = self.project.run(paths + self.prelude + script)
        if outcome.output:
            pytest.skip(str(outcome.value))
