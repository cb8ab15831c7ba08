"""How large this process is, in ways that a leak shows in."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
import tempfile
from pathlib import Path

__all__ = ["sizes"]


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


_libc = ctypes.CDLL(None)
_libc.mallinfo2.restype = _Mallinfo  # glibc 2.33


def sizes() -> dict[str, int]:
    """After a full collection: bytes in `rss`, `malloc` and `python`, numbers of the others."""
    gc.collect()
    heap = _libc.mallinfo2()
    return {
        "rss": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE"),
        "malloc": heap.uordblks + heap.hblkhd,
        "python": _python_bytes(),
        "blocks": sys.getallocatedblocks(),
        "mappings": Path("/proc/self/maps").read_text().count("\n"),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
    }


def _python_bytes() -> int:
    """Bytes in blocks of Python's own allocator, which it only prints (to stderr)."""
    with tempfile.TemporaryFile() as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        sys._debugmallocstats()
        os.dup2(stderr, 2)
        os.close(stderr)
        file.seek(0)
        found = re.search(rb"bytes in allocated blocks\s*=\s*([\d,]+)", file.read())
    return int(found[1].replace(b",", b"")) if found else 0
