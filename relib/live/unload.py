"""The unload checklist: shows that nothing uses a version's code, then unmaps it.

Every step either clears something or names a pin, and until all of them are clear nothing has been
broken: the version goes on working.
"""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from relib import _native
from relib.live.pins import Pin, object_pins, signal_pin, thread_pin

if TYPE_CHECKING:
    from relib.live.version import Version

__all__ = ["unload_version"]

# One version at a time. Reentrant: finalizers run in here, and may unload something themselves.
_unloading = threading.RLock()
_PATIENCE = 1.0
"""Seconds to wait for another thread that unloads. No longer: a finalizer that it runs may wait for
a lock of ours, `upgrading` or one of the program's. Whoever gives up leaves it to the reaper."""
_in_hand: set[Version] = set()
"""What is being unloaded, by the thread that has the lock: a finalizer may ask for it again."""
_paused = False
"""Whether the collector is off, and for no longer than one collection."""


def _after_fork() -> None:
    global _unloading
    # The thread that held it, and was to put everything right again, is not in the child.
    _unloading = threading.RLock()
    _in_hand.clear()
    _native.disarm()
    _resume()


def _resume() -> None:
    global _paused
    if _paused:
        _paused = False
        gc.enable()


os.register_at_fork(after_in_child=_after_fork)


def unload_version(
    version: Version, *, search: bool | None = None, only_if_changed: bool = False
) -> tuple[Pin, ...]:
    """Unmap a version that relib no longer needs, or say what is in the way.

    Args:
        version: a version that is not current.
        search: whether to look for the holders of pinned objects, which takes time for each object
            of the program; by default where there are few enough.
        only_if_changed: leave it when as much refers to its objects as the last time.

    Returns:
        The pins, which are also kept on the version; none when its code is gone.
    """
    lock = _unloading
    if not lock.acquire(timeout=_PATIENCE):
        return (Pin("unknown", "another thread is unloading something, and has not come to it"),)
    try:
        if version in _in_hand:
            return (Pin("unknown", "it is being unloaded, and this call comes from a finalizer"),)
        _in_hand.add(version)
        try:
            _look(version, search, only_if_changed)
        finally:
            _in_hand.discard(version)
        return version.pins
    finally:
        lock.release()


def _look(version: Version, search: bool | None, only_if_changed: bool) -> None:
    if version.state == "unloaded":
        return
    try:
        # Below 0: not known, so that the next look is a whole one.
        outside = _outside(version) if only_if_changed else -1
        if outside <= 0 or outside != version.outside:
            version.pins = _unload(version, search)
            version.outside = outside
    except Exception as error:
        # Nothing has been shown, so nothing may go; and whoever loads the next version, or looks
        # after the retired ones, can do no more about it.
        version.pins = (Pin("unknown", f"what uses it cannot be told: {error!r}"),)


def _outside(version: Version) -> int:
    """How many references there are to its objects from elsewhere."""
    if not version.held:
        return 0
    return sum(count for _, count in _native.held_from_outside(version.held, version.library))


def _unload(version: Version, search: bool | None) -> tuple[Pin, ...]:
    library = version.library
    if not library.handle:
        return _still_mapped(version)
    started = time.perf_counter()
    pins = _registered(version) or _referred(version, search) or _executing(library)
    if pins:
        return pins
    # Nothing outside refers to any of its objects. Dropping them may still run code: theirs.
    pins = _let_instances_go(version, search) or _views(version)
    if pins:
        return pins
    watched = _give_up(version)
    pins = _survivors(version, watched) or _threads(library)
    version.seconds["collect"] = time.perf_counter() - started
    if pins:
        return pins
    started = time.perf_counter()
    gone = library.close()
    version.seconds["unload"] = time.perf_counter() - started
    return _gone(version) if gone else _still_mapped(version)


# --- 1. what it has registered --------------------------------------------------------------------


def _registered(version: Version) -> tuple[Pin, ...]:
    library = version.library
    uses = library.uses
    pins: list[Pin] = []
    if version.shared_types:
        pins.append(
            Pin(
                "shared type",
                f"other Cython modules share its type {', '.join(version.shared_types)}",
                len(version.shared_types),
            )
        )
    if uses & _native.USES_FOR_EVER:
        pins.append(Pin("for ever", "it may have registered a hook that Python never takes back"))
    if uses & _native.USES_LOOSE or version.revived:
        pins.append(
            Pin("for ever", "it has made an object that cannot be watched and may still be in use")
        )
    # Python makes a type ready that the library has not, when it is first used.
    pins += [
        Pin("static type", f"its type {name} is static", type=name)
        for name in library.static_types()
    ]
    if uses & _native.USES_SIGNALS and (signals := _native.signal_handlers(library.lo, library.hi)):
        pins.append(signal_pin(signals))
    if uses & _native.USES_KEYS and (keys := _native.thread_keys(library.lo, library.hi)):
        pins.append(
            Pin("key", f"it is the destructor of {len(keys)} thread-specific keys", len(keys))
        )
    if uses & _native.USES_REGISTRIES:
        pins += _pointers(library)
    return tuple(pins)


