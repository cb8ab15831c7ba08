"""Sizes, counts and paths as people read them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["count", "shown_path", "size"]


def size(number: float) -> str:
    """A size in bytes, in words.

    >>> size(0), size(120_000), size(1.5e9)
    ('0 bytes', '120 kB', '1.5 GB')
    """
    if abs(number) < 1000:
        return f"{number:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        number /= 1000
        if abs(number) < 999.5 or unit == "GB":
            break
    return f"{number:.1f} {unit}" if abs(number) < 10 else f"{number:.0f} {unit}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number of things.

    >>> count(1, "build"), count(1300, "build"), count(2, "library", "libraries")
    ('1 build', '1,300 builds', '2 libraries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def shown_path(path: Path) -> Path:
    """`path` relative to the current directory when it is below it."""
    try:
        return path.relative_to(Path.cwd())
    except (ValueError, OSError):  # the directory may be gone
        return Path(os.fspath(path))
