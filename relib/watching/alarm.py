"""What wakes a thread that waits for descriptors."""

from __future__ import annotations

import os

__all__ = ["Alarm"]


class Alarm:
    """An event descriptor that is closed when nobody uses it any more.

    Closed while another thread is about to write to it, its number could be somebody's file by
    then; and a lock against that could be held for ever in a forked child.
    """

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """What becomes readable when it rings."""
        return self._fd

    def ring(self) -> None:
        """Wake whoever waits; from any thread that has a reference of its own."""
        os.eventfd_write(self._fd, 1)

    def silence(self) -> None:
        """It has been heard."""
        os.eventfd_read(self._fd)

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)
