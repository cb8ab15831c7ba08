"""A directory to compile in, and what the tests of compiling share."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import pytest

from relib.building.compile import Compiled, compile_extension
from relib.building.toolchain import Toolchain, find_toolchain
from relib.config import Config, load_config
from relib.extension import Extension

MODULE_C = """
    #include <Python.h>
    static PyObject *answer(PyObject *self, PyObject *ignored) {
        return PyLong_FromLong(ANSWER);
    }
    static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {0}};
    static PyModuleDef_Slot slots[] = {{0}};
    static PyModuleDef module = {
        PyModuleDef_HEAD_INIT, "fast", "", 0, methods, slots
    };
    PyMODINIT_FUNC PyInit_fast(void) { return PyModuleDef_Init(&module); }
"""

# Loads the library given first as the import system does, and evaluates the expression given next.
LOAD = """
import importlib.machinery, importlib.util, pathlib, sys
path, expression = sys.argv[1:]
name = pathlib.Path(path).stem
loader = importlib.machinery.ExtensionFileLoader(name, path)
module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
loader.exec_module(module)
print(eval(expression, {"fast": module}))
"""


@dataclass
class Workplace:
    """Sources below `root`, and a directory for what is made of them."""

    root: Path
    options: dict[str, object] = field(default_factory=lambda: {"cflags": "-O0 -g0"})

    @property
    def workdir(self) -> Path:
        path = self.root / "work dir"
        path.mkdir(exist_ok=True)
        return path

    @property
    def config(self) -> Config:
        return load_config(self.root, {}, **self.options)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"))
        return path

    def script(self, name: str, text: str) -> Path:
        path = self.write(name, "#!/bin/sh\n" + dedent(text))
        path.chmod(stat.S_IRWXU)
        return path

    def toolchain(self, language: str = "c") -> Toolchain:
        return find_toolchain(language, self.config)

    def compile(self, *sources: Path, language: str = "c", **fields: object) -> Compiled:
        fields.setdefault("sources", sources)
        extension = Extension("pkg.fast", language=language, **fields)  # type: ignore[arg-type]
        return compile_extension(
            extension,
            sources,
            unique_name="fast__r7_3f2a91c4",
            toolchain=self.toolchain(language),
            workdir=self.workdir,
            config=self.config,
        )

    def cython(self, name: str, text: str) -> tuple[Path, Path]:
        """Write and translate a .pyx; returns it and its C."""
        source = self.write(name, text)
        target = source.with_suffix(".c")
        subprocess.run(
            [sys.executable, "-m", "cython", "-3", "-o", target.name, source.name],
            cwd=source.parent,
            check=True,
            capture_output=True,
            text=True,
        )
        return source, target


def evaluate(library: Path, expression: str) -> str:
    """What an expression with the loaded module `fast` gives, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", LOAD, str(library), expression],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def read_elf(library: Path, *options: str) -> str:
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not there")
    done = subprocess.run(
        ["readelf", "-W", *options, str(library)], capture_output=True, text=True, check=True
    )
    return done.stdout


def forget_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CC", "CXX", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "LDSHARED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("LDCXXSHARED", raising=False)


def in_order(words: list[str], *expected: str) -> bool:
    at = iter(words)
    return all(word in at for word in expected)


def compile_words(toolchain: Toolchain, **fields: object) -> list[str]:
    extension = Extension("pkg.fast", (Path("/p/fast.c"),), **fields)  # type: ignore[arg-type]
    return toolchain.compile_command(
        Path("/p/fast.c"), Path("/w/0.o"), Path("/w/0.d"), extension, [("LAST", "1")]
    )


def link_words(toolchain: Toolchain, **fields: object) -> list[str]:
    extension = Extension("pkg.fast", (Path("/p/fast.c"),), **fields)  # type: ignore[arg-type]
    return toolchain.link_command([Path("/w/0.o")], Path("/w/l.so"), extension, Path("/w/e, f"))
