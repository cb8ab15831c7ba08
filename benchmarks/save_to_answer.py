"""Measures the time from a save to the new answer, by tier and size, next to other ways.

    python benchmarks/save_to_answer.py [--edits N] [--only NAME] [--against WAY]
        [--json FILE] [--plot FILE]

relib must be importable: installed, or with its directory in PYTHONPATH. %%cython is measured where
IPython is installed. docs/benchmarks.md says what the figures mean; `relib bench` measures an
extension of your own in the same way.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from plain_c import c_source
from subjects import write_subjects

__all__ = ["main"]

# Seconds that the answer may take, in the instant tier and when an earlier content comes back.
TARGETS = {"small": 0.075, "large": 0.8, "grid": 0.6, "plain": 0.050}
BACK = 0.020
AGAINST = ("setuptools", "magic", "pyximport")


def main() -> None:
    """Run what the command line asks for."""
    options = _options()
    from relib.bench.measure import machine, measure
    from relib.bench.plot import plot
    from relib.bench.table import phases_table, table
    from relib.project import find_extension

    document: dict[str, Any] = {"machine": machine(), "subjects": []}
    print("  ".join(f"{key} {value}" for key, value in document["machine"].items()))
    results = []
    directory = Path(tempfile.mkdtemp(prefix="relib-benchmark-")).resolve()
    try:
        sources = _write(directory, options.itertoolz and options.itertoolz.absolute())
        for name in options.only or sources:
            if name == "grid" and importlib.util.find_spec("numpy") is None:
                print("\ngrid: not measured: numpy is not installed")
                continue
            extension, config = find_extension(directory / sources[name])
            result = measure(
                extension, config, edits=options.edits, against=options.against or AGAINST
            )
            results.append(result)
            found = {**result.as_dict(), "targets": _targets(name, result)}
            document["subjects"].append(found)
            print(f"\n{result}\n\n{table(result)}\n")
            print(phases_table(result) + "\n", flush=True)
            for target in found["targets"]:
                print(
                    "{row}: {seconds:.3f} s, target {target:.3f} s: {met}".format(**target),
                    flush=True,
                )
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.plot:
        options.plot.write_text(plot(results))


def _write(directory: Path, itertoolz: Path | None) -> dict[str, str]:
    """Write the sources; their paths by what to call them."""
    large = write_subjects(directory, lines=1800, itertoolz=itertoolz)
    (directory / "plain.c").write_text(c_source("plain", 300))
    return {"small": "small.pyx", "large": large, "grid": "grid.pyx", "plain": "plain.c"}


def _targets(name: str, result: Any) -> list[dict[str, Any]]:
    seconds = {row.name: row.seconds for row in result.rows}
    targets = {"relib, instant": TARGETS[name], "relib, back to earlier": BACK}
    if name == "small" and seconds["floor"]:
        targets["relib, instant"] = min(TARGETS[name], 1.25 * seconds["floor"])
    return [
        {"row": row, "seconds": seconds[row], "target": target, "met": seconds[row] <= target}
        for row, target in targets.items()
    ]


def _options() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edits", type=int, default=10, metavar="N", help="by default 10")
    parser.add_argument(
        "--only", action="append", choices=tuple(TARGETS), help="measure this alone; repeatable"
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
    return parser.parse_args()


if __name__ == "__main__":
    main()
