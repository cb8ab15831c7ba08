"""Retired versions: no longer current, still mapped, waiting for their pins to go.

A thread looks after them while there are any. Most of what pins a version cannot say when it goes
(a name that is rebound, a thread that returns), so the thread looks, which costs about a tenth of a
millisecond for each version: often at first, then ever more rarely. When the last version is gone,
the thread ends.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from relib.live.unload import unload_version

if TYPE_CHECKING:
    from relib.live.pins import Pin
    from relib.live.version import Version

__all__ = ["on_unloaded", "reap", "retire", "retired"]

_log = logging.getLogger("relib")

_SOONEST = 0.01
_LATEST = 0.25
"""Seconds between two looks."""

_lock = threading.RLock()
_waiting: list[Version] = []
_wake = threading.Event()
_reaper: threading.Thread | None = None
_listeners: list[Callable[[Version], None]] = []


def retire(version: Version) -> tuple[Pin, ...]:
    """Give a version up: unload it now, or as soon as its pins are gone.

    It may be done again after it has been interrupted.

    Returns:
        Its pins; none when it has been unloaded.
    """
    with _lock:
        if version.state == "unloaded":
            return ()
        version.state = "retired"
        if version not in _waiting:
            _waiting.append(version)  # first, so that it is not lost whatever happens
    try:
        return unload_version(version)
    finally:
        if version in _sweep():
            with _lock:
                _look_after()


def retired() -> list[Version]:
    """The versions that are no longer current and still mapped, with fresh pins, holders and all.

    >>> retired()
    []
    """
    with _lock:
        versions = list(_waiting)
    for version in versions:
        unload_version(version, search=True)
    return _sweep()


def reap() -> list[Version]:
    """Try at once to unload what is retired.

    Not needed in most programs: a version goes by itself when the last thing that uses it does.

    Returns:
        The versions that went.

    >>> reap()
    []
    """
    with _lock:
        versions = list(_waiting)
    for version in versions:
        unload_version(version)
    _sweep()
    return [version for version in versions if version.state == "unloaded"]


def on_unloaded(listener: Callable[[Version], None]) -> None:
    """Call `listener` with each version whose code is gone."""
    _listeners.append(listener)


def _sweep() -> list[Version]:
    """Take off the list what has gone, and say so; what is left."""
    with _lock:
        gone = [version for version in _waiting if version.state == "unloaded"]
        _waiting[:] = [version for version in _waiting if version.state != "unloaded"]
        left = list(_waiting)
    for version in gone:
        _tell(version)
    return left


def _tell(version: Version) -> None:
    for listener in _listeners:
        try:
            listener(version)
        except Exception:
            # In the reaper's thread, or in the middle of an upgrade: both go on.
            _log.exception("%r raised when %s had been unloaded", listener, version.name)


# --- the reaper ----------------------------------------------------------------------------------


def _look_after() -> None:
    global _reaper
    _wake.set()
    if _reaper is None or not _reaper.is_alive():
        _reaper = threading.Thread(target=_run, name="relib-reaper", daemon=True)
        try:
            _reaper.start()
        except RuntimeError:
            _reaper = None  # the program is ending, or has no thread left: until the next time


def _run() -> None:
    global _reaper
    pause = _SOONEST
    while True:
        woken = _wake.wait(pause)
        _wake.clear()
        with _lock:
            versions = list(_waiting)
        for version in versions:
            unload_version(version, only_if_changed=True)
        _sweep()
        del versions
        pause = _SOONEST if woken else min(pause * 1.5, _LATEST)
        with _lock:
            if not _waiting:
                _reaper = None
                return


def _after_fork() -> None:
    """The child has the versions but not the thread."""
    global _lock, _wake, _reaper
    _lock = threading.RLock()
    _wake = threading.Event()
    _reaper = None
    if _waiting:
        _look_after()


os.register_at_fork(after_in_child=_after_fork)
