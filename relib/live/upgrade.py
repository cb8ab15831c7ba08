"""An upgrade: new versions take the place of current ones, all of them or none."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relib.free_in_child import free_in_child
from relib.live.before_unload import call_before_unload
from relib.live.functions import upgrade_functions
from relib.live.report import Report
from relib.live.retired import retire

if TYPE_CHECKING:
    from relib.building.builder import Build
    from relib.live.module import Module
    from relib.live.version import Version

__all__ = ["Change", "report_of", "upgrade", "upgrading"]


upgrading = free_in_child(threading.RLock())
"""Held while versions change: one upgrade or unload at a time, and none while a module is built."""


@dataclass(slots=True)
class Change:
    """One module that is to run another build."""

    module: Module
    build: Build
    action: str
    """``"reload"``, ``"rollback"`` or ``"optimize"``."""
    started: float = field(default_factory=time.perf_counter)


def upgrade(changes: Sequence[Change]) -> list[Report]:
    """Load new versions and put them behind the public modules.

    In the order given: a module comes before those that cimport it.

    Returns:
        A report for each, in the same order.

    Raises:
        LoadError: one of them does not load.
        BeforeUnloadFailed, Timeout: a current version does not let go.

    Whatever is raised, everything goes on as it was.
    """
    with upgrading:
        return _upgrade(changes)


def _upgrade(changes: Sequence[Change]) -> list[Report]:
    loaded: list[tuple[Change, Version]] = []
    try:
        with _visible(loaded) as note:
            for change in changes:
                note(change, change.module.load_next(change.build))
        for change in changes:
            call_before_unload(change.module.current, change.module.config.unload_timeout)
    except BaseException:
        for change, version in reversed(loaded):
            change.module.forget(version)
            retire(version)
        raise
    retiring = []
    for change, new in loaded:
        old = change.module.current
        upgrade_functions(old.held[0], new.held[0], change.module.functions)
        change.module.show(new)
        if change.action != "rollback":
            change.module.seen(change.build, again=change.action == "optimize")
        retiring.append((change, old, new))
    # Dependents first: what they have cimported can go only after them.
    reports = [
        report_of(
            change.module.name, change.action, old, new, _seconds(change, new), change.started
        )
        for change, old, new in reversed(retiring)
    ]
    return reports[::-1]


@contextmanager
def _visible(loaded: list[tuple[Change, Version]]) -> Iterator[Callable[[Change, Version], None]]:
    """What has been loaded is what the rest of the same upgrade cimports.

    Gives a function that notes one more. The public modules go on showing the current versions:
    only imports see the new ones, and only until the end.
    """
    publics = {}

    def note(change: Change, version: Version) -> None:
        loaded.append((change, version))
        publics[id(version.held[0])] = change.module.module
        sys.modules[change.module.name] = version.held[0]

    try:
        yield note
    finally:
        for change, version in loaded:
            sys.modules[change.module.name] = change.module.module
            namespace = vars(version.held[0])
            for name, value in list(namespace.items()):
                if id(value) in publics:
                    namespace[name] = publics[id(value)]


def _seconds(change: Change, new: Version) -> dict[str, float]:
    building = {} if change.action == "rollback" else change.build.seconds
    return {**building, **new.seconds}


def report_of(
    name: str,
    action: str,
    old: Version,
    new: Version | None,
    seconds: Mapping[str, float],
    started: float,
) -> Report:
    """Retire `old`, and say what became of it."""
    size = old.size
    pins = retire(old)
    phases = dict(seconds)
    for phase in ("collect", "unload"):
        if phase in old.seconds:
            phases[phase] = old.seconds[phase]
    phases["total"] = time.perf_counter() - started
    return Report(
        name,
        action,
        version=None if new is None else new.number,
        previous=old.number,
        seconds=phases,
        bytes=0 if pins else size,
        tier=None if new is None else new.build.tier,
        pins=pins,
    )
