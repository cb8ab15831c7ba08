"""What is loaded, by public name."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from relib.errors import AlreadyLoaded

if TYPE_CHECKING:
    from relib.live.module import Module

__all__ = ["get", "modules", "note", "on_noted", "present"]

_log = logging.getLogger("relib")

_loaded: dict[str, Module] = {}
_listeners: list[Callable[[], None]] = []


def get(name: str) -> Module | None:
    """The loaded module of this public name, or None.

    >>> get("nothing.of.that.name") is None
    True
    """
    module = _loaded.get(name)
    if module is not None and module.unloaded:
        _loaded.pop(name, None)
        return None
    return module


def modules() -> dict[str, Module]:
    """All that is loaded, by public name.

    >>> isinstance(modules(), dict)
    True
    """
    return {name: module for name in list(_loaded) if (module := get(name)) is not None}


def note(module: Module) -> None:
    """A module has been loaded, or has another version."""
    _loaded[module.name] = module
    for listener in _listeners:
        try:
            listener()
        except Exception:
            # It is loaded, and what is under way goes on, whatever becomes of those who are told.
            _log.exception("%r raised when %s had been loaded", listener, module.name)


def on_noted(listener: Callable[[], None]) -> None:
    """Call `listener`, in whatever thread it happens, when a module is loaded or upgraded."""
    _listeners.append(listener)


def present(name: str, source: Path) -> Module | None:
    """The module that is loaded under this name already, if it is the one that is meant.

    Raises:
        AlreadyLoaded: the name belongs to another source, or to a module that relib did not load.
    """
    there = get(name)
    if there is not None:
        if there.extension.main == source:
            return there
        raise AlreadyLoaded(
            f"{name} is loaded from {there.extension.main}, so {source} cannot be; unload it "
            f"first, or give the other one another name (name=...)",
            name=name,
            path=source,
        )
    other = sys.modules.get(name)
    if other is not None:
        origin = getattr(other, "__file__", None) or "the program itself"
        raise AlreadyLoaded(
            f"{name} has been imported already, from {origin}; load {source} before anything "
            f"imports it, or give it another name (name=...)",
            name=name,
            path=source,
        )
    return None
