"""The results as a table for people."""

from __future__ import annotations

from collections.abc import Sequence

from relib.bench.measure import Result, Row
from relib.bench.ways import PHASES, PHASES_AFTER

__all__ = ["phases_table", "shown", "table"]


def table(result: Result) -> str:
    """Each way: the median, the range, and how much more than the floor it is."""
    floor = next((row.seconds for row in result.rows if row.name == "floor"), None)
    lines = [["", "save to answer", "from", "to", "edits", "to floor"]]
    notes = []
    for row in result.rows:
        if row.seconds is None:
            notes.append(f"{row.name}: not measured: {row.reason}")
            continue
        times = [sample.seconds for sample in row.samples]
        ratio = f"{row.seconds / floor:.2f}x" if floor else ""
        figures = [shown(each) for each in (row.seconds, min(times), max(times))]
        lines.append([row.name, *figures, str(len(times)), ratio])
    return "\n".join([_aligned(lines), *notes])


def phases_table(result: Result) -> str:
    """Where the time goes, phase by phase; "after" is what follows the answer."""
    rows = [row for row in result.rows if row.name.startswith("relib") or row.name == "floor"]
    lines = [["", *(row.name for row in rows)]]
    for phase in (*PHASES, *PHASES_AFTER):
        if any(phase in row.phases for row in rows):
            name = f"{phase} (after)" if phase in PHASES_AFTER else phase
            lines.append([name, *(_phase(row, phase) for row in rows)])
    return _aligned(lines)


def _phase(row: Row, phase: str) -> str:
    return shown(row.phases[phase]) if phase in row.phases else ""


def shown(seconds: float) -> str:
    """A time, with three digits or more.

    >>> shown(0.0612), shown(1.234)
    ('61.2 ms', '1.23 s')
    """
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in ruled
    )
