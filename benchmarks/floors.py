"""What each phase costs at least: the same tools, without relib.

As a script, a process that has Cython imported and warm, and starts compilers.
"""

from __future__ import annotations

import ctypes
import gc
import shutil
import statistics
import subprocess
import sysconfig
import time
from pathlib import Path

from process import serve

__all__ = ["build_floor", "program_cycles", "raw_cycles"]


# --- loading -------------------------------------------------------------------------------------


def build_floor(directory: Path, sources: Path) -> None:
    """Compile the C that times dlopen, and a library for it."""
    cc = (sysconfig.get_config_var("CC") or "cc").split()
    source = str(Path(__file__).with_name("floor.c"))
    for command in (
        ["-O2", "-DPROGRAM", source, "-o", "floor", "-ldl"],
        ["-O2", "-shared", "-fPIC", source, "-o", "floor.so", "-ldl"],
        ["-O2", "-shared", "-fPIC", str(sources / "bare.c"), "-o", "bare.so"],
    ):
        subprocess.run([*cc, *command], cwd=directory, check=True)


def program_cycles(directory: Path, count: int) -> float:
    """Seconds that a C program takes to open, call and close a library: the median."""
    command = ["./floor", "./bare.so", "answer", str(count)]
    done = subprocess.run(command, cwd=directory, check=True, stdout=subprocess.PIPE, text=True)
    return statistics.median(map(float, done.stdout.split()))


def raw_cycles(library: str, count: int) -> float:
    """The same in this process, for the library of a module: its PyInit function is called.

    A module's body does not run: PyInit only hands out the definition (PEP 489).
    """
    floor = ctypes.PyDLL("./floor.so")  # with the GIL held
    symbol = f"PyInit_{Path(library).stem}"
    seconds = (ctypes.c_double * count)()
    if floor.floor_cycles(library.encode(), symbol.encode(), count, seconds) != 0:
        raise SystemExit(f"{library} cannot be opened")
    return float(statistics.median(seconds))


# --- building ------------------------------------------------------------------------------------


def translate(source: str, name: str, shared: str, directory: str) -> float:
    """Seconds that Cython takes in this process, collections of garbage left out."""
    from Cython.Compiler import Main

    options = Main.CompilationOptions(
        output_file=str(Path(directory) / "floor.c"),
        include_path=["."],
        shared_utility_qualified_name=shared,
        language_level=3,
    )
    gc.collect()
    gc.disable()
    started = time.perf_counter()
    result = Main.compile(source, options, full_module_name=name)
    elapsed = time.perf_counter() - started
    gc.enable()
    if result.num_errors:
        raise SystemExit(f"Cython does not translate {source}")
    return elapsed


def run(command: list[str]) -> float:
    """Seconds that a command takes."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def open_and_close(library: str, count: int) -> float:
    """Seconds for the library of a build: for a copy, as its own may be open."""
    copy = Path("floor-copy") / Path(library).name
    copy.parent.mkdir(exist_ok=True)
    shutil.copyfile(library, copy)
    return raw_cycles(str(copy.absolute()), count)


if __name__ == "__main__":
    serve(translate, run, open_and_close)
