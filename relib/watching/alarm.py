"""A descriptor that is waited for, and that any thread can make readable."""

from __future__ import annotations

import contextlib
import os

__all__ = ["Alarm"]


class Alarm:
    """Rings until it is cleared, however often it was rung.

    Its descriptors are closed when nobody uses it any more. Closed while another thread is about to
    write to it, its number could be somebody's file by then; and a lock could be held for ever in a
    forked child.

    >>> alarm = Alarm()
    >>> alarm.ring()
    >>> alarm.clear()
    """

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self._ends: tuple[int, ...] = (os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC),)
        else:
            self._ends = os.pipe()
            for end in self._ends:
                os.set_blocking(end, False)

    def fileno(self) -> int:
        """What to wait for until it rings."""
        return self._ends[0]

    def ring(self) -> None:
        """Let the descriptor be readable."""
        with contextlib.suppress(BlockingIOError):  # a pipe that is full rings
            if len(self._ends) == 1:
                os.eventfd_write(self._ends[0], 1)
            else:
                os.write(self._ends[1], b"\1")

    def clear(self) -> None:
        """Let it be readable no longer."""
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._ends[0], 1 << 12)) == 1 << 12:
                pass

    def __del__(self) -> None:
        for end in self._ends:
            os.close(end)
