"""Loads the anchors before the first reloadable Cython module; see :mod:`relib.building.anchor`."""

from __future__ import annotations

import importlib
import sys
import threading
from importlib.machinery import ModuleSpec
from types import ModuleType

from relib import _native
from relib.building import anchor
from relib.errors import LoadError
from relib.free_in_child import free_in_child

__all__ = ["ensure", "types_owned_by"]

_lock = free_in_child(threading.RLock())
_ensured: set[str] = set()
_abi_modules: list[ModuleType] = []
_modules_seen = 0


def ensure(cython: str) -> None:
    """Load the anchors for modules translated with this version of Cython.

    Those for the Cython that relib was installed with come with relib; others are built the first
    time they are asked for, and kept.

    Raises:
        BuildMismatch: they need another Cython than the one that is installed.
        LoadError: they cannot be loaded.
        BuildError: they cannot be built.
    """
    if cython in _ensured:
        return
    with _lock:
        if cython in _ensured:
            return
        for name in anchor.names(cython):
            try:
                importlib.import_module(name)
            except ImportError as error:
                if not isinstance(error, ModuleNotFoundError) or error.name != name:
                    raise _does_not_load(name, error) from error
                _load(name, cython)
        # Instances of these point into the module that made them; see csrc/instances.h.
        shared = vars(sys.modules[anchor.names(cython)[0]])
        for name in ("memoryview", "_memoryviewslice", "array"):
            if name in shared:
                _native.watch_instances(shared[name])
        _ensured.add(cython)


def _does_not_load(name: str, error: Exception) -> LoadError:
    return LoadError(f"the anchor {name} does not load: {error}", name=name)


def _load(name: str, cython: str) -> None:
    """Build an anchor that relib was not installed with, and load it for good."""
    build = anchor.build(name, cython)
    build.hold()  # for good: the library object may go, the mapping stays
    try:
        library = _native.Library(str(build.library))
        spec = ModuleSpec(name, None, origin=str(build.library))
        module, executed = _native.create(library, f"PyInit_{build.unique_name}", spec)
        sys.modules[name] = module
        if not executed:
            _native.execute(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if not isinstance(error, Exception):
            raise
        raise _does_not_load(name, error) from error


def types_owned_by(library: _native.Library) -> tuple[str, ...]:
    """The shared types whose code lies in `library`.

    There should be none: the anchors own them all. A module that is compiled so that Cython gives
    its ABI module yet another name (with profiling, say) owns its own, and then can never go.
    """
    global _modules_seen
    if len(sys.modules) != _modules_seen:
        _abi_modules[:] = [
            module
            for name, module in list(sys.modules.items())
            if name.startswith("_cython_") and isinstance(module, ModuleType)
        ]
        _modules_seen = len(sys.modules)
    return tuple(
        name for module in _abi_modules for name in _native.types_inside(module.__dict__, library)
    )
