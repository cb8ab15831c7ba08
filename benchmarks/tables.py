"""The results as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["cycles_table", "growth_table", "phases_table", "programs_line"]


def phases_table(rows: Sequence[dict[str, Any]]) -> str:
    """A reload after an edit."""
    lines = [["module", "phase", "relib", "floor", "ratio"]]
    for row in rows:
        times = map(_duration, (row["seconds"], row["floor"]))
        lines.append([row["module"], row["phase"], *times, _ratio(row["ratio"])])
    return _table(lines)


def cycles_table(rows: Sequence[dict[str, Any]]) -> str:
    """Load and unload."""
    lines = [["module", "host", "load", "unload", "both", "p90", "floor", "ratio", "to plain"]]
    lines[0] += _TARGET
    for row in rows:
        times = (_duration(row[key]) for key in ("load", "unload", "total", "slow", "floor"))
        ratios = (_ratio(row[key]) for key in ("ratio", "to_plain"))
        lines.append([row["module"], row["host"], *times, *ratios, _cycle_target(row), _met(row)])
    return _table(lines)


def programs_line(programs: Mapping[str, float]) -> str:
    """What a C program needs for a library that has one function, by how that is linked."""
    times = ", ".join(f"{_duration(seconds)} ({how})" for how, seconds in programs.items())
    return f"a C program opens, calls and closes a bare library in {times}"


def growth_table(rows: Sequence[dict[str, Any]]) -> str:
    """What a cycle leaves behind."""
    lines = [["module", "cycles", "RSS B", "malloc B", "Python B"]]
    lines[0] += ["blocks", "maps", "fds", *_TARGET]
    for row in rows:
        sizes = (f"{row[key]:.1f}" for key in ("rss", "malloc", "python"))
        counts = (f"{row[key]:.3f}" for key in ("blocks", "mappings", "descriptors"))
        target = f"< {row['target']:g} B"
        lines.append([row["module"], str(row["cycles"]), *sizes, *counts, target, _met(row)])
    return _table(lines)


_TARGET = ("target", "met")


def _cycle_target(row: dict[str, Any]) -> str:
    if row["host"] == "plain":
        return f"< {_duration(row['target'])}"
    return f"< {_ratio(row['target'])}"


def _met(row: dict[str, Any]) -> str:
    return "yes" if row["met"] else "NO"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}x"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    if seconds >= 1e-3:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds * 1e6:.0f} µs"


def _table(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in ruled)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    # words to the left, figures to the right
    cells = zip(line, widths, strict=True)
    return [c.ljust(width) if i < 2 else c.rjust(width) for i, (c, width) in enumerate(cells)]
