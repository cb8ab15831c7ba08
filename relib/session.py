"""A session: watches what is loaded, reloads it when its sources change, and says so."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from relib import running_sessions
from relib.announcing import Announcer
from relib.building import warm_up
from relib.building.ending import Ended, Ending
from relib.events import Event, check_kinds
from relib.file_paths import absolute
from relib.follow_up import FollowUp
from relib.rounds import Rounds
from relib.safe_point import SafePoint
from relib.watching import Watcher

if TYPE_CHECKING:
    from relib.building.builder import Build
    from relib.config import Config
    from relib.live.module import Module
    from relib.live.version import Version

__all__ = ["Session", "watch"]

_log = logging.getLogger("relib.session")

_APPLY = ("now", "poll", "asyncio")


def watch(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    *,
    modules: Iterable[str | Module] | None = None,
    apply: str = "now",
    polling: bool | float | None = None,
    events: str | None = None,
    config: Config | None = None,
) -> Session:
    """Watch the sources of what is loaded, and reload what changes.

    Args:
        paths: source files, or directories with source files: what is loaded from elsewhere is left
            alone. None: everything that is loaded, now or later.
        modules: the only modules to look after, or their names; they may be loaded later.
        apply: when new code takes the place of the old: ``"now"``, as soon as it is built, in the
            session's thread; ``"poll"``, when the program calls :meth:`Session.poll`;
            ``"asyncio"``, between two steps of the event loop that runs here. It is built in the
            background in any case.
        polling: True or a number of seconds: look at the files from time to time, instead of
            waiting for the kernel to tell. False: never. None: where the kernel does not tell.
        events: who tells: ``"inotify"``, the kernel itself; ``"watchdog"``, its observer;
            ``"auto"``: inotify, and watchdog where the system has none. None: as the settings say.
        config: says how many modules to build at the same time (``jobs``), and who tells of changes
            (``events``); by default, their own project does. Each module is built with its own
            project's settings in any case.

    Returns:
        The session. It goes on until :meth:`Session.stop`, the end of a ``with`` block, or the end
        of the program.

    Raises:
        RuntimeError: `apply` is ``"asyncio"`` and no event loop runs here.
        ValueError: `apply` or `events` is something else.

    >>> with watch() as session:
    ...     session.running
    True
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    names = None
    if modules is not None:
        names = frozenset(each if isinstance(each, str) else each.name for each in modules)
    session = Session(
        paths=None if paths is None else tuple(map(absolute, paths)),
        names=names,
        apply=apply,
        polling=polling,
        events=events,
        config=config,
    )
    session.start()
    return session


