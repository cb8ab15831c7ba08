"""Waits until watched files change, and says which, in batches."""

from __future__ import annotations

import errno
import logging
import os
import select
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from relib.watching import inotify
from relib.watching.alarm import Alarm
from relib.watching.file_systems import all_changes_give_events
from relib.watching.inotify import Notice
from relib.watching.quiet import Quiet
from relib.watching.signatures import Look, listing, look_at
from relib.watching.sources import Source, open_source
from relib.watching.trails import Step, Trails

__all__ = ["POLLING_INTERVAL", "Watcher"]

_log = logging.getLogger("relib.watching")

POLLING_INTERVAL = 0.25
"""Seconds between two looks at the files whose file system does not tell."""
_AGAIN = 0.02
"""Seconds until the next look when something has changed: it may be changing still."""
_SHARE = 0.02
"""The part of a processor that looking may take, however many files there are."""

# Of the directory itself: nothing that comes after it is about the path that it was watched by.
_GONE = inotify.DELETE_SELF | inotify.MOVE_SELF | inotify.UNMOUNT | inotify.IGNORED
_WRITTEN = inotify.CLOSE_WRITE | inotify.ATTRIB | inotify.MODIFY
_FINISHED = inotify.CLOSE_WRITE | inotify.MOVED_TO | inotify.ATTRIB


