"""A project in a temporary directory, for tests that build."""

from __future__ import annotations

import os
import select
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

import relib
from relib.building.builder import Build, build_extension
from relib.config import Config, load_config
from relib.extension import Extension

PLAIN_C = """
    #include <Python.h>
    static struct PyModuleDef def = {{ PyModuleDef_HEAD_INIT, "{name}", 0, 0, 0 }};
    PyMODINIT_FUNC PyInit_{name}(void) {{
        PyObject *module = PyModule_Create(&def);
        if (module) PyModule_AddIntConstant(module, "answer", {answer});
        return module;
    }}
"""


class Project:
    """Sources, a configuration, and a compiler that writes down how often it was started."""

    def __init__(self, root: Path, **options: object) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        # The tier that does what it is told: instant builds have tests of their own.
        self.options = {"cflags": "-O0 -g0", "tier": "optimized", **options}

    @property
    def config(self) -> Config:
        return load_config(self.root, {}, **self.options)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        return path

    def write_c(self, name: str, answer: object, *includes: str) -> Path:
        """A module `name` whose `answer` is a C expression."""
        lines = "".join(f'#include "{include}"\n' for include in includes)
        return self.write(f"{name}.c", lines + dedent(PLAIN_C.format(name=name, answer=answer)))

    def extension(self, source: str, **fields: object) -> Extension:
        path = self.root / source
        fields.setdefault("sources", (path,))
        return Extension(str(fields.pop("name", path.stem)), **fields)  # type: ignore[arg-type]

    def build(self, source: str, *, force: bool = False, **fields: object) -> Build:
        return build_extension(self.extension(source, **fields), self.config, force=force)

    def record_compiler(self) -> CompilerRecord:
        record = CompilerRecord(self.root.parent / f"{self.root.name}-compiler")
        self.options["cc"] = str(record.script)
        return record


class CompilerRecord:
    """A script that stands for cc, writes down its arguments, and runs the real one."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.calls = directory / "calls"
        self.script = directory / "cc"
        self._before = directory / "before"
        self.before_compiling(":")
        self.script.write_text(
            "#!/bin/sh\n"
            f'printf "%s\\n" "$*" >> {self.calls}\n'
            f'case " $* " in *" -c "*) . {self._before} ;; esac\n'
            'exec gcc "$@"\n'
        )
        self.script.chmod(stat.S_IRWXU)

    def before_compiling(self, commands: str) -> None:
        """Let it run shell commands first when it compiles; the script itself stays as it is."""
        self._before.write_text(commands + "\n")

    @property
    def compiled(self) -> list[str]:
        """The command of each compilation so far."""
        if not self.calls.exists():
            return []
        return [line for line in self.calls.read_text().splitlines() if " -c " in f" {line} "]

    @property
    def started(self) -> int:
        """How often it was started, for whatever purpose."""
        return len(self.calls.read_text().splitlines()) if self.calls.exists() else 0


PYTHON_HEADERS = Path(sysconfig.get_paths()["include"])


def start_python(script: str, *arguments: object, close_fds: bool = True) -> subprocess.Popen[str]:
    """Start a Python that runs `script`, with this module at hand, and pipes to talk to it."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", dedent(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        close_fds=close_fds,
        env=environ_with_relib(),
    )


def environ_with_relib(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment, for a Python that is to find what this one has."""
    # not the checkout's relib, where another one is installed and tested
    places = [Path(__file__).parent, Path(relib.__file__).parents[1]]
    path = [*map(str, places), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), **(environ or {})}


def said(process: subprocess.Popen[str]) -> str:
    """Wait for the process's next line."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    """Let a process go on that waits for a line."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def wait_for_end(pid: int) -> None:
    """Wait until a process that is not a child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], 60)[0], f"process {pid} does not end"
    finally:
        os.close(descriptor)
