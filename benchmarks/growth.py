"""What a process keeps of each load, use and unload: it should be nothing."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from floors import TIMEOUT
from sizes import sizes

from relib.bench.conversation import Child, serve

__all__ = ["MEASURES", "main", "measure"]

_NONE = 0.001
"""So few of them for each cycle that it cannot be the cycle: the heap itself is mapped, too."""

MEASURES = ("rss", "malloc", "python", "blocks", "mappings", "descriptors")


def measure(
    directory: Path, sources: list[str], warm_up: int, cycles: int, target: float
) -> list[dict[str, Any]]:
    """One row for each module: growth per cycle.

    Args:
        directory: the project.
        sources: the modules, each of which gets a process of its own.
        warm_up: cycles before the first look. Thousands: Python makes its table of interned
            strings anew after so many names that came and went, and the heap finds its size then.
        cycles: cycles between the first and the last look.
        target: the bytes that a cycle may leave behind in resident memory and in the heap. Of
            mappings and open files it may leave nothing behind.
    """
    rows = []
    for source in sources:
        with Child("growth", directory, timeout=TIMEOUT) as process:
            process.ask("begin", source=source)
            first = process.ask("cycle", count=warm_up)
            last = process.ask("cycle", count=cycles)
        row: dict[str, Any] = {"module": source, "cycles": cycles}
        row.update((key, (last[key] - first[key]) / cycles) for key in MEASURES)
        row["target"] = target
        row["met"] = (
            max(row["rss"], row["malloc"] + row["python"]) < target
            and max(row["mappings"], row["descriptors"]) < _NONE
        )
        rows.append(row)
    return rows


# --- the process that grows, or does not ---------------------------------------------------------


def _use_trivial(module: ModuleType) -> None:
    module.answer()


def _use_small(module: ModuleType) -> None:
    counter = module.Counter(3)
    counter.bump(2)
    list(counter)
    module.fib(20)
    waiting = module.later(1)
    with suppress(StopIteration):
        waiting.send(None)


_cells = memoryview(array("d", range(12))).cast("B").cast("d", (3, 4))


def _use_rich(module: ModuleType) -> None:
    module.use(_cells)
    with suppress(module.Refused):
        module.refuse(2)


_uses: dict[str, Callable[[ModuleType], None]] = {
    "trivial": _use_trivial,
    "small": _use_small,
    "rich": _use_rich,
}
build: Any = None


def begin(source: str) -> None:
    """Build the module, and let everything happen that happens once."""
    global build
    import relib

    build = relib.build(source)
    cycle(20)


def cycle(count: int) -> dict[str, int]:
    """Load, use and unload so many times, and say how large the process is then."""
    import relib

    use = _uses[build.name]
    for _ in range(count):
        module = relib.load(build)
        use(module.module)
        module.unload().require_unloaded()
    return sizes()


def main() -> None:
    """Serve."""
    serve(begin, cycle)
