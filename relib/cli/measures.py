"""What a process holds, as the kernel counts it."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Measures", "libraries_below", "measure"]


@dataclass(frozen=True, slots=True)
class Measures:
    """One moment of this process."""

    rss: int
    """Bytes of memory in use, without what was swapped out."""
    blocks: int
    """Blocks of Python's own allocator."""
    fds: int
    """Open files."""
    threads: int
    libraries: int
    """Shared objects of the project that are mapped."""


def measure(directory: Path, *, collect: bool = False) -> Measures:
    """Measure this process.

    Args:
        directory: the mapped libraries below it are counted.
        collect: run the collector before, so that garbage does not count.
    """
    if collect:
        gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Measures(
        rss=pages * os.sysconf("SC_PAGE_SIZE"),
        blocks=sys.getallocatedblocks(),
        fds=sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1,  # the one that lists them
        threads=sum(1 for _ in Path("/proc/self/task").iterdir()),
        libraries=libraries_below(directory),
    )


def libraries_below(directory: Path, maps: str | None = None) -> int:
    """How many files below `directory` are mapped, also when they have been deleted since.

    Args:
        directory: an absolute path without links.
        maps: the text of /proc/self/maps; it is read by default.

    >>> libraries_below(Path("/a"), '''\\
    ... 7f0-7f1 r-xp 00000000 fd:01 77   /a/one.so
    ... 7f1-7f2 r--p 00001000 fd:01 77   /a/one.so
    ... 7f3-7f4 r-xp 00000000 fd:01 78   /a/two.so (deleted)
    ... 7f5-7f6 r-xp 00000000 fd:01 79   /ab/three.so''')
    2
    """
    if maps is None:
        maps = Path("/proc/self/maps").read_text(errors="surrogateescape")
    prefix = f"{directory}/"
    files = set()
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith(prefix):
            files.add((fields[3], fields[4]))  # device and inode
    return len(files)
