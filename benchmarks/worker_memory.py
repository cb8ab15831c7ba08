"""Measures how large the process that translates gets, over many builds of small edits.

python -P benchmarks worker-memory [--builds N] [--only NAME] [--pause SECONDS] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from subjects import write_subjects

from relib.bench.measure import machine
from relib.bench.subject import Subject
from relib.building.builder import build_extension
from relib.building.pool import pool
from relib.config import load_config
from relib.project import find_extension

__all__ = ["main"]

_BUILDS = {"small": 1000, "large": 30}
_LOOKS = 10


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; the exit status."""
    options = _parser().parse_args(arguments)
    document: dict[str, Any] = {"machine": machine(), "subjects": {}}
    print("  ".join(f"{key} {value}" for key, value in document["machine"].items()))
    with tempfile.TemporaryDirectory(prefix="relib-benchmark-") as directory:
        place = Path(directory).resolve()
        itertoolz = options.itertoolz and options.itertoolz.absolute()
        sources = {
            "small": "small.pyx",
            "large": write_subjects(place, lines=1800, itertoolz=itertoolz),
        }
        for name in options.only or sources:
            count = options.builds or _BUILDS[name]
            print(f"\n{name}: {count} builds, each of another edit")
            print("builds  resident  most ever  processes so far", flush=True)
            document["subjects"][name] = _measure(place, sources[name], count, options.pause)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _measure(place: Path, source: str, count: int, pause: float) -> list[dict[str, int]]:
    path = place / source
    config = load_config(place, tier="instant", store=str(place / "store"))
    extension, config = find_extension(path, config=config)
    subject = Subject(place, path, extension.name, extension.kind, path.read_text())
    pool.stop()
    seen: set[int] = set()
    rows = []
    for number in range(1, count + 1):
        subject.save(number)
        # A name that no build before had: what is kept for a name is kept for each of them.
        with path.open("a") as file:
            file.write(f"cdef class Edit{number}:\n    cdef int x{number}\n")
        if build_extension(extension, config).cached:
            raise SystemExit("the edit changed nothing")
        seen.update(pool.processes())
        if number % max(1, count // _LOOKS) == 0 or number == 1:
            row = {"builds": number, "processes": len(seen), **_memory(pool.processes())}
            rows.append(row)
            sizes = [f"{row[key] / 1e6:6.1f} MB" for key in ("resident", "most")]
            print(f"{number:6}  {sizes[0]}  {sizes[1]}  {len(seen)}", flush=True)
        time.sleep(pause)  # with nothing to do, it tidies up
    return rows


def _memory(pids: Sequence[int]) -> dict[str, int]:
    """Bytes: of all together now, and the most that one of them has ever had."""
    resident, most = [], []
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        resident.append(int(status["VmRSS"].split()[0]) * 1024)
        most.append(int(status["VmHWM"].split()[0]) * 1024)
    return {"resident": sum(resident), "most": max(most)}


def _parser() -> argparse.ArgumentParser:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="benchmarks worker-memory", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--builds", type=int, metavar="N", help="by default 1000, and 30 of the large source"
    )
    parser.add_argument(
        "--only", action="append", choices=tuple(_BUILDS), help="measure this alone; repeatable"
    )
    parser.add_argument(
        "--pause",
        type=float,
        default=0.1,
        metavar="SECONDS",
        help="between two builds, by default 0.1; 0 leaves it no time to tidy up",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    parser.add_argument(
        "--itertoolz",
        type=Path,
        metavar="SDIST",
        help="cytoolz-1.0.1.tar.gz: its itertoolz.pyx in place of a large source made up here",
    )
    return parser
