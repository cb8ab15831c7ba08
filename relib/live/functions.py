"""Functions keep their identity: whoever holds one runs the new code after an upgrade.

``from fast import f``, a callback in a list, a partial: each holds the function object itself. So
the old object is given what the new one is made of (csrc/upgrade.c), and stays. A function of the
module is followed by its name in the namespace, also behind ``functools.lru_cache`` and other
decorators that leave a ``__wrapped__``; one that is no longer there keeps its old code.
"""

from __future__ import annotations

import functools
import weakref
from dataclasses import dataclass, field
from types import BuiltinFunctionType, ModuleType
from typing import Any, TypeAlias

from relib import _native

__all__ = ["Identities", "Plan", "plan_functions", "upgrade_functions"]

Identities: TypeAlias = dict[str, list["weakref.ref[Any]"]]
"""For each name the objects that have ever stood for it and are still held: functions, and what
``functools.lru_cache`` made of them."""

_KINDS = ("cython_function_or_method", "fused_cython_function")


@dataclass(slots=True)
class Plan:
    """What is to become of the functions of a module in one upgrade."""

    becoming: list[tuple[Any, Any]] = field(default_factory=list)
    """Functions that stay, with those whose code they are given."""
    names: dict[str, Any] = field(default_factory=dict)
    """What the names of the new version stand for, where that is a function that stays."""
    remembering: list[Any] = field(default_factory=list)
    """What remembers the results of the old code."""
    identities: Identities = field(default_factory=dict)
    """As they are after the upgrade."""
    husks: dict[int, Any] = field(default_factory=dict)
    """What is left of the old functions, by the id of those that stay. Filled in the upgrade."""


def plan_functions(old: ModuleType, new: ModuleType, identities: Identities) -> Plan:
    """What is to become of the functions when `new` takes the place of `old`; changes nothing.

    Args:
        old: the module object of the version that is current.
        new: the module object of the version that becomes current.
        identities: function objects of earlier versions.
    """
    before, after = _functions(old), _functions(new)
    old_names = dict(vars(old))
    plan = Plan()
    newer_of: dict[int, Any] = {}
    shown: dict[int, Any] = {}

    # A function that has several names follows the one that it was defined with.
    def is_alias(name: str) -> bool:
        return getattr(before.get(name), "__name__", name) != name

    for name in sorted(after, key=is_alias):
        newer = after[name]
        alive = [function for ref in identities.get(name, ()) if (function := ref()) is not None]
        if name in before and all(function is not before[name] for function in alive):
            alive.append(before[name])
        followers = []
        for function in alive:
            if type(function) is not type(newer):
                continue
            if function is not newer and id(function) not in newer_of:
                plan.becoming.append((function, newer))
                newer_of[id(function)] = newer
            if newer_of.get(id(function), function) is newer:
                followers.append(function)
        if followers and vars(new)[name] is newer:
            plan.names[name] = shown.setdefault(id(newer), followers[0])
        remembering = [value for value in (*alive, old_names.get(name)) if _remembers(value)]
        plan.remembering += remembering
        stand_ins = {id(value): value for value in (*followers, newer, *remembering)}
        plan.identities[name] = [weakref.ref(value) for value in stand_ins.values()]
    return plan


def upgrade_functions(plan: Plan, old: ModuleType, new: ModuleType, identities: Identities) -> None:
    """Carry out a plan. It may be done again after it has been interrupted.

    Args:
        plan: for `old`, `new` and `identities`.
        old: keeps functions of its own for what is left of it.
        new: keeps the functions that the program may hold under their names.
        identities: brought up to date.
    """
    for function, newer in plan.becoming:
        if id(function) not in plan.husks:
            _native.become(function, newer, plan.husks)
        _take_attributes(function, newer)
    vars(new).update(plan.names)
    for name, value in dict(vars(old)).items():
        if id(value) in plan.husks:
            vars(old)[name] = plan.husks[id(value)]
    for value in plan.remembering:
        value.cache_clear()
    identities.clear()
    identities.update(plan.identities)


def _functions(module: ModuleType) -> dict[str, Any]:
    names = dict(vars(module))  # other threads may use it
    return {name: own for name, value in names.items() if (own := _own(value, module))}


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
        # Not every object is to be asked: a module or a stand-in may be loaded by the question.
        if not callable(value) or issubclass(kind, ModuleType):
            return None
        try:
            value = value.__wrapped__
        except Exception:
            return None
    return None


def _remembers(value: Any) -> bool:
    return isinstance(value, functools._lru_cache_wrapper)
