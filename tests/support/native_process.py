"""For scenarios that ask relib._native about a library: loading it, and waiting for threads."""

from __future__ import annotations

import ctypes
import platform
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from observe import until

from relib import _native

__all__ = [
    "BLOCKING",
    "Loaded",
    "begin",
    "others",
    "wait_until_blocked",
    "wait_until_found",
    "wait_until_running",
    "waiting_in",
]

_X86 = platform.machine() == "x86_64"
BLOCKING = {
    "read": 0 if _X86 else 63,
    "poll": 7 if _X86 else 73,
    "nanosleep": 35 if _X86 else 101,
    "clock_nanosleep": 230 if _X86 else 115,
    "futex": 202 if _X86 else 98,
    "sched_setaffinity": 203 if _X86 else 122,
}
"""The kernel's numbers of the system calls that threads of scenarios wait in."""


class Loaded(ctypes.CDLL):
    """A shared library, and the addresses of it: `range`, and `segments` with their ELF flags."""

    def __init__(self, path: str, mode: int = ctypes.DEFAULT_MODE) -> None:
        super().__init__(path, mode)
        lines = Path("/proc/self/maps").read_text().splitlines()
        self.lo = min(int(line.split("-")[0], 16) for line in lines if line.endswith(path))
        program = Path(path).read_bytes()
        [self.headers] = struct.unpack_from("=Q", program, 32)
        size, count = struct.unpack_from("=HH", program, 54)
        self.headers_end = self.headers + size * count
        self.segments = []
        for header in range(self.headers, self.headers_end, size):
            kind, flags, _, start, _, _, length = struct.unpack_from("=II5Q", program, header)
            if kind == 1:
                self.segments.append((self.lo + start, self.lo + start + length, flags))
        self.hi = self.segments[-1][1]
        self.range = (self.lo, self.hi)


def others() -> list[int]:
    """The threads of the process but this one."""
    tids = {int(path.name) for path in Path("/proc/self/task").iterdir()}
    return sorted(tids - {threading.get_native_id()})


def waiting_in(tid: int) -> int | None:
    """The system call that a thread waits in; None while it runs."""
    try:
        text = Path(f"/proc/self/task/{tid}/syscall").read_text()
    except OSError:
        return None
    return None if text.startswith("running") else int(text.split()[0])


def wait_until_blocked(tid: int, *calls: str) -> None:
    numbers = [BLOCKING[call] for call in calls]
    until(lambda: waiting_in(tid) in numbers)


def wait_until_running(tid: int) -> None:
    until(lambda: waiting_in(tid) is None)


def wait_until_found(library: Loaded, expected: list[tuple[int, str]]) -> None:
    """Wait until these are the threads inside a library.

    Until the threads have come to rest some may be unknown. But none of these may ever be missing,
    and no other may ever be taken for one.
    """
    wanted = dict(expected)

    def at_rest() -> bool:
        found = dict(_native.threads_inside(*library.range))
        assert found.keys() >= wanted.keys(), (found, wanted)
        assert {how for tid, how in found.items() if tid not in wanted} <= {"unknown"}, found
        return found == wanted

    until(at_rest)


def begin(function: Callable[..., object], *arguments: object) -> threading.Thread:
    """Start a thread of Python's that calls a function; it has its native_id already."""
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread
