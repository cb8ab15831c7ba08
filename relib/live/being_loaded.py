"""While an upgrade loads new versions, they are what its own thread sees behind the public modules.

The body of a new version imports the public module of another that is upgraded with it, or its own
(``sys.modules[__name__]``, as `dataclasses` and `enum` do), keeps the object for good, and has to
see the new names behind it at once. The rest of the program goes on seeing the current ones. So
for as long as the bodies run, the public modules are of a class that asks who is looking.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

__all__ = ["Show", "visible_here"]

Show = Callable[[ModuleType, ModuleType], None]
"""Puts a new module object behind a public one."""

# By thread and public module: the new module object. No version is to live by it.
_new: dict[tuple[int, int], weakref.ref[ModuleType]] = {}
# By public module: itself, and the class that it is of else.
_usual: dict[int, tuple[ModuleType, type[ModuleType]]] = {}


@contextmanager
def visible_here() -> Iterator[Show]:
    """Gives a function that shows a new module object behind a public one, to this thread alone.

    At the end everybody sees again what was there before.
    """
    thread = threading.get_ident()
    before: dict[tuple[int, int], weakref.ref[ModuleType] | None] = {}

    def show(public: ModuleType, new: ModuleType) -> None:
        key = thread, id(public)
        before.setdefault(key, _new.get(key))
        if id(public) not in _usual:
            usual = type(public)
            _usual[id(public)] = public, usual
            ModuleType.__setattr__(public, "__class__", _class_for(usual))
        _new[key] = weakref.ref(new)

    try:
        yield show
    finally:
        for key, earlier in before.items():
            if earlier is not None:  # a body that is running has asked for another upgrade
                _new[key] = earlier
                continue
            _new.pop(key, None)
            _restore(key[1])


class _Upgrading(ModuleType):
    """What a public module object is of while a new version is being loaded."""

    def __getattribute__(self, attribute: str) -> object:
        new = _behind(self)
        if new is None:
            return _usual_class(self).__getattribute__(self, attribute)
        return getattr(new, attribute)

    def __setattr__(self, attribute: str, value: object) -> None:
        new = _behind(self)
        if new is None:
            _usual_class(self).__setattr__(self, attribute, value)
        else:
            setattr(new, attribute, value)

    def __delattr__(self, attribute: str) -> None:
        new = _behind(self)
        if new is None:
            _usual_class(self).__delattr__(self, attribute)
        else:
            delattr(new, attribute)


def _class_for(usual: type[ModuleType]) -> type[ModuleType]:
    return _Upgrading if usual is ModuleType else type("module", (_Upgrading, usual), {})


def _usual_class(public: ModuleType) -> type[ModuleType]:
    # Not super(): another thread may give the module its usual class back at any moment.
    usual = _usual.get(id(public))
    return type(public) if usual is None else usual[1]


def _behind(public: ModuleType) -> ModuleType | None:
    reference = _new.get((threading.get_ident(), id(public)))
    return None if reference is None else reference()


def _restore(identity: int) -> None:
    if identity in _usual:
        public, usual = _usual[identity]
        ModuleType.__setattr__(public, "__class__", usual)
        del _usual[identity]


def _after_fork() -> None:
    """The thread that loads is in the child only if it is the one that has forked."""
    thread = threading.get_ident()
    for key in list(_new):
        if key[0] != thread:
            del _new[key]
            _restore(key[1])


os.register_at_fork(after_in_child=_after_fork)
