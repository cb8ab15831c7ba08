"""Measures how soon a save is told of, and by how many threads, for each source of events.

python -P benchmarks events [--saves N] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from relib.bench.measure import machine
from relib.watching import Watcher

__all__ = ["main"]

_DIRECTORIES = 20
_PAUSE = 0.7
"""Seconds between two saves: longer than watchdog holds events back."""


def _in_place(path: Path) -> None:
    path.write_text("new")


def _by_rename(path: Path) -> None:
    temporary = path.with_name("temporary")
    temporary.write_text("new")
    temporary.replace(path)


def _moved_away_and_written_anew(path: Path) -> None:
    path.rename(path.parent.parent / "backup")
    path.write_text("new")


_SAVES = (_in_place, _by_rename, _moved_away_and_written_anew)


def main(arguments: Sequence[str]) -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks events", description=__doc__.splitlines()[0])
    parser.add_argument("--saves", type=int, default=20, metavar="N", help="of each kind; 20")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here, too")
    options = parser.parse_args(arguments)
    document: dict[str, Any] = {"machine": machine(), "sources": {}}
    print("  ".join(f"{key} {value}" for key, value in document["machine"].items()))
    print("\nmilliseconds from a save until it is told of: median (longest)")
    for events in ("inotify", "watchdog"):
        found = document["sources"][events] = _measured(events, options.saves)
        print(f"{events}: {found['threads']} threads for {_DIRECTORIES} directories", flush=True)
        for name, times in found["seconds"].items():
            print(f"  {name:30}{statistics.median(times) * 1e3:7.1f} ({max(times) * 1e3:.1f})")
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _measured(events: str, saves: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="relib-benchmark-") as directory:
        paths = [Path(directory, f"d{n}", "fast.pyx").resolve() for n in range(_DIRECTORIES)]
        for path in paths:
            path.parent.mkdir()
            path.write_text("old")
        before = threading.active_count()
        with Watcher(polling=False, events=events) as watcher:
            watcher.watch(paths)
            threads = threading.active_count() - before
            seconds = {
                save.__name__.strip("_").replace("_", " "): [
                    _seconds(watcher, save, paths[n % len(paths)]) for n in range(saves)
                ]
                for save in _SAVES
            }
    return {"threads": threads, "seconds": seconds}


def _seconds(watcher: Watcher, save: Callable[[Path], None], path: Path) -> float:
    """From a save, in another thread, until the watcher tells of it."""
    begun = 0.0

    def run() -> None:
        nonlocal begun
        time.sleep(0.05)  # until it is waited for
        begun = time.perf_counter()
        save(path)

    while watcher.batch(_PAUSE):  # what is still to come of the save before
        pass
    saving = threading.Thread(target=run)
    saving.start()
    watcher.batch()
    told = time.perf_counter()
    saving.join()
    return told - begun
