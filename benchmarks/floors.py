"""What each phase costs at least: the same tools, without relib.

Its `main` is for a process that has Cython imported and warm, and starts compilers.
"""

from __future__ import annotations

import ctypes
import shutil
import statistics
import subprocess
import sysconfig
from pathlib import Path

from relib.bench.conversation import serve
from relib.bench.floor import run, translate
from relib.building.toolchain import FEW_MAPPINGS

__all__ = ["TIMEOUT", "build_floor", "main", "program_cycles", "raw_cycles"]

TIMEOUT = 3600.0
"""Seconds after which a process that measures is taken for dead. One answer may be thousands of
cycles, or the compiler's time for a large source."""

_LINKED: dict[str, tuple[str, ...]] = {
    "linked as the compiler does": (),
    "linked as relib does": FEW_MAPPINGS,
}


# --- loading -------------------------------------------------------------------------------------


def build_floor(directory: Path, sources: Path) -> None:
    """Compile the C that times dlopen, and libraries for it."""
    cc = (sysconfig.get_config_var("CC") or "cc").split()
    source = str(Path(__file__).with_name("floor.c"))
    for command in (
        ["-O2", "-DPROGRAM", source, "-o", "floor", "-ldl"],
        ["-O2", "-shared", "-fPIC", source, "-o", "floor.so", "-ldl"],
        *(
            ["-O2", "-shared", "-fPIC", str(sources / "bare.c"), "-o", f"bare{number}.so", *flags]
            for number, flags in enumerate(_LINKED.values())
        ),
    ):
        subprocess.run([*cc, *command], cwd=directory, check=True)


def program_cycles(directory: Path, count: int) -> dict[str, float]:
    """Median seconds that a C program takes to open, call and close a library, by its linking."""
    medians = {}
    for number, how in enumerate(_LINKED):
        command = ["./floor", f"./bare{number}.so", "answer", str(count)]
        done = subprocess.run(command, cwd=directory, check=True, stdout=subprocess.PIPE, text=True)
        medians[how] = statistics.median(map(float, done.stdout.split()))
    return medians


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


def open_and_close(library: str, count: int) -> float:
    """Seconds for the library of a build: for a copy, as its own may be open."""
    copy = Path("floor-copy") / Path(library).name
    copy.parent.mkdir(exist_ok=True)
    shutil.copyfile(library, copy)
    return raw_cycles(str(copy.absolute()), count)


def main() -> None:
    """Serve."""
    serve(translate, run, open_and_close)
