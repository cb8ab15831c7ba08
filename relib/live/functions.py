"""Functions keep their identity: whoever holds one runs the new code after an upgrade.

``from fast import f``, a callback in a list, a partial: each holds the function object itself. So
the old object is given what the new one is made of (csrc/upgrade.c), and stays. A function of the
module is followed by its name in the namespace, also behind ``functools.lru_cache`` and other
decorators that leave a ``__wrapped__``; one that is no longer there keeps its old code.
"""

from __future__ import annotations

import functools
import weakref
from types import BuiltinFunctionType, ModuleType
from typing import Any, TypeAlias

from relib import _native

__all__ = ["Identities", "upgrade_functions"]

Identities: TypeAlias = dict[str, list["weakref.ref[Any]"]]
"""For each name the objects that have ever stood for it and are still held: functions, and what
``functools.lru_cache`` made of them."""

_KINDS = ("cython_function_or_method", "fused_cython_function")


def upgrade_functions(old: ModuleType, new: ModuleType, identities: Identities) -> None:
    """Give the functions of `old` the code of those of `new`, and keep them under their names.

    Args:
        old: the module object of the version that was current; keeps functions of its own for what
            is left of it.
        new: the module object of the version that becomes current.
        identities: function objects of earlier versions; brought up to date.
    """
    old_names, new_names = vars(old), vars(new)
    before = {name: own for name, value in old_names.items() if (own := _own(value, old))}
    after = {name: own for name, value in new_names.items() if (own := _own(value, new))}
    done: dict[int, Any] = {}
    kept: Identities = {}
    for name, newer in after.items():
        alive = [function for ref in identities.get(name, ()) if (function := ref()) is not None]
        if name in before and all(function is not before[name] for function in alive):
            alive.append(before[name])
        followers = [function for function in alive if type(function) is type(newer)]
        for function in followers:
            if id(function) not in done and function is not newer:
                done[id(function)] = _native.become(function, newer)
                _take_attributes(function, newer)
        if followers and new_names[name] is newer:
            new_names[name] = followers[0]
        remembering = [value for value in (*alive, old_names.get(name)) if _remembers(value)]
        for value in remembering:
            value.cache_clear()  # the results were the old code's
        stand_ins = {id(value): value for value in (*followers, newer, *remembering)}
        kept[name] = [weakref.ref(value) for value in stand_ins.values()]
    for name, value in list(old_names.items()):
        if id(value) in done:
            old_names[name] = done[id(value)]
    identities.clear()
    identities.update(kept)


def _take_attributes(function: Any, newer: Any) -> None:
    """Let the attributes follow that the module's body gave the function; the program's stay."""
    attributes = getattr(function, "__dict__", None)
    if attributes is None:  # a built-in function
        return
    # What functools.wraps leaves here tells of the old code and holds it (__wrapped__, and from
    # Python 3.14 on __annotate__); the decorator may be gone.
    for name in [name for name in attributes if name[:2] == name[-2:] == "__"]:
        del attributes[name]
    attributes.update(vars(newer))


def _own(value: Any, module: ModuleType) -> Any | None:
    """The function of the module's own that a value is, or wraps; None if there is none."""
    for _ in range(8):  # decorators on one function
        kind = type(value)
        if kind is BuiltinFunctionType:
            return value if value.__self__ is module else None
        if kind.__name__ in _KINDS:
            return value if value.__globals__ is vars(module) else None
        value = getattr(value, "__wrapped__", None)
        if value is None:
            return None
    return None


def _remembers(value: Any) -> bool:
    return isinstance(value, functools._lru_cache_wrapper)
