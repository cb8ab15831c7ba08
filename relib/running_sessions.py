"""The sessions that run in this process: what they are told, their end, and what a fork does."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import TYPE_CHECKING

from relib.live.loaded import on_noted
from relib.live.retired import on_unloaded

if TYPE_CHECKING:
    from relib.live.version import Version
    from relib.session import Session

__all__ = ["add"]

_FORK_WAIT = 5.0
"""Seconds that a fork waits for an upgrade under way."""

_sessions: weakref.WeakSet[Session] = weakref.WeakSet()
_holding = threading.local()  # several threads may fork at the same time


def add(session: Session) -> None:
    """A session has been started."""
    _sessions.add(session)


def _running() -> list[Session]:
    return [session for session in list(_sessions) if session.running]


def _tell_of_module() -> None:
    for session in _running():
        session.note_module()


def _tell_of_version(version: Version) -> None:
    for session in _running():
        session.note_gone(version)


def _stop_all() -> None:
    """At the program's end: a thread that upgrades while Python is taken down would crash."""
    for session in _running():
        session.stop(timeout=1.0)


def _before_fork() -> None:
    # A child that is made in the middle of an upgrade would have half of it. Not for ever: a
    # callback may wait for the thread that forks.
    _holding.sessions = [each for each in _running() if each.hold_upgrades(_FORK_WAIT)]


def _after_fork_in_parent() -> None:
    for session in _holding.sessions:
        session.release_upgrades()


def _after_fork_in_child() -> None:
    for session in _running():
        session.begin_in_child()


on_noted(_tell_of_module)
on_unloaded(_tell_of_version)
atexit.register(_stop_all)
os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
