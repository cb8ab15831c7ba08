"""Measures what relib takes and what it leaves behind, next to floors measured in the same run.

    python -P benchmarks                      reloads, and save-to-answer: what `make bench` runs
    python -P benchmarks reloads              phases of a reload; load and unload; growth
    python -P benchmarks save-to-answer       from a save to the new answer, next to other ways
    python -P benchmarks builds SOURCE        builds of one-line edits of any source
    python -P benchmarks worker-memory        memory of the process that translates, build by build
    python -P benchmarks events               how soon a save is told of, by inotify and by watchdog

Each has --help. It works in any directory, by the path of this one. relib must be importable:
installed, or with its checkout in PYTHONPATH. CC and CFLAGS hold as for any build.
docs/benchmarks.md says what the figures mean.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path

NAMES = ("reloads", "save-to-answer", "builds", "worker-memory", "events")


def main(arguments: list[str]) -> int:
    """Run the benchmark that is named, or those of `make bench`; the exit status."""
    if importlib.util.find_spec("relib") is None:
        raise SystemExit("relib is not installed, nor is its checkout in PYTHONPATH")
    if arguments and arguments[0] in NAMES:
        return _run(*arguments)
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="just to see that it runs")
    parser.add_argument(
        "--itertoolz",
        type=Path,
        metavar="SDIST",
        help="cytoolz-1.0.1.tar.gz: its itertoolz.pyx in place of a large source made up here",
    )
    options = parser.parse_args(arguments)
    both = ["--itertoolz", str(options.itertoolz)] if options.itertoolz else []
    quick = (["--quick"], ["--edits", "1", "--only", "small"]) if options.quick else ([], [])
    return _run("reloads", *both, *quick[0]) or _run("save-to-answer", *both, *quick[1])


def _run(name: str, *arguments: str) -> int:
    status: int = importlib.import_module(name.replace("-", "_")).main(arguments)
    return status


sys.exit(main(sys.argv[1:]))
