"""Locks that a forked child finds free, whichever thread of its parent held them."""

from __future__ import annotations

import os
from typing import Any, TypeVar

__all__ = ["free_in_child"]

Lock = TypeVar("Lock")


def free_in_child(lock: Lock) -> Lock:
    """Have a lock released in every child: the thread that held it is not there.

    It stays the same lock, since others may have imported it. The one thing that is there, the
    thread that has forked, keeps what it holds. logging does the same with its locks (CPython 3.11
    to 3.15, Lib/logging/__init__.py).

    Args:
        lock: of the module `threading`, and as long-lived as the process.

    >>> import threading
    >>> lock = free_in_child(threading.Lock())
    """
    inner: Any = lock

    def after_fork() -> None:
        is_owned = getattr(inner, "_is_owned", None)  # a plain lock does not know
        if is_owned is None or not is_owned():
            inner._at_fork_reinit()

    os.register_at_fork(after_in_child=after_fork)
    return lock
