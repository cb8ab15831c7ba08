"""The project that `relib demo` edits: one Cython file, and what it must answer."""

from __future__ import annotations

from pathlib import Path

__all__ = ["KNOWN", "PROBE", "DemoProject"]

PROBE = b"relib"
"""What the checksum is taken of."""

KNOWN = (16777619, 31, 65599, 33, 1000003)
"""The multipliers that edits go back to again and again; their builds come from the store."""

_SOURCE = '''\
# cython: language_level=3
"""A checksum and what uses it: plain and typed functions, a class, a generator, a closure."""

cpdef unsigned int checksum(bytes data):
    cdef unsigned int total = 2166136261
    cdef unsigned char byte
    for byte in data:
        {line}
    return total


cdef class Meter:
    """Adds up the checksums of what it is fed."""

    cdef readonly unsigned long long reading

    def feed(self, bytes data):
        self.reading += checksum(data)
        return self.reading


def words(str text):
    for word in text.split():
        yield checksum(word.encode())


def largest(str text):
    cdef bytes salt = b"!"
    return max(text.split(), key=lambda word: checksum(salt + word.encode()))
'''

_LINE = "total = (total ^ byte) * {multiplier}"
_BROKEN = "total = total ^ byte) * {multiplier}"


class DemoProject:
    """A directory with checksum.pyx in it.

    Args:
        root: the directory; it exists.
    """

    def __init__(self, root: Path) -> None:
        """Write the file as it is at first."""
        self.root = root
        self.source = root / "checksum.pyx"
        self.multiplier = KNOWN[0]
        self.edit(KNOWN[0])

    @property
    def line(self) -> str:
        """The line that edits change, as it is now."""
        return _LINE.format(multiplier=self.multiplier)

    @property
    def line_number(self) -> int:
        """Where that line is, counted from 1."""
        return _SOURCE[: _SOURCE.index("{line}")].count("\n") + 1

    @property
    def answer(self) -> int:
        """What checksum(PROBE) must return."""
        return self.checksum(PROBE)

    def checksum(self, data: bytes) -> int:
        """What checksum(data) must return, computed here in Python."""
        total = 2166136261
        for byte in data:
            total = (total ^ byte) * self.multiplier & 0xFFFFFFFF
        return total

    def edit(self, multiplier: int) -> tuple[str, str]:
        """Change the multiplier in the file; returns the line before and after."""
        before = self.line
        self.multiplier = multiplier
        self.source.write_text(_SOURCE.format(line=self.line))
        return before, self.line

    def spoil(self) -> tuple[str, str]:
        """Put a syntax error into the line; returns it before and after."""
        broken = _BROKEN.format(multiplier=self.multiplier)
        self.source.write_text(_SOURCE.format(line=broken))
        return self.line, broken
