"""What a session tells the program."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relib.building.diagnostics import Diagnostic
    from relib.live.report import Report

__all__ = ["KINDS", "Event", "EventStream", "Log", "check_kinds"]

KINDS = ("about_to_reload", "reloaded", "build_failed", "retired", "unloaded")
"""Every kind of event, in the order in which they come."""

_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a session.

    >>> event = Event("unloaded", ("fast",), version=6)
    >>> print(event)
    fast v6 unloaded
    >>> event.name, event.as_dict()["version"]
    ('fast', 6)
    """

    kind: str
    """``"about_to_reload"``, ``"reloaded"``, ``"build_failed"``, ``"retired"`` or
    ``"unloaded"``."""
    modules: tuple[str, ...]
    """The public names of the modules that it is about; when modules are reloaded in one step, or
    cannot be, all of them."""
    report: Report | None = None
    """Of "reloaded" and "retired": what was done."""
    error: Exception | None = None
    """Of "build_failed": why the sources could not be built, or the result not be loaded. What ran
    goes on running."""
    version: int | None = None
    """Of "reloaded": the version that runs now. Of "retired" and "unloaded": the one that it is
    about."""
    at: float = field(default_factory=time.time)
    """When, in seconds since the epoch."""

    @property
    def name(self) -> str:
        """The first of `modules`, or the one whose fault it was."""
        name = getattr(self.error, "name", None)
        return name if name in self.modules else self.modules[0]

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Of "build_failed": what Cython or the compiler said."""
        found: tuple[Diagnostic, ...] = getattr(self.error, "diagnostics", ())
        return found

    def as_dict(self) -> dict[str, object]:
        """The same for JSON."""
        from pathlib import Path

        error = self.error
        return {
            "kind": self.kind,
            "modules": list(self.modules),
            "name": self.name,
            "version": self.version,
            "at": self.at,
            "report": None if self.report is None else self.report.as_dict(),
            "error": None if error is None else {"type": type(error).__name__, "text": str(error)},
            "diagnostics": [
                {
                    name: str(value) if isinstance(value, Path) else value
                    for name in ("file", "line", "column", "severity", "message", "source")
                    for value in (getattr(diagnostic, name),)
                }
                for diagnostic in self.diagnostics
            ],
        }

    def __str__(self) -> str:
        if self.kind == "reloaded":
            return str(self.report)
        if self.error is not None:
            return f"{self.name}: {self.error}"
        if self.kind == "retired" and self.report is not None:
            return f"{self.name} v{self.version} retired ({'; '.join(map(str, self.report.pins))})"
        if self.kind == "about_to_reload":
            return f"about to reload {', '.join(self.modules)}"
        return f"{self.name} v{self.version} {self.kind}"


def check_kinds(kinds: str | Collection[str] | None) -> frozenset[str]:
    """The kinds that are meant; None means all.

    Raises:
        ValueError: there is no such kind.

    >>> sorted(check_kinds("reloaded"))
    ['reloaded']
    """
    wanted = KINDS if kinds is None else (kinds,) if isinstance(kinds, str) else tuple(kinds)
    for kind in wanted:
        if kind not in KINDS:
            raise ValueError(f"there is no kind of event {kind!r}; there are {', '.join(KINDS)}")
    return frozenset(wanted)


class Log:
    """The latest events, for those who ask for the next one. Safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._added = 0
        self._closed = False

    def add(self, event: Event) -> None:
        """Note an event, and wake those who wait for it."""
        with self._changed:
            self._events.append(event)
            self._added += 1
            self._changed.notify_all()

    def nudge(self) -> None:
        """Let those who wait look whether there is something else to do."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more comes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def since(self, cursor: int) -> tuple[list[Event], int]:
        """The events after a cursor (0 at first), and the cursor after them."""
        with self._changed:
            return self._after(cursor), self._added

    def _after(self, cursor: int) -> list[Event]:
        count = min(self._added - cursor, len(self._events))
        return list(self._events)[len(self._events) - count :] if count else []

    def next(
        self,
        cursor: int,
        kinds: frozenset[str],
        end: float | None,
        otherwise: Callable[[], bool],
    ) -> tuple[Event | None, int]:
        """The first event of these kinds after a cursor, and the cursor after it.

        Args:
            cursor: 0 at first.
            kinds: which to look for.
            end: until when to wait, in the time of `time.monotonic`.
            otherwise: asked whether to stop waiting for another reason.
        """
        with self._changed:
            while True:
                for number, event in enumerate(after := self._after(cursor), 1):
                    if event.kind in kinds:
                        return event, self._added - len(after) + number
                cursor = self._added
                left = None if end is None else end - time.monotonic()
                if self._closed or otherwise() or (left is not None and left <= 0):
                    return None, cursor
                self._changed.wait(left)


class EventStream:
    """The events of a session for ``async for``, in the loop that it was made in."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        """The next event."""
        event = await self._queue.get()
        if event is None:
            self._queue.put_nowait(None)
            raise StopAsyncIteration
        return event

    def add(self, event: Event | None) -> None:
        """Hand an event over to the loop, from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody iterates any more
            self._loop.call_soon_threadsafe(self._queue.put_nowait, event)

    def end(self) -> None:
        """Nothing more comes."""
        self.add(None)
