"""What a scenario looks at besides the results of calls: what the kernel sees of the process."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
import time
from pathlib import Path

import relib

__all__ = [
    "collected",
    "descriptors",
    "heap",
    "mapped",
    "rss",
    "say",
    "threads",
    "until",
]


class _MallInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")
    ]
    _fields_ += [(name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "used", "free", "keep")]


_mallinfo2 = ctypes.CDLL(None).mallinfo2
_mallinfo2.restype = _MallInfo


def say(value: object) -> None:
    """The scenario's result, as its last line."""
    print(json.dumps(value), flush=True)


def mapped(name: str) -> int:
    """How many libraries of the extension called `name` are mapped."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    stem = name.rpartition(".")[2]
    return len({line.split(None, 5)[5] for line in lines if f"/{stem}__r" in line})


def rss() -> int:
    """Resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def heap() -> int:
    """Bytes that malloc has given out, and Python's own blocks."""
    return _mallinfo2().used + _mallinfo2().hblkhd + 16 * sys.getallocatedblocks()


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def threads() -> int:
    return sum(1 for _ in Path("/proc/self/task").iterdir())


def until(condition, seconds: float = 20.0) -> None:
    """Wait for what another thread brings about; a scenario that waits in vain fails."""
    end = time.monotonic() + seconds
    tick = threading.Event()
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(
                f"not so within {seconds} s; retired: {[(v, v.pins) for v in relib.retired()]}"
            )
        tick.wait(0.005)


def collected() -> None:
    for _ in range(3):
        gc.collect()
