"""Reloads modules that belong together, and those that cimport them, in one step."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from relib.live.report import Report
from relib.live.upgrade import Change, upgrade, upgrading

if TYPE_CHECKING:
    from relib.building.builder import Build
    from relib.live.module import Module

__all__ = ["in_order", "reload_together"]


def reload_together(modules: Iterable[Module], *, force: bool = False) -> list[Report]:
    """Build what has changed, and run all of the new versions or none.

    A loaded module that cimports one of them has pointers into it, and is loaded anew with it.

    Args:
        modules: which modules to look at.
        force: load them anew even if nothing has changed.

    Returns:
        A report for each module that was upgraded, in the order of their dependence; none when
        nothing had changed.

    Raises:
        BuildError: one of them does not build.
        LoadError: one of them does not load.
        BeforeUnloadFailed, Timeout: a current version does not let go.
    """
    from relib.live.load import modules as loaded

    wanted = {module.name: module for module in modules}
    everything = {**loaded(), **wanted}
    started = time.perf_counter()
    builds = _build(wanted.values())
    if not any(force or module.is_news(builds[name]) for name, module in wanted.items()):
        return []
    concerned = _with_dependents(set(wanted), everything)
    builds |= _build(everything[name] for name in concerned - set(wanted))
    with upgrading:
        # Another thread may have come first.
        news = {name for name, module in wanted.items() if force or module.is_news(builds[name])}
        names = _with_dependents(news, everything) if news else set()
        changes = [
            Change(module, builds[module.name], "reload", started)
            for module in in_order(everything.values())
            if module.name in names
        ]
        return upgrade(changes)


def _build(modules: Iterable[Module]) -> dict[str, Build]:
    """The builds of the sources as they are now."""
    modules = list(modules)
    if len(modules) < 2:
        return {module.name: module.next_build() for module in modules}
    with ThreadPoolExecutor(min(len(modules), modules[0].config.jobs)) as pool:
        return dict(pool.map(lambda module: (module.name, module.next_build()), modules))


# --- who cimports whom ---------------------------------------------------------------------------


def _needs(module: Module, other: Module) -> bool:
    """Whether one module has cimported the other: it was built from its .pxd file."""
    source = other.build.source
    interface = source.with_suffix(".pxd")
    return module is not other and (
        interface in module.build.inputs or source in module.build.inputs
    )


def _with_dependents(names: set[str], modules: dict[str, Module]) -> set[str]:
    found = set(names)
    while True:
        more = {
            name
            for name, module in modules.items()
            if name not in found and any(_needs(module, modules[known]) for known in found)
        }
        if not more:
            return found
        found |= more


def in_order(modules: Iterable[Module]) -> list[Module]:
    """The modules, each after those that it cimports.

    Modules that cimport one another in a circle come in the order of their names.
    """
    left = sorted(modules, key=lambda module: module.name)
    ordered: list[Module] = []
    while left:
        ready = [m for m in left if not any(_needs(m, other) for other in left)] or left[:1]
        ordered += ready
        left = [module for module in left if module not in ready]
    return ordered
