"""Measures what a reload costs and what it leaves behind, next to floors measured in the same run.

    python benchmarks/run.py [--quick] [--only NAME] [--json FILE] [--itertoolz SDIST]

relib must be importable: installed, or with its directory in PYTHONPATH. CC and CFLAGS hold as for
any build. docs/benchmarks.md says what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cycles
import floors
import growth
import phases
import tables
from host import HOSTS
from subjects import SOURCES, write_subjects

__all__ = ["main"]

# Seconds that a load and an unload may take together; bytes that a cycle may leave behind.
TARGETS = {"trivial.c": 100e-6, "small.pyx": 500e-6}
GROWTH = 64.0


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    lines: int = 1800
    reloads: int = 3
    turns: int = 15
    cycles: int = 200
    hosts: tuple[tuple[str, int], ...] = tuple(HOSTS.items())
    warm_up: int = 6_000
    growth: int = 10_000


QUICK = Size(
    lines=120,
    reloads=1,
    turns=3,
    cycles=20,
    hosts=(("plain", 0), ("objects", 100_000), ("mappings", 200)),
    warm_up=50,
    growth=100,
)


def main() -> None:
    """Run what the command line asks for."""
    options = _parser().parse_args()
    size = QUICK if options.quick else Size()
    chosen = options.only or ["phases", "cycles", "growth"]
    itertoolz = options.itertoolz and options.itertoolz.absolute()
    results: dict[str, Any] = {"machine": _machine(), "quick": options.quick}
    print("  ".join(f"{key} {value}" for key, value in results["machine"].items()))
    directory = Path(tempfile.mkdtemp(prefix="relib-benchmark-"))
    try:
        large = write_subjects(directory, lines=size.lines, itertoolz=itertoolz)
        floors.build_floor(directory, SOURCES)
        if "phases" in chosen:
            _say("A reload after an edit; floors: Cython and compiler alone, dlopen + dlclose")
            sources = {"small": "small.pyx", "large": large}
            results["phases"] = phases.measure(directory, sources, size.reloads)
            print(tables.phases_table(results["phases"]))
        if "cycles" in chosen:
            _say("Load and unload without a build; floor: dlopen, PyInit, dlclose in C")
            results["cycles"] = cycles.measure(
                directory, dict(size.hosts), TARGETS, size.turns, size.cycles
            )
            print(tables.cycles_table(results["cycles"]))
            program = results["cycles"][0]["program"]
            print(f"a C program opens, calls and closes a bare library in {program * 1e6:.0f} µs")
        if "growth" in chosen:
            _say("Growth per load, use and unload")
            modules = ["trivial.c", "small.pyx", "rich.pyx"]
            results["growth"] = growth.measure(
                directory, modules, size.warm_up, size.growth, GROWTH
            )
            print(tables.growth_table(results["growth"]))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the work, to see that it runs"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=("phases", "cycles", "growth"),
        help="measure this alone; may be repeated",
    )
    parser.add_argument(
        "--itertoolz",
        type=Path,
        metavar="SDIST",
        help="cytoolz-1.0.1.tar.gz: its itertoolz.pyx in place of a large source made up here",
    )
    return parser


def _machine() -> dict[str, Any]:
    try:
        import relib
    except ModuleNotFoundError:
        raise SystemExit("relib is not installed, nor is its directory in PYTHONPATH") from None
    from relib.building.toolchain import find_toolchain
    from relib.building.translate import cython_version
    from relib.config import load_config

    return {
        "relib": relib.__version__,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "libc": "-".join(platform.libc_ver()),
        "compiler": find_toolchain("c", load_config(Path.cwd())).version,
        "cython": cython_version(),
        "cflags": os.environ.get("CFLAGS", ""),
        "load": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d"),
    }


def _say(title: str) -> None:
    print(f"\n{title}\n")


if __name__ == "__main__":
    main()
