"""Events from watchdog's observer, in the terms of inotify."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator

from watchdog import events
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer
from watchdog.observers.api import ObservedWatch

from relib.watching import inotify
from relib.watching.alarm import Alarm
from relib.watching.inotify import Notice

__all__ = ["Observed"]

_MASKS = {
    "attrib": inotify.ATTRIB,
    "closed": inotify.CLOSE_WRITE,
    "created": inotify.CREATE,
    "deleted": inotify.DELETE,
    # Where there are events of files that are closed, one of them follows; elsewhere this is all.
    "modified": inotify.MODIFY,
}
# Neither files that are opened or closed unchanged (compilers read them all the time), nor
# directories of which only the times have changed. Some are not in all versions of watchdog.
_WANTED: list[type[FileSystemEvent]] = [
    getattr(events, name)
    for name in (
        *("FileAttribEvent", "FileClosedEvent", "FileCreatedEvent", "FileDeletedEvent"),
        *("FileModifiedEvent", "FileMovedEvent"),
        *("DirAttribEvent", "DirCreatedEvent", "DirDeletedEvent", "DirMovedEvent"),
    )
    if hasattr(events, name)
]
# watchdog 7.1 logs an error, which goes to stderr, when a directory is no longer watched while it
# holds back an event of it (observers/inotify.py, queue_events); there is nothing wrong then.
logging.getLogger("watchdog.observers.inotify").addFilter(
    lambda record: "when the thread is inactive" not in str(record.msg)
)
_GOES = {inotify.DELETE: inotify.DELETE_SELF, inotify.MOVED_FROM: inotify.MOVE_SELF}


class Observed:
    """A queue of events about the entries of directories; see `relib.watching.inotify.Inotify`.

    That a directory was renamed is only known from the one above it, if that is watched too
    (watchdog 7.1 does not ask for IN_MOVE_SELF); and nothing tells of events that were lost.

    Raises:
        OSError: EMFILE: the user has as many inotify instances as a user may have.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        self._alarm = Alarm()
        self._events: deque[tuple[int, FileSystemEvent]] = deque()
        self._numbers: dict[str, int] = {}
        self._watches: dict[int, tuple[str, ObservedWatch]] = {}
        self._last = 0
        self._observer = Observer()
        self._observer.start()

    def fileno(self) -> int:
        """What to wait for until there are events."""
        return self._alarm.fileno()

    def add(self, directory: str) -> int:
        """Watch a directory's entries. The same number again for a directory that is watched.

        Raises:
            OSError: as `Inotify.add`.
        """
        if directory in self._numbers:
            return self._numbers[directory]
        os.scandir(directory).close()  # watchdog passes over one that may not be read
        self._last += 1
        handler = _Handler(self._last, self._events, self._alarm)
        watch = self._observer.schedule(handler, directory, event_filter=_WANTED)
        self._numbers[directory] = self._last
        self._watches[self._last] = directory, watch
        return self._last

    def remove(self, watch: int) -> None:
        """Stop watching a directory; one that has gone has stopped by itself."""
        directory, observed = self._watches.pop(watch, ("", None))
        if observed is not None:
            del self._numbers[directory]
            self._observer.unschedule(observed)

    def read(self) -> list[Notice]:
        """The events that there are now, oldest first."""
        self._alarm.clear()
        notices: list[Notice] = []
        while self._events:
            notices.extend(self._notices(*self._events.popleft()))
        return notices

    def _notices(self, watch: int, event: FileSystemEvent) -> Iterator[Notice]:
        directory, _ = self._watches.get(watch, ("", None))
        if event.event_type == "moved":
            steps = [(inotify.MOVED_FROM, event.src_path), (inotify.MOVED_TO, event.dest_path)]
        else:
            steps = [(_MASKS[event.event_type], event.src_path)]
        for mask, where in steps:
            path = os.fsdecode(where)
            above, name = os.path.split(path)
            if above == directory:
                yield Notice(watch, mask | inotify.ISDIR * event.is_directory, name)
            if mask in _GOES and path in self._numbers:
                gone = self._numbers[path]
                # or watchdog took what will be at this path for what it watches already
                self.remove(gone)
                yield Notice(gone, _GOES[mask], "")

    def close(self) -> None:
        """End watchdog's threads."""
        # A forked child has none of them, and their locks may be held for ever there.
        if os.getpid() == self._process and self._observer.is_alive():
            self._observer.stop()
            self._observer.join()


class _Handler(FileSystemEventHandler):
    """Called in a thread of watchdog's."""

    def __init__(self, watch: int, events: deque[tuple[int, FileSystemEvent]], alarm: Alarm):
        self._watch, self._events, self._alarm = watch, events, alarm

    def dispatch(self, event: FileSystemEvent) -> None:
        self._events.append((self._watch, event))
        self._alarm.ring()
