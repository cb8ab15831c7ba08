"""Where events come from: the kernel itself, or watchdog."""

from __future__ import annotations

from typing import Protocol

from relib.watching.inotify import Inotify, Notice

__all__ = ["Source", "open_source"]


class Source(Protocol):
    """A queue of events about the entries of directories. What is said of `Inotify` is true."""

    def fileno(self) -> int:
        """What to wait for until there are events."""

    def add(self, directory: str) -> int:
        """Watch a directory's entries."""

    def remove(self, watch: int) -> None:
        """Stop watching a directory."""

    def read(self) -> list[Notice]:
        """The events that there are now, oldest first."""

    def close(self) -> None:
        """Give back what it took."""


def open_source(events: str) -> Source:
    """Listen to events.

    Args:
        events: "inotify"; "watchdog"; or "auto": inotify, or watchdog where the system has none.

    Raises:
        OSError: EMFILE: the user listens as often as a user may.
        ValueError: `events` is something else, or "inotify" where there is none.

    >>> open_source("inotify").close()
    """
    if events not in ("auto", "inotify", "watchdog"):
        raise ValueError(f"events is {events!r}, and must be one of auto, inotify, watchdog")
    if events != "watchdog":
        try:
            return Inotify()
        except AttributeError:  # the C library has no such function
            if events == "inotify":
                raise ValueError("events is 'inotify', which this system does not have") from None
    from relib.watching.observed import Observed  # here: hardly anyone needs watchdog's modules

    return Observed()
