"""An upgrade: new versions take the place of current ones, all of them or none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from relib.free_in_child import free_in_child
from relib.live.before_unload import call_before_unload
from relib.live.being_loaded import visible_here
from relib.live.carrying_out import carry_out
from relib.live.functions import plan_functions, upgrade_functions
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

    Whatever of these is raised, everything goes on as it was; but an earlier module's
    ``before_unload()`` that has succeeded has been called all the same.
    """
    with upgrading:
        return _upgrade(changes)


def _upgrade(changes: Sequence[Change]) -> list[Report]:
    loaded: list[tuple[Change, Version]] = []
    committed: list[tuple[Change, Version, Version]] = []
    try:
        with visible_here() as show:
            for change in changes:
                version = change.module.load_next(change.build, show)
                loaded.append((change, version))
        for change in changes:
            call_before_unload(change.module.current, change.module.config.unload_timeout)
        failure = _commit(loaded, committed)
    except BaseException as error:
        if not committed:
            for change, version in reversed(loaded):
                change.module.forget(version)
                retire(version)
            raise
        failure = error
    reports: dict[str, Report] = {}

    def report(change: Change, old: Version, new: Version) -> None:
        reports[change.module.name] = report_of(
            change.module.name, change.action, old, new, _seconds(change, new), change.started
        )

    # Dependents first: what they have cimported can go only after them.
    failure = carry_out([partial(report, *entry) for entry in reversed(committed)]) or failure
    if failure is not None:
        try:
            raise failure
        finally:
            failure = None  # it refers to this frame
    return [reports[change.module.name] for change in changes]


def _commit(
    loaded: Sequence[tuple[Change, Version]], committed: list[tuple[Change, Version, Version]]
) -> BaseException | None:
    """Make the new versions the current ones.

    Args:
        loaded: all of them.
        committed: filled with each change, its old and its new version, before anything is changed.

    Returns:
        What was raised on the way, which has not kept it from being finished.
    """
    entries = [(change, change.module.current, new) for change, new in loaded]
    steps = _steps(entries)
    steps.insert(0, partial(committed.__setitem__, slice(None), entries))
    return carry_out(steps)


def _steps(entries: Iterable[tuple[Change, Version, Version]]) -> list[Callable[[], object]]:
    steps: list[Callable[[], object]] = []
    for change, old, new in entries:
        module = change.module
        plan = plan_functions(old.held[0], new.held[0], module.functions)
        steps += [
            partial(upgrade_functions, plan, old.held[0], new.held[0], module.functions),
            partial(module.show, new),
        ]
        if change.action != "rollback":
            steps.append(partial(module.seen, change.build, again=change.action == "optimize"))
    return steps


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
