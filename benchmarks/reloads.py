"""Measures what a reload costs and what it leaves behind, next to floors measured in the same run.

python -P benchmarks reloads [--quick] [--only NAME] [--json FILE] [--itertoolz SDIST]
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
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

from relib.bench.measure import machine

__all__ = ["main"]

# Seconds that a load and an unload may take together; bytes that a cycle may leave behind.
TARGETS = {"trivial.c": 100e-6, "small.pyx": 500e-6}
GROWTH = 64.0


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    lines: int = 1800
    reloads: int = 5
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


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; the exit status."""
    options = _parser().parse_args(arguments)
    size = QUICK if options.quick else Size()
    chosen = options.only or ["phases", "cycles", "growth"]
    itertoolz = options.itertoolz and options.itertoolz.absolute()
    results: dict[str, Any] = {"machine": machine(), "quick": options.quick}
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
            print(tables.programs_line(results["cycles"][0]["programs"]))
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
    return 0


def _parser() -> argparse.ArgumentParser:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="benchmarks reloads", description=__doc__.splitlines()[0])
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


def _say(title: str) -> None:
    print(f"\n{title}\n")