class Watcher:
    """Tells which of the watched files changed, appeared or went.

    Files that are not there can be watched, in directories that are not there too. What is said of
    a file is that it may have changed; whether its contents did is for others to find out.

    It has no thread of its own: the one that waits for batches does the work. Only `wake` may be
    called from others.

    Args:
        polling: True: look from time to time, instead of waiting for events. A number: so many
            seconds apart. False: events alone. None: events, and looking besides where the file
            system does not tell of all changes (network, FUSE, a container's) or where no more
            directories can be watched, which is logged as a warning, once.
        events: where events come from: "inotify", "watchdog", or "auto"; see
            `relib.watching.sources`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory, Watcher() as watcher:
    ...     file = Path(directory, "fast.pyx")
    ...     watcher.watch([file])
    ...     _ = file.write_text("def f(): return 1")
    ...     watcher.batch() == {file}
    True
    """

    def __init__(self, *, polling: bool | float | None = None, events: str = "auto") -> None:
        listens = polling in (None, False) and not isinstance(polling, float)
        self._looks = polling is not False
        self._every = polling if not isinstance(polling, bool | None) else POLLING_INTERVAL
        self._interval = self._every
        self._quiet = Quiet()
        self._names: dict[str, Path] = {}
        self._trails: dict[str, tuple[Step, ...]] = {}
        self._entries: dict[str, dict[str, set[str]]] = defaultdict(dict)
        """The paths that lead through an entry, by directory and name."""
        self._listed: frozenset[str] = frozenset()
        """The paths of watched directories."""
        self._places: dict[str, str] = {}
        """The same, by where those that are there really are."""
        self._watches: dict[str, int] = {}
        self._directories: dict[int, str] = {}
        self._polled: dict[str, Look] = {}
        self._polled_listings: dict[str, dict[str, tuple[int, ...]]] = {}
        self._told: dict[str, bool] = {}
        """Whether a directory's file system tells of all changes."""
        self._warned = False
        self._roots: tuple[str, ...] = ()
        self._next_look = 0.0
        self._source: Source | None = None
        self._alarm: Alarm | None = Alarm()
        self._poll = select.poll()
        self._poll.register(self._alarm.fileno(), select.POLLIN)
        if listens:
            self._open_source(events)

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def files(self) -> frozenset[Path]:
        """What is watched."""
        return frozenset(self._names.values())

    @property
    def polled(self) -> frozenset[Path]:
        """The files of them that are looked at from time to time."""
        return frozenset(self._names[path] for path in self._polled)

    # --- what is watched -------------------------------------------------------------------------

    def watch(
        self,
        files: Iterable[Path],
        directories: Iterable[Path] = (),
        *,
        roots: Iterable[Path] = (),
    ) -> None:
        """Watch these from now on, and nothing else.

        Args:
            files: absolute paths, whether or not there is anything.
            directories: each entry of these is told of, as it comes and goes too; not what lies in
                directories below.
            roots: where directories may be renamed and made again; projects' roots.
        """
        self._roots = tuple(map(os.fspath, roots))
        self._told.clear()
        wanted = {os.fspath(path): path for path in files}
        listed = {os.fspath(path): path for path in directories}
        trails = Trails(self._roots)
        for path in self._trails.keys() - wanted.keys() - listed.keys():
            self._forget(path)
        self._names = {**listed, **wanted}
        self._listed = frozenset(listed)
        for path in self._names:
            self._follow(path, trails)
        self._tidy()

    def _follow(self, path: str, trails: Trails) -> None:
        """Watch all that a path leads through, as it is now."""
        for _ in range(3):
            # Once more after new watches: what happened before there were any has not been told.
            steps, real = self._steps(path, trails)
            if path in self._listed:
                self._place(path, real)
            if self._trails.get(path) != steps:
                self._forget(path)
                self._trails[path] = steps
                for step in steps:
                    self._entries[step.directory].setdefault(step.name, set()).add(path)
            directories = {step.directory for step in steps}
            if real is not None:
                directories.add(real)
            new = [directory for directory in directories if self._add(directory)]
            if not new:
                break
            trails = Trails(self._roots)
        told = all(map(self._tells, directories))
        if told:
            self._polled.pop(path, None)
            self._polled_listings.pop(path, None)
        elif path in self._listed:
            self._polled_listings.setdefault(path, listing(path))
        elif path not in self._polled:
            self._polled[path] = look_at(path)

    def _steps(self, path: str, trails: Trails) -> tuple[tuple[Step, ...], str | None]:
        if path in self._listed:
            steps, real = trails.directory(path)
            # the directory's own entry, wherever it is
            return (*steps, *(step for step in trails.of(path) if step not in steps)), real
        return trails.of(path), None

    def _place(self, path: str, real: str | None) -> None:
        for place in [place for place, listed in self._places.items() if listed == path]:
            del self._places[place]
        if real is not None:
            self._places[real] = path

    def _forget(self, path: str) -> None:
        for directory, name in self._trails.pop(path, ()):
            names = self._entries[directory]
            if name in names:
                names[name].discard(path)
                if not names[name]:
                    del names[name]
            if not names:
                del self._entries[directory]
        if path not in self._names:
            self._polled.pop(path, None)
            self._polled_listings.pop(path, None)

    def _tidy(self) -> None:
        """Stop watching directories that nothing leads through any more."""
        for place in [place for place, path in self._places.items() if path not in self._listed]:
            del self._places[place]
        for directory in self._watches.keys() - self._entries.keys() - self._places.keys():
            watch = self._watches.pop(directory)
            self._directories.pop(watch, None)
            if self._source is not None:
                self._source.remove(watch)
        for path in [path for path in self._polled if path not in self._names]:
            del self._polled[path]
        for path in [path for path in self._polled_listings if path not in self._names]:
            del self._polled_listings[path]

    def _tells(self, directory: str) -> bool:
        """Whether events will tell of all changes in a directory."""
        if not self._looks:
            return True
        if directory not in self._watches:
            return False
        if directory not in self._told:
            self._told[directory] = all_changes_give_events(directory)
        return self._told[directory]

    # --- events ----------------------------------------------------------------------------------

    def _open_source(self, events: str) -> None:
        try:
            self._source = open_source(events)
        except OSError as error:
            if not self._looks:
                raise
            self._warn("fs.inotify.max_user_instances", error)
            return
        self._poll.register(self._source.fileno(), select.POLLIN)

    def _add(self, directory: str) -> bool:
        """Watch a directory; whether it was not watched before."""
        if self._source is None or directory in self._watches:
            return False
        try:
            watch = self._source.add(directory)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                if not self._looks:
                    raise
                self._warn("fs.inotify.max_user_watches", error)
            return False
        self._watches[directory] = watch
        self._directories[watch] = directory
        return True

    def _warn(self, limit: str, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            _log.warning(
                "files are polled, every %g s, as the system gives no more events (%s); raise %s "
                "with sysctl",
                self._every,
                error.strerror,
                limit,
            )

    def _read(self) -> None:
        assert self._source is not None
        now = time.monotonic()
        moved: set[str] = set()
        for notice in self._source.read():
            moved |= self._take_notice(notice, now)
        if moved:
            trails = Trails(self._roots)
            for path in moved:
                self._follow(path, trails)
            self._tidy()

    def _take_notice(self, notice: Notice, now: float) -> set[str]:
        """Note what an event says; the paths that may now lead elsewhere."""
        if notice.mask & inotify.Q_OVERFLOW:
            # Events are lost: anything may have happened.
            for path in self._names:
                self._quiet.note(path, now, finished=False)
            return set(self._names)
        directory = self._directories.get(notice.watch)
        if directory is None:
            return set()
        if notice.mask & _GONE:
            return self._lose(directory, now)
        if not notice.name:
            return set()
        paths = set(self._entries.get(directory, {}).get(notice.name, ()))
        finished = bool(notice.mask & _FINISHED)
        if notice.mask & inotify.CREATE and not notice.mask & inotify.ISDIR:
            finished = _is_whole(f"{directory}/{notice.name}")
        for path in paths:
            self._quiet.note(path, now, finished=finished)
        if directory in self._places:
            entry = os.path.join(self._places[directory], notice.name)  # noqa: PTH118
            self._quiet.note(entry, now, finished=finished)
        # a plain file's entry that was written to leads where it led before
        return set() if notice.mask & _WRITTEN else paths

    def _lose(self, directory: str, now: float) -> set[str]:
        """A watched directory is no longer at its path; if it moved, nor are those below it."""
        assert self._source is not None
        paths: set[str] = set()
        for lost in [each for each in self._watches if f"{each}/".startswith(f"{directory}/")]:
            watch = self._watches.pop(lost)
            del self._directories[watch]
            self._source.remove(watch)
            paths.update(*self._entries.get(lost, {}).values())
            if lost in self._places:
                paths.add(self._places[lost])
        for path in paths:
            self._quiet.note(path, now, finished=False)
        return paths

    # --- looking ---------------------------------------------------------------------------------

    def _look(self) -> None:
        begun = time.monotonic()
        changed = False
        for path, before in self._polled.items():
            now = look_at(path)
            if now.differs(before):
                changed = True
                self._quiet.note(path, begun, finished=False)
            self._polled[path] = now
        for path, entries in self._polled_listings.items():
            found = listing(path)
            for name in dict(found.items() ^ entries.items()):
                changed = True
                entry = os.path.join(path, name) if name else path  # noqa: PTH118
                self._quiet.note(entry, begun, finished=False)
            self._polled_listings[path] = found
        end = time.monotonic()
        self._interval = _AGAIN if changed or self._quiet else self._every
        self._next_look = end + max(self._interval, (end - begun) / _SHARE)

    # --- waiting ---------------------------------------------------------------------------------

    def batch(self, timeout: float | None = None) -> frozenset[Path]:
        """Wait until files have changed, and nothing more comes.

        Args:
            timeout: seconds to wait; None: for ever.

        Returns:
            The watched files that may have changed, and the entries of watched directories. None
            when `wake` was called or the time is over; what has changed until then is not lost.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            now = time.monotonic()
            if self._quiet and now >= self._quiet.due():
                return self._taken()
            if end is not None and now >= end:
                return frozenset()
            until = [end] if end is not None else []
            if self._quiet:
                until.append(self._quiet.due())
            if self._polled or self._polled_listings:
                if now >= self._next_look:
                    self._look()
                    continue
                until.append(self._next_look)
            wait = None if not until else max(0.0, min(until) - now) * 1e3
            ready = {descriptor for descriptor, _ in self._poll.poll(wait)}
            if self._source is not None and self._source.fileno() in ready:
                self._read()
            if self._alarm is not None and self._alarm.fileno() in ready:
                self._alarm.clear()
                return frozenset()

    def _taken(self) -> frozenset[Path]:
        paths = [str(path) for path in self._quiet.take()]
        for path in paths:
            if path in self._polled:  # seen by an event: looking need not say it again
                self._polled[path] = look_at(path)
        return frozenset(self._names.get(path) or Path(path) for path in paths)

    def wake(self) -> None:
        """Let `batch` return now, or the next time that it is called; from any thread."""
        alarm = self._alarm
        if alarm is not None:
            alarm.ring()

    def close(self) -> None:
        """Give the descriptors back."""
        if self._source is not None:
            self._source.close()
            self._source = None
        self._alarm = None


def _is_whole(path: str) -> bool:
    """Whether an entry that has just been made is no file that is still to be written."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    # a link, or a second name of a file that was written before: nobody has it open
    return os.path.islink(path) or status.st_nlink > 1  # noqa: PTH114