class Session(Announcer):
    """What :func:`watch` returns. Its methods may be called from any thread."""

    def __init__(
        self,
        *,
        paths: tuple[Path, ...] | None,
        names: frozenset[str] | None,
        apply: str,
        polling: bool | float | None,
        events: str | None,
        config: Config | None,
    ) -> None:
        if apply not in _APPLY:
            raise ValueError(f"apply is {apply!r}, and must be one of {', '.join(_APPLY)}")
        self._loop = asyncio.get_running_loop() if apply == "asyncio" else None
        self._only_paths = paths
        self._only_names = names
        self._by_poll = apply == "poll"
        self._polling = polling
        self._listen_to = events if events is not None or config is None else config.events
        self._jobs = None if config is None else config.jobs
        super().__init__()
        self._paused = self._running = False
        self._begin()

    def _begin(self) -> None:
        """What is not handed on when it starts again, in a child process say."""
        self._begin_anew()
        self._waited = self._polled = 0
        self._rounds = Rounds(self._minds, self._jobs)
        self._point = SafePoint(self._rounds, self._emit, self._is_open)
        self._follow_up: FollowUp | None = None
        self._ending = Ending()
        self._watcher: Watcher | None = None
        self._thread: threading.Thread | None = None
        self._armed = threading.Event()
        self._broken: BaseException | None = None
        self._resting = self._warm = False

    # --- what it is ------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether it watches."""
        return self._running

    @property
    def paused(self) -> bool:
        """Whether changes are only noted, between :meth:`pause` and :meth:`resume`."""
        return self._paused

    @property
    def modules(self) -> tuple[str, ...]:
        """The names of the loaded modules that it looks after."""
        return tuple(sorted(self._rounds.modules))

    @property
    def watched(self) -> frozenset[Path]:
        """The files that it watches; some are not there, and would matter if they were."""
        watcher = self._watcher
        return frozenset() if watcher is None else watcher.files

    @property
    def ready(self) -> tuple[str, ...]:
        """The names of the modules whose new code waits for the next safe point."""
        return tuple(sorted(self._point.ready))

    @property
    def idle(self) -> bool:
        """Whether it has dealt with all changes that it has noticed.

        They are applied, or told of, or :attr:`ready`. The optimized builds that follow do not
        count.
        """
        if not self._running:
            return True
        at_rest = self._resting and not self._rounds.due and not self._point.busy
        return at_rest and (self._by_poll or not self._point.due)

    def __repr__(self) -> str:
        state = "stopped" if not self._running else "paused" if self._paused else "running"
        return f"<relib.Session {state}: {', '.join(self.modules) or 'nothing loaded'}>"

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _minds(self, module: Module) -> bool:
        if self._only_names is not None and module.name not in self._only_names:
            return False
        main = module.extension.main
        return self._only_paths is None or any(main.is_relative_to(p) for p in self._only_paths)

    # --- from start to stop ----------------------------------------------------------------------

    def start(self) -> None:
        """Watch; :func:`watch` has done that. It can be started again after :meth:`stop`.

        When it returns, no later change is missed. What was changed before is applied as well.
        """
        if self._running:
            return
        self._begin()
        self._start()
        self._armed.wait()
        if self._broken is not None:
            raise self._broken

    def _start(self) -> None:
        self._running = True
        self._follow_up = FollowUp(self._better)
        running_sessions.add(self)
        self._thread = threading.Thread(target=self._run, name="relib-session", daemon=True)
        self._thread.start()

    def stop(self, timeout: float | None = 10.0) -> None:
        """Watch no longer. What runs goes on running; a build that is under way is ended.

        Args:
            timeout: seconds to wait for an upgrade that is under way.
        """
        self._end()
        thread = self._thread
        # In a callback it would wait for itself, or for a thread that waits for the callback's end.
        here = thread is threading.current_thread() or self._point.is_here
        if thread is not None and not here:
            thread.join(timeout)

    def _end(self) -> None:
        self._running = False
        if self._follow_up is not None:
            self._follow_up.stop()
        self._ending.end()
        self._wake()
        self._close()

    def pause(self) -> None:
        """Change nothing from now on; what changes is noted. Waits for an upgrade under way."""
        self._paused = True
        with self._point.lock:
            pass

    def resume(self) -> None:
        """Apply what has changed since :meth:`pause`, and what will."""
        self._paused = False
        self._wake()

    def _wake(self) -> None:
        watcher = self._watcher
        if watcher is not None:
            watcher.wake()

    # --- events ----------------------------------------------------------------------------------

    def wait(
        self, timeout: float | None = None, kinds: str | Collection[str] | None = None
    ) -> Event | None:
        """Wait for the next event, of those that this has not returned or passed over yet.

        With ``apply="poll"`` it is a safe point as :meth:`poll` is.

        Args:
            timeout: seconds; None: for ever.
            kinds: which kinds to wait for; others are passed over. All, if not given.

        Returns:
            The event; None when the time is over or the session has been stopped.

        Raises:
            ValueError: there is no such kind.
            RuntimeError: it would wait for itself: in a callback, or in the event loop in which
                changes are applied.
        """
        wanted = check_kinds(kinds)
        if (
            threading.current_thread() is self._thread
            or self._point.is_here
            or (self._loop is not None and _running_loop() is self._loop)
        ):
            raise RuntimeError("wait() would wait for itself here; use a callback or `async for`")
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            event, self._waited = self._events.next(self._waited, wanted, end, self._may_apply)
            if event is not None or not self._may_apply():
                return event
            self._apply()

    def poll(self) -> list[Event]:
        """Apply what is ready, with ``apply="poll"``. It does not wait for a build.

        Returns:
            The events since the last call.
        """
        if self._may_apply():
            self._apply()
        events, self._polled = self._events.since(self._polled)
        return events

    def _may_apply(self) -> bool:
        return self._by_poll and self._is_open() and self._point.due

    def _is_open(self) -> bool:
        return self._running and not self._paused

    def _apply(self) -> None:
        self._point.apply()
        self._wake()  # other files may matter now

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            events = self._listen_to or self._rounds.events
            with self._ending.here(), Watcher(polling=self._polling, events=events) as watcher:
                self._watcher = watcher
                self._rounds.arm(watcher)
                self._armed.set()
                while self._goes_on():
                    self._try_round(watcher)
                    if self._goes_on():
                        self._resting = True
                        batch = watcher.batch()
                        self._resting = False
                        self._rounds.sort(batch)
        except BaseException as error:
            # Whatever it is, nobody else would be told that there is no session any more.
            if self._armed.is_set() and not isinstance(error, Ended):
                _log.exception("the session has ended")
            if threading.current_thread() is self._thread:
                self._broken = error
                self._end()
                self._armed.set()

    def _try_round(self, watcher: Watcher) -> None:
        try:
            self._round(watcher)
        except Ended:
            raise
        except BaseException:
            _log.exception("a round of the session failed")

    def _goes_on(self) -> bool:
        # another thread's turn, if it was stopped during a long build and started again
        return self._running and threading.current_thread() is self._thread

    def _round(self, watcher: Watcher) -> None:
        self._rounds.arm(watcher)
        if not self._warm and (modules := self._rounds.modules):
            # The first save shall not be the one that waits for a process to start.
            warm_up(next(iter(modules.values())).config)
            self._warm = True
        while self._rounds.due and self._goes_on() and not self._paused:
            for group in self._rounds.prepare():
                if not self._goes_on():
                    return
                self._point.add(group)
                self._hand_over()
            self._rounds.arm(watcher)
        self._hand_over()
        if self._follow_up is not None:
            for module in self._rounds.modules.values():
                self._follow_up.want(module)

    def _better(self, module: Module, running: Build, better: Build) -> None:
        """An optimized build is ready to take the place of an instant one."""
        self._point.add_optimized(module.name, running, better)
        self._wake()

    def _hand_over(self) -> None:
        """Apply what is ready, or let the program do it at its next safe point."""
        if self._paused or not self._point.due:
            return
        if self._by_poll:
            self._events.nudge()
        elif self._loop is None:
            self._apply()
        else:
            try:
                self._loop.call_soon_threadsafe(self._apply)
            except RuntimeError:  # the loop is closed: there will be no safe point any more
                self._end()

    # --- told by relib.running_sessions ----------------------------------------------------------

    def note_module(self) -> None:
        """A module has been loaded or upgraded, by whomever."""
        self._wake()

    def note_gone(self, version: Version) -> None:
        """A version's code is gone; in whatever thread has unloaded it."""
        self._point.note_gone(version)
        self._wake()

    def hold_upgrades(self, timeout: float) -> bool:
        """Let no upgrade begin until `release_upgrades`; whether that could be had in time."""
        return self._point.lock.acquire(timeout=timeout)

    def release_upgrades(self) -> None:
        """Upgrades go on."""
        self._point.lock.release()

    def begin_in_child(self) -> None:
        """After a fork: the child has the session, and neither its thread nor its descriptor."""
        if self._watcher is not None:
            # It is the parent's: whoever reads from it takes the parent's events.
            self._watcher.close()
        if self._follow_up is not None:
            self._follow_up.disown()
        self._begin()
        self._warm = True  # one of many children will build, and the others find it in the store
        if self._loop is None:
            self._start()
        else:
            self._running = False  # the loop is the parent's, too


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
