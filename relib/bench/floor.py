"""The least that a save must cost: Cython, a compiler and the import system, all warm, no more."""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import importlib.util
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from relib.bench.conversation import serve

__all__ = ["main"]

_kept: list[object] = []


def translate(
    source: str,
    name: str,
    c_file: str,
    cplus: bool,
    include_path: list[str],
    directives: dict[str, Any],
    shared: str,
) -> float:
    """Seconds that Cython takes in this process, collections of garbage left out."""
    compiler = importlib.import_module("Cython.Compiler.Main")

    options = compiler.CompilationOptions(
        output_file=c_file,
        cplus=cplus,
        include_path=include_path,
        compiler_directives=directives,
        shared_utility_qualified_name=shared,
        language_level=3,
    )
    gc.collect()
    gc.disable()
    started = time.perf_counter()
    result = compiler.compile(source, options, full_module_name=name)
    elapsed = time.perf_counter() - started
    gc.enable()
    if result.num_errors:
        raise RuntimeError(f"Cython does not translate {source}")
    return elapsed


def run(commands: list[list[str]], directory: str) -> float:
    """Seconds that the commands take."""
    with tempfile.TemporaryFile() as said:  # a pipe would wake this process for each warning
        started = time.perf_counter()
        for command in commands:
            done = subprocess.run(
                command, cwd=directory, stdout=said, stderr=subprocess.STDOUT, check=False
            )
            if done.returncode:
                said.seek(0)
                raise RuntimeError(said.read().decode(errors="replace"))
        return time.perf_counter() - started


def load(name: str, library: str) -> float:
    """Seconds to open a library that has never been opened, and to execute the module."""
    started = time.perf_counter()
    loader = importlib.machinery.ExtensionFileLoader(name, library)
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    elapsed = time.perf_counter() - started
    _kept.append(module)
    Path(library).unlink()
    return elapsed


def main() -> None:
    """Serve."""
    serve(translate, run, load)
