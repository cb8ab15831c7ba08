"""Measures the time from a save to the new answer, by tier and size, next to other ways.

    python -P benchmarks save-to-answer [--edits N] [--only NAME] [--against WAY]
        [--json FILE] [--plot FILE] [--itertoolz SDIST]

A subject or a way that needs what is not installed is left out, and that is said: numpy, IPython
(for %%cython), tcc (without which the instant tier takes what compiler there is). `relib bench`
measures an extension of your own in the same way.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plain_c import c_source
from subjects import write_subjects

from relib.bench.measure import Result, machine, measure
from relib.bench.plot import plot
from relib.bench.table import phases_table, shown, table
from relib.errors import RelibError
from relib.project import find_extension

__all__ = ["main"]

NAMES = ("small", "large", "grid", "plain")

# Seconds that the answer may take, in the instant tier and when an earlier content comes back. That
# of the large one is for itertoolz, and not for what is made up in its place.
TARGETS = {"small": 0.075, "itertoolz": 0.8, "grid": 0.6, "plain": 0.050}
BACK = 0.020
AGAINST = ("setuptools", "magic", "pyximport")


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; the exit status."""
    options = _options(arguments)
    document: dict[str, Any] = {"machine": machine(), "subjects": []}
    print("  ".join(f"{key} {value}" for key, value in document["machine"].items()))
    results: list[Result] = []
    failed = False
    directory = Path(tempfile.mkdtemp(prefix="relib-benchmark-")).resolve()
    try:
        sources = _write(directory, options.itertoolz and options.itertoolz.absolute())
        for name in options.only or sources:
            if name == "grid" and importlib.util.find_spec("numpy") is None:
                print("\ngrid: not measured: numpy is not installed")
                continue
            try:
                extension, config = find_extension(directory / sources[name])
                result = measure(
                    extension, config, edits=options.edits, against=options.against or AGAINST
                )
            except RelibError as error:
                failed = True
                document["subjects"].append({"name": name, "reason": str(error)})
                print(f"\n{name}: not measured: {error}", flush=True)
                continue
            results.append(result)
            found = {**result.as_dict(), "targets": _targets(extension.stem, result)}
            document["subjects"].append(found)
            print(f"\n{result}\n\n{table(result)}\n")
            print(phases_table(result) + "\n", flush=True)
            for target in found["targets"]:
                met = "yes" if target["met"] else "NO"
                figures = f"{shown(target['seconds'])}, target {shown(target['target'])}"
                print(f"{target['row']}: {figures}: {met}", flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.plot and results:
        options.plot.write_text(plot(results))
    return int(failed)


def _write(directory: Path, itertoolz: Path | None) -> dict[str, str]:
    """Write the sources; their paths by what to call them."""
    large = write_subjects(directory, lines=1800, itertoolz=itertoolz)
    (directory / "plain.c").write_text(c_source("plain", 300))
    return {"small": "small.pyx", "large": large, "grid": "grid.pyx", "plain": "plain.c"}


def _targets(name: str, result: Result) -> list[dict[str, Any]]:
    seconds = {row.name: row.seconds for row in result.rows}
    targets = {"relib, instant": TARGETS[name]} if name in TARGETS else {}
    if name == "small" and (floor := seconds["floor"]):
        targets["relib, instant"] = min(TARGETS[name], 1.25 * floor)
    targets["relib, back to earlier"] = BACK
    return [
        {"row": row, "seconds": taken, "target": target, "met": taken <= target}
        for row, target in targets.items()
        if (taken := seconds[row]) is not None
    ]


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="benchmarks save-to-answer", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--edits", type=int, default=10, metavar="N", help="by default 10")
    parser.add_argument(
        "--only", action="append", choices=NAMES, help="measure this alone; repeatable"
    )
    parser.add_argument(
        "--against", action="append", choices=AGAINST, help="compare with this alone; repeatable"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a bar chart (SVG)")
    parser.add_argument(
        "--itertoolz",
        type=Path,
        metavar="SDIST",
        help="cytoolz-1.0.1.tar.gz: its itertoolz.pyx in place of a large source made up here",
    )
    return parser.parse_args(arguments)
