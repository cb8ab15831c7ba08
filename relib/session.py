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
from relib.building.ending import Ended
from relib.events import Event, check_kinds
from relib.follow_up import FollowUp
from relib.live.loaded import modules as loaded_modules
from relib.live.together import reload_together
from relib.rounds import Group, Rounds
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
        config: says how many modules to build at the same time (``jobs``); by default, their own
            project does. Each module is built with its own project's settings in any case.

    Returns:
        The session. It goes on until :meth:`Session.stop`, the end of a ``with`` block, or the end
        of the program.

    Raises:
        ValueError: `apply` is something else.
        RuntimeError: `apply` is ``"asyncio"`` and no event loop runs here.

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
        paths=None if paths is None else tuple(Path(path).absolute() for path in paths),
        names=names,
        apply=apply,
        polling=polling,
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
        config: Config | None,
    ) -> None:
        if apply not in _APPLY:
            raise ValueError(f"apply is {apply!r}, and must be one of {', '.join(_APPLY)}")
        self._loop = asyncio.get_running_loop() if apply == "asyncio" else None
        self._only_paths = paths
        self._only_names = names
        self._by_poll = apply == "poll"
        self._polling = polling
        self._jobs = None if config is None else config.jobs
        super().__init__()
        self._paused = self._running = False
        self._begin()

    def _begin(self) -> None:
        """What is not handed on when it starts again, in a child process say."""
        self._applying = threading.RLock()
        self._begin_anew()
        self._waited = self._polled = 0
        self._rounds = Rounds(self._minds, self._jobs)
        self._ready: list[Group] = []
        self._follow_up: FollowUp | None = None
        self._leaving: set[tuple[str, int]] = set()
        self._gone: list[tuple[str, int]] = []
        self._watcher: Watcher | None = None
        self._thread: threading.Thread | None = None
        self._armed = threading.Event()
        self._broken: Exception | None = None
        self._busy = False

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
        """Watch no longer. What runs goes on running.

        Args:
            timeout: seconds to wait for a build that is under way; its result is not used.
        """
        self._end()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _end(self) -> None:
        self._running = False
        if self._follow_up is not None:
            self._follow_up.stop()
        self._wake()
        self._close()

    def pause(self) -> None:
        """Change nothing from now on; what changes is noted. Waits for an upgrade under way."""
        self._paused = True
        with self._applying:
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
            RuntimeError: it would wait for itself: in a callback in the session's thread, or in the
                event loop in which changes are applied.
        """
        wanted = check_kinds(kinds)
        if threading.current_thread() is self._thread or (
            self._loop is not None and _running_loop() is self._loop
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
        return (
            self._by_poll and self._running and not self._paused and bool(self._ready or self._gone)
        )

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with Watcher(polling=self._polling) as watcher:
                self._watcher = watcher
                self._rounds.arm(watcher)
                self._armed.set()
                while self._goes_on():
                    try:
                        self._round(watcher)
                    except Exception:
                        _log.exception("a round of the session failed")
                    if self._goes_on():
                        self._rounds.sort(watcher.batch())
        except Ended:  # the program ends
            self._end()
            self._armed.set()
        except Exception as error:
            if self._armed.is_set():
                _log.exception("the session has ended")
            self._broken = error
            self._end()
            self._armed.set()

    def _goes_on(self) -> bool:
        # another thread's turn, if it was stopped during a long build and started again
        return self._running and threading.current_thread() is self._thread

    def _round(self, watcher: Watcher) -> None:
        self._rounds.arm(watcher)
        while self._rounds.due and self._goes_on() and not self._paused:
            for group in self._rounds.prepare():
                if not self._goes_on():
                    return
                with self._applying:
                    # what was ready before it and has not been applied yet is out of date
                    self._ready = [each for each in self._ready if not each.names <= group.names]
                    if group.error is not None or group.changed:
                        self._ready.append(group)
                    else:
                        self._rounds.succeeded(group.names)
                self._hand_over()
            self._rounds.arm(watcher)
        self._hand_over()
        if self._follow_up is not None:
            for module in self._rounds.modules.values():
                self._follow_up.want(module)

    def _better(self, module: Module, running: Build, better: Build) -> None:
        """An optimized build is ready to take the place of an instant one."""
        one = module.name
        group = Group({one}, {one: better}, (one,), ((one, running.fingerprint),))
        with self._applying:
            self._ready.append(group)
        self._wake()

    def _hand_over(self) -> None:
        """Apply what is ready, or let the program do it at its next safe point."""
        if self._paused or not (self._ready or self._gone):
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

    # --- at a safe point -------------------------------------------------------------------------

    def _apply(self) -> None:
        with self._applying:
            if self._paused or not self._running or self._busy:
                return
            self._busy = True
            try:
                while self._ready:
                    self._apply_group(self._ready.pop(0))
                while self._gone:
                    name, number = self._gone.pop(0)
                    self._emit(Event("unloaded", (name,), version=number))
            finally:
                self._busy = False
        self._wake()  # other files may matter now

    def _apply_group(self, group: Group) -> None:
        modules = self._rounds.modules
        names = tuple(sorted(group.names & modules.keys()))
        if group.error is not None:
            self._fail(names, group.error, group)
            return
        if not all(
            name in modules and modules[name].build.fingerprint == old
            for name, old in group.replaced
        ):
            return  # a newer save has overtaken it
        if names and group.changed:
            self._emit(Event("about_to_reload", group.changed))
            leaving = {(name, module.version) for name, module in loaded_modules().items()}
            self._leaving |= leaving
            try:
                reports = reload_together(
                    [modules[name] for name in names],
                    builds=group.builds,
                    started=group.started,
                    action="optimize" if group.replaced else "reload",
                )
            except Exception as error:
                self._leaving -= leaving
                self._fail(group.changed, error, group)
                return
            self._leaving -= leaving - {(report.name, report.previous) for report in reports}
            for report in reports:
                one = (report.name,)
                self._emit(Event("reloaded", one, report, version=report.version))
                if report.pins:
                    self._emit(Event("retired", one, report, version=report.previous))
        self._rounds.succeeded(names)

    def _fail(self, names: tuple[str, ...], error: Exception, group: Group) -> None:
        if self._rounds.failed(names, error, group.before):
            self._emit(Event("build_failed", names, error=error))

    # --- told by relib.running_sessions ----------------------------------------------------------

    def note_module(self) -> None:
        """A module has been loaded or upgraded, by whomever."""
        self._wake()

    def note_gone(self, version: Version) -> None:
        """A version's code is gone; in whatever thread has unloaded it."""
        one = (version.name, version.number)
        module = self._rounds.modules.get(version.name)
        # not one that was only tried
        was_current = self._rounds.knows(version.name) and (
            module is None or version.number in {past.number for past in module.history}
        )
        if one in self._leaving or was_current:
            self._leaving.discard(one)
            self._gone.append(one)
        self._wake()

    def hold_upgrades(self, timeout: float) -> bool:
        """Let no upgrade begin until `release_upgrades`; whether that could be had in time."""
        return self._applying.acquire(timeout=timeout)

    def release_upgrades(self) -> None:
        """Upgrades go on."""
        self._applying.release()

    def begin_in_child(self) -> None:
        """After a fork: the child has the session, and neither its thread nor its descriptor."""
        if self._watcher is not None:
            # It is the parent's: whoever reads from it takes the parent's events.
            self._watcher.close()
        self._begin()
        if self._loop is None:
            self._start()
        else:
            self._running = False  # the loop is the parent's, too


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
