"""The optimized builds that follow the instant ones, made in the background."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from relib.building.ending import Ended, Ending
from relib.building.processes import giving_way
from relib.errors import RelibError
from relib.live.tier import follow

if TYPE_CHECKING:
    from relib.building.builder import Build
    from relib.live.module import Module

__all__ = ["FollowUp"]

_log = logging.getLogger("relib")

_NICENESS = 5
"""How much more than the program the compilers give way."""


class FollowUp:
    """Makes the optimized build of what runs from an instant one, one after the other.

    Args:
        ready: called in the thread of its own with the module, the build that it ran when this
            began, and the optimized one of the same contents.
    """

    def __init__(self, ready: Callable[[Module, Build, Build], None]) -> None:
        self._ready = ready
        self._changed = threading.Condition()
        self._wanted: dict[str, Module] = {}
        self._tried: dict[str, str] = {}
        self._running = True
        self._thread: threading.Thread | None = None
        self._ending = Ending()
        follow(1)

    def want(self, module: Module) -> None:
        """See to it that an optimized build follows, if the settings ask for one."""
        build = module.build
        if build.tier == "optimized":
            # What it cimports may be reloaded, and it with it, instant once more.
            self._tried.pop(module.name, None)
            return
        if module.config.tier != "auto":
            return
        if self._tried.get(module.name) == build.fingerprint:
            return
        with self._changed:
            if not self._running:
                return
            self._tried[module.name] = build.fingerprint
            self._wanted[module.name] = module
            self._changed.notify_all()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="relib-follow-up", daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """Nothing more follows; what is being built is not used."""
        with self._changed:
            if self._running:
                self._running = False
                self._changed.notify_all()
                follow(-1)
        self._ending.end()

    def disown(self) -> None:
        """In the child of a fork: it is the parent's, and so is the thread."""
        if self._running:
            self._running = False
            follow(-1)

    def _run(self) -> None:
        with self._ending.here(), giving_way(_NICENESS), suppress(Ended):
            self._follow()

    def _follow(self) -> None:
        while (module := self._next()) is not None:
            running = module.build
            try:
                better = module.next_build(tier="optimized")
                # A newer save has come while it was built: that one's turn is next.
                overtaken = module.next_build(tier="instant").fingerprint != running.fingerprint
            except RelibError as error:
                _log.info("no optimized build of %s: %s", module.name, error)
                continue
            except Exception:
                _log.exception("no optimized build of %s", module.name)
                continue
            if self._running and not overtaken:
                self._ready(module, running, better)

    def _next(self) -> Module | None:
        with self._changed:
            while self._running and not self._wanted:
                self._changed.wait()
            return self._wanted.pop(next(iter(self._wanted))) if self._running else None
