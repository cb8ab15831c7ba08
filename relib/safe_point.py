"""The safe point of a session: where what is ready takes the place of what runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from relib.building.ending import Ended
from relib.errors import ExecError
from relib.events import Event
from relib.live.loaded import modules as loaded_modules
from relib.live.together import reload_together, with_dependents
from relib.rounds import Group, Rounds

if TYPE_CHECKING:
    from relib.building.builder import Build
    from relib.live.version import Version

__all__ = ["SafePoint"]


class SafePoint:
    """Keeps what is ready, and applies it in one thread at a time.

    Args:
        rounds: is told what became of it.
        emit: is given the events.
        allowed: whether something may be applied now.
    """

    def __init__(
        self, rounds: Rounds, emit: Callable[[Event], None], allowed: Callable[[], bool]
    ) -> None:
        self.lock = threading.RLock()
        """Held while something is applied."""
        self._rounds = rounds
        self._emit = emit
        self._allowed = allowed
        self._ready: list[Group] = []
        self._leaving: set[tuple[str, int]] = set()
        self._gone: list[tuple[str, int]] = []
        self._thread: int | None = None

    @property
    def due(self) -> bool:
        """Whether there is something to apply or to tell."""
        return bool(self._ready or self._gone)

    @property
    def busy(self) -> bool:
        """Whether something is being applied."""
        return self._thread is not None

    @property
    def is_here(self) -> bool:
        """Whether something is being applied in this thread: it is in a callback."""
        return self._thread == threading.get_ident()

    @property
    def ready(self) -> frozenset[str]:
        """The names of the modules that would be reloaded now."""
        groups = [group for group in list(self._ready) if group.error is None]
        return frozenset(name for group in groups for name in group.changed)

    # --- what is to be applied -------------------------------------------------------------------

    def add(self, group: Group) -> None:
        """This is ready. What was ready before it and has not been applied is out of date."""
        with self.lock:
            if not group.is_news:
                self._rounds.succeeded(group.names)
            stale = [
                each
                for each in self._ready
                # an optimized build of what runs stays one while that runs
                if each.names & group.names and (group.is_news or not each.replaced)
            ]
            self._ready = [each for each in self._ready if each not in stale]
            for each in stale:
                # the rest of a step of which one is out of date was built to run with it
                self._rounds.look_again(each.names - group.names)
            if group.is_news:
                self._ready.append(group)

    def add_optimized(self, name: str, running: Build, better: Build) -> None:
        """A build is ready to take the place of another one, if that still runs then."""
        group = Group({name}, {name: better}, (name,), running.fingerprint)
        with self.lock:
            self._ready.append(group)

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

    # --- applying --------------------------------------------------------------------------------

    def apply(self) -> None:
        """Apply all that is ready, and tell of it."""
        with self.lock:
            if self.busy or not self._allowed():
                return
            self._thread = threading.get_ident()
            try:
                while self._ready:
                    group = self._ready.pop(0)
                    try:
                        self._apply(group)
                    except BaseException:
                        self._rounds.look_again(group.names)  # it may not be applied yet
                        raise
                while self._gone:
                    name, number = self._gone.pop(0)
                    self._emit(Event("unloaded", (name,), version=number))
            finally:
                self._thread = None

    def _apply(self, group: Group) -> None:
        modules = self._rounds.modules
        names = tuple(sorted(group.names & modules.keys()))
        if group.error is not None:
            self._fail(group.error, group)
            return
        if group.replaced is not None and not self._still_replaces(group):
            return
        reports = []
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
            except BaseException as error:
                self._leaving -= leaving
                self._fail(_as_error(error, names), group)
                return
            self._leaving -= leaving - {(report.name, report.previous) for report in reports}
            for report in reports:
                one = (report.name,)
                self._emit(Event("reloaded", one, report, version=report.version))
                if report.pins:
                    self._emit(Event("retired", one, report, version=report.previous))
        self._rounds.succeeded({*names, *group.changed}, upgraded=bool(reports))

    def _still_replaces(self, group: Group) -> bool:
        """Whether an optimized build is still wanted; adds what is loaded anew with it."""
        everything = loaded_modules()
        if any(
            name not in everything or everything[name].build.fingerprint != group.replaced
            for name in group.names
        ):
            return False  # a newer save has overtaken it
        concerned = with_dependents(group.names, everything, group.builds)
        # What they run now: the sources are the same, or else their turn is next.
        group.builds = {name: everything[name].build for name in concerned} | group.builds
        group.changed = tuple(sorted(concerned))
        return True

    def _fail(self, error: Exception, group: Group) -> None:
        modules = self._rounds.modules
        names = tuple(name for name in group.changed if name in modules)
        if self._rounds.failed(names, error, group):
            self._emit(Event("build_failed", names, error=error))


def _as_error(error: BaseException, names: tuple[str, ...]) -> Exception:
    """What a module's body has raised, as something that is told; raises what is not meant for it.

    A body that calls sys.exit() ends the program when it is imported. When it is reloaded, in
    whatever thread, this would be the end of what happens to run there.
    """
    if isinstance(error, Exception):
        return error
    if isinstance(error, Ended):
        raise error
    if (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
    ):
        raise error
    told = ExecError(
        f"{', '.join(names)} raised {type(error).__name__} while it was being executed: {error}; "
        "the version that ran before goes on running",
        name=names[0],
    )
    told.__cause__ = error
    return told
