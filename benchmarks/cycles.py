"""Load and unload without a build, in hosts of several kinds, next to dlopen and dlclose alone."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from floors import TIMEOUT, program_cycles, raw_cycles
from host import furnish

from relib.bench.conversation import Child, serve

__all__ = ["main", "measure"]


def measure(
    directory: Path, hosts: dict[str, int], targets: dict[str, float], rounds: int, count: int
) -> list[dict[str, Any]]:
    """One row for each module and host, medians in seconds.

    The hosts run side by side and take turns of `count` cycles: a ratio is that of two turns that
    followed each other, and its median over all rounds says more on a busy machine than the ratio
    of two medians.

    Args:
        directory: the project.
        hosts: the kinds of host, with their sizes; "plain" is one of them.
        targets: the sources, with the seconds that a cycle may take.
        rounds: how many turns each has.
        count: how many cycles a turn has.
    """
    turns: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
    programs: dict[str, list[float]] = defaultdict(list)
    processes = {host: Child("cycles", directory, timeout=TIMEOUT) for host in hosts}
    for host, process in processes.items():
        process.ask("begin", sources=list(targets), host=host, amount=hosts[host])
    for _ in range(rounds):
        for how, seconds in program_cycles(directory, count).items():
            programs[how].append(seconds)
        for source in targets:
            for host, process in processes.items():
                turns[source, host].append(process.ask("turn", source=source, count=count))
    for process in processes.values():
        with process:
            pass
    floors = {how: statistics.median(seconds) for how, seconds in programs.items()}
    return [
        _row(source, host, turns[source, host], turns[source, "plain"], targets[source], floors)
        for source in targets
        for host in hosts
    ]


def _row(
    source: str,
    host: str,
    turns: list[dict[str, float]],
    plain: list[dict[str, float]],
    target: float,
    programs: dict[str, float],
) -> dict[str, Any]:
    row: dict[str, Any] = {"module": source, "host": host}
    for key in ("load", "unload", "total", "slow", "floor"):
        row[key] = statistics.median(turn[key] for turn in turns)
    row["ratio"] = row["total"] / row["floor"]
    row["programs"] = programs
    pairs = zip(turns, plain, strict=True)
    row["to_plain"] = statistics.median(turn["total"] / other["total"] for turn, other in pairs)
    row["target"] = target if host == "plain" else 1.2
    row["met"] = (row["total"] if host == "plain" else row["to_plain"]) < row["target"]
    return row


# --- the process that loads and unloads ----------------------------------------------------------

builds: dict[str, Any] = {}


def begin(sources: list[str], host: str, amount: int) -> None:
    """Fill the host, build the modules, and let everything happen that happens once."""
    import relib

    furnish(host, amount)
    for source in sources:
        builds[source] = relib.build(source)
        turn(source, 20)


def turn(source: str, count: int) -> dict[str, float]:
    """Medians of so many cycles; "slow" is what one in ten takes at least."""
    import relib

    build, clock = builds[source], time.perf_counter
    loads, unloads, totals = [], [], []
    for _ in range(count):
        started = clock()
        module = relib.load(build)
        loaded = clock()
        report = module.unload()
        ended = clock()
        report.require_unloaded()
        loads.append(loaded - started)
        unloads.append(ended - loaded)
        totals.append(ended - started)
    return {
        "load": statistics.median(loads),
        "unload": statistics.median(unloads),
        "total": statistics.median(totals),
        "slow": sorted(totals)[count * 9 // 10],
        "floor": raw_cycles(str(build.library), count),
    }


def main() -> None:
    """Serve."""
    serve(begin, turn)
