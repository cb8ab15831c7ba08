"""How events reach the program: callbacks, a log to wait on, and streams for event loops."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, overload

from relib.events import Event, check_kinds

__all__ = ["Announcer", "EventStream", "Log"]

_log = logging.getLogger("relib.session")

_KEPT = 1024
"""How many events the log remembers."""
_EVERY_KIND = "*"

Callback = Callable[[Event], object]
SomeCallback = TypeVar("SomeCallback", bound=Callback)


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


class Announcer:
    """The part of a session that tells of events."""

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callback]] = defaultdict(list)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Callbacks stay; what has happened is forgotten."""
        self._events = Log()
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._closed = False

    @overload
    def on(self, kind: str, callback: Callback) -> Callable[[], None]: ...
    @overload
    def on(self, kind: str) -> Callable[[SomeCallback], SomeCallback]: ...

    def on(
        self, kind: str, callback: Callback | None = None
    ) -> Callable[[], None] | Callable[[SomeCallback], SomeCallback]:
        """Call a function with every event of a kind.

        It is called where new code is applied: in the session's thread, in :meth:`poll`, or in the
        event loop. What it raises is logged (as ``relib.session``) and changes nothing; but in the
        main thread, KeyboardInterrupt and ``sys.exit()`` are for the program.

        Args:
            kind: ``"about_to_reload"``, ``"reloaded"``, ``"build_failed"``, ``"retired"``,
                ``"unloaded"``, or ``"*"`` for all.
            callback: the function. Without one, this is a decorator.

        Returns:
            A function that ends it; from the decorator, the function that it is given.

        Raises:
            ValueError: there is no such kind.
        """
        if kind != _EVERY_KIND:
            check_kinds((kind,))
        callbacks = self._callbacks[kind]
        if callback is None:

            def decorate(function: SomeCallback) -> SomeCallback:
                callbacks.append(function)
                return function

            return decorate
        callbacks.append(callback)

        def unsubscribe() -> None:
            if callback in callbacks:
                callbacks.remove(callback)

        return unsubscribe

    def __aiter__(self) -> EventStream:
        """The events from now on, until the session is stopped; for ``async for``."""
        stream = EventStream(asyncio.get_running_loop())
        self._streams.add(stream)
        if self._closed:
            stream.end()
        return stream

    def _emit(self, event: Event) -> None:
        for_program: BaseException | None = None
        for callback in (*self._callbacks[event.kind], *self._callbacks[_EVERY_KIND]):
            try:
                callback(event)
            except BaseException as error:
                in_main = threading.current_thread() is threading.main_thread()
                if in_main and not isinstance(error, Exception):
                    for_program = error
                else:
                    _log.exception("the callback %r for %s raised", callback, event.kind)
        self._events.add(event)
        for stream in list(self._streams):
            stream.add(event)
        if for_program is not None:
            raise for_program

    def _close(self) -> None:
        """Nothing more comes."""
        self._closed = True
        self._events.close()
        for stream in list(self._streams):
            stream.end()
