"""The optimized builds that follow the instant ones, made in the background."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from relib.building.ending import Ended
from relib.errors import RelibError
from relib.live.tier import follow

if TYPE_CHECKING:
    from relib.building.builder import Build
    from relib.live.module import Module

__all__ = ["FollowUp"]

_log = logging.getLogger("relib")

_NICENESS = 5
"""How much the compilers give way to the program: for the thread that starts them."""


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
        follow(1)

    def want(self, module: Module) -> None:
        """See to it that an optimized build follows, if the settings ask for one."""
        build = module.build
        if module.config.tier != "auto" or build.tier == "optimized":
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

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while (module := self._next()) is not None:
            running = module.build
            try:
                better = module.next_build(tier="optimized")
                # A newer save has come while it was built: that one's turn is next.
                overtaken = module.next_build(tier="instant").fingerprint != running.fingerprint
            except RelibError as error:
                _log.info("no optimized build of %s: %s", module.name, error)
                continue
            except Ended:
                return
            if self._running and not overtaken:
                self._ready(module, running, better)

    def _next(self) -> Module | None:
        with self._changed:
            while self._running and not self._wanted:
                self._changed.wait()
            return self._wanted.pop(next(iter(self._wanted))) if self._running else None
