"""Reloads modules that belong together, and those that cimport them, in one step."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from relib.building.several import several
from relib.errors import BuildGone
from relib.live.report import Report
from relib.live.upgrade import Change, upgrade, upgrading

if TYPE_CHECKING:
    from relib.building.builder import Build
    from relib.live.module import Module

__all__ = ["in_order", "reload_together", "with_dependents"]


def reload_together(
    modules: Iterable[Module],
    *,
    force: bool = False,
    builds: Mapping[str, Build] | None = None,
    started: float | None = None,
    action: str = "reload",
) -> list[Report]:
    """Build what has changed, and run all of the new versions or none.

    A loaded module that cimports one of them has pointers into it, and is loaded anew with it.

    Args:
        modules: which modules to look at.
        force: load them anew even if nothing has changed.
        builds: what to run, by name, of those that have been built for this already.
        action: ``"reload"``, or ``"optimize"`` for builds of the contents that run already.
        started: when that began, in the time of `time.perf_counter`; by default, now.

    Returns:
        A report for each module that was upgraded, in the order of their dependence; none when
        nothing had changed.

    Raises:
        BuildError: one of them does not build.
        LoadError: one of them does not load.
        BeforeUnloadFailed, Timeout: a current version does not let go.
    """
    wanted = {module.name: module for module in modules}
    started = time.perf_counter() if started is None else started
    try:
        return _reload(wanted, dict(builds or {}), force, started, action)
    except BuildGone:
        # Somebody has made room in the store between the two steps.
        return _reload(wanted, {}, force, started, action)


def _reload(
    wanted: Mapping[str, Module],
    builds: dict[str, Build],
    force: bool,
    started: float,
    action: str,
) -> list[Report]:
    from relib.live.load import modules as loaded

    everything = {**loaded(), **wanted}
    builds |= _build(module for name, module in wanted.items() if name not in builds)
    news = {name for name, module in wanted.items() if force or module.is_news(builds[name])}
    concerned = with_dependents(news, everything, builds)
    dependents = [everything[name] for name in concerned - builds.keys()]
    builds |= _build(module for module in dependents if not module.unloaded)
    with upgrading:
        # Another thread may have come first, and reloaded or unloaded some of them.
        news = {name for name in news if wanted[name].is_news(builds[name]) or force}
        everything = {name: module for name, module in everything.items() if not module.unloaded}
        names = with_dependents(news, everything, builds)
        changes = [
            Change(module, builds[module.name], action, started)
            for module in in_order(everything.values(), builds)
            if module.name in names
        ]
        return upgrade(changes)


def _build(modules: Iterable[Module]) -> dict[str, Build]:
    """The builds of the sources as they are now."""
    modules = list(modules)
    jobs = max((module.config.jobs for module in modules), default=1)
    builds = several(lambda module: module.next_build(), modules, jobs=jobs)
    return {module.name: build for module, build in zip(modules, builds, strict=True)}


# --- who cimports whom---------------------------------------------------------------------------


def _needs(modules: Iterable[Module], builds: Mapping[str, Build]) -> dict[str, set[str]]:
    """Which others each module cimports: those from whose .pxd files it was built.

    What counts is what it is going to run: a new build may cimport what the current one does not.
    """
    modules = list(modules)
    providers: dict[Path, set[str]] = {}
    for module in modules:
        source = builds.get(module.name, module.build).source
        for path in (source, source.with_suffix(".pxd")):
            providers.setdefault(path, set()).add(module.name)
    return {
        module.name: {
            name
            for path in builds.get(module.name, module.build).inputs
            for name in providers.get(path, ())
        }
        - {module.name}
        for module in modules
    }


def with_dependents(
    names: set[str], modules: Mapping[str, Module], builds: Mapping[str, Build]
) -> set[str]:
    """These modules and all that cimport them, directly or not.

    Args:
        names: of the modules.
        modules: all that there are.
        builds: what they are going to run, by name, where that is not what they run now.
    """
    if not names:
        return set()
    needs = _needs(modules.values(), builds)
    found = set(names)
    while more := {name for name, needed in needs.items() if name not in found and needed & found}:
        found |= more
    return found


def in_order(modules: Iterable[Module], builds: Mapping[str, Build]) -> list[Module]:
    """The modules, each after those that it cimports; see `with_dependents`.

    Modules that cimport one another in a circle come in the order of their names.
    """
    left = {module.name: module for module in sorted(modules, key=lambda module: module.name)}
    needs = _needs(left.values(), builds)
    ordered: list[Module] = []
    while left:
        ready = [name for name in left if not needs[name] & left.keys()] or [next(iter(left))]
        ordered += [left.pop(name) for name in ready]
    return ordered