def _pointers(library: _native.Library) -> list[Pin]:
    found: dict[str, int] = {}
    for path, symbol, _offset, _target in _native.pointers_into(library.lo, library.hi):
        where = f"{symbol} of " if symbol else ""
        words = f"{where}{Path(path).name or 'the program'} points into its code"
        found[words] = found.get(words, 0) + 1
    return [Pin("pointer", words, count) for words, count in found.items()]


# --- 2. who refers to its objects -----------------------------------------------------------------


def _referred(version: Version, search: bool | None) -> tuple[Pin, ...]:
    if not version.held:
        return ()
    outside = _native.held_from_outside(version.held, version.library)
    if outside:
        # Garbage that the program has just made and not collected yet does not count.
        outside.clear()
        gc.collect(0)
        outside = _native.held_from_outside(version.held, version.library)
    return object_pins(
        outside, lambda: _native.members(version.held, version.library), search=search
    )


def _views(version: Version) -> tuple[Pin, ...]:
    found = _native.instances_into(version.library)
    if found and version.held:
        # Its own, which nobody else holds, go with it.
        own = {id(member) for member in _native.members(version.held, version.library)}
        found = [view for view in found if id(view[0]) not in own]
    return object_pins(found, list)


def _let_instances_go(version: Version, search: bool | None) -> tuple[Pin, ...]:
    """Free the instances of its classes while all of its code still works.

    A ``__dealloc__`` or ``__del__`` may use whatever the module has, and may hand some of it to the
    program, which then pins the version.
    """
    # Nor can a view of Cython's tell who uses it: an instance keeps a bare pointer to one.
    if not version.held or not version.library.instances:
        return ()
    # First the names that lead to instances, then those of what they have used; as at Python's own
    # end they are set to None, the last one first.
    for names in (
        _native.names_of_instances(version.held, version.library),
        list(vars(version.held[0])),
    ):
        _collect(version, names)
        pins = _referred(version, search)
        if pins:
            return pins
    return ()


def _give_up(version: Version) -> bool:
    """Free all of it; whether some of it is watched by weak references alone."""
    if not version.held:
        return False
    watched = any(reference() is not None for reference in version.library.created)
    _collect(version, None)
    return watched


def _collect(version: Version, names: list[str] | None) -> None:
    """Free what only these names of the module's refer to; None: all of it, and the module."""
    global _paused
    automatic = gc.isenabled()
    if automatic:
        _paused = True
        gc.disable()  # a collection on the way would take them out of the youngest generation again
    try:
        _native.rejuvenate(version.held, version.library, names is None)
        if names is None:
            version.held.clear()
        else:
            _forget(vars(version.held[0]), names)
        gc.collect(0)
    finally:
        _native.disarm()
        if automatic:
            _resume()


def _forget(namespace: dict[str, object], names: list[str]) -> None:
    for name in reversed(names):
        if not (isinstance(name, str) and name.startswith("__") and name.endswith("__")):
            namespace[name] = None


def _survivors(version: Version, watched: bool) -> tuple[Pin, ...]:
    library = version.library
    alive: list[tuple[object, int]] = []
    module = version.alive()
    if module is None and library.keeper is not None:
        # A finalizer has brought it back, after the collector had cleared the weak references.
        module = library.keeper.module
        if module is None:
            return (Pin("object", "what ties its namespace to its module"),)
        version.alive = weakref.ref(module)
        version.revived |= watched
    if module is not None:
        version.held.append(module)  # to look at it again next time
        del module
        return _referred(version, None) or (
            Pin("object", "the module object, which the collector has not come to"),
        )
    for reference in library.created:
        thing = reference()
        if thing is not None:
            alive.append((thing, 1))
    thing = None
    pins = object_pins(alive, list)
    alive.clear()
    pins += _views(version)
    if library.capsules:
        pins += (Pin("capsule", f"{library.capsules} capsules point into it", library.capsules),)
    return pins


# --- 3. who executes its code ---------------------------------------------------------------------


def _executing(library: _native.Library) -> tuple[Pin, ...]:
    pins = _threads(library)
    if not pins and _native.calls_on_own_stack(library.lo, library.hi):
        pins = (Pin("stack", "this call comes from its own code"),)
    return pins


def _threads(library: _native.Library) -> tuple[Pin, ...]:
    found = _native.threads_inside(library.lo, library.hi)
    return tuple(thread_pin(number, how) for number, how in found)


# --- 4. whether it has gone -----------------------------------------------------------------------


def _still_mapped(version: Version) -> tuple[Pin, ...]:
    if version.library.is_mapped():
        return (
            Pin("mapped", "the loader keeps it: a thread_local destructor of its is still to run"),
        )
    return _gone(version)


def _gone(version: Version) -> tuple[Pin, ...]:
    # Not sooner: as long as the loader keeps the library, opening its file gives it out again, data
    # and all.
    version.forget_path()
    version.state = "unloaded"
    return ()
