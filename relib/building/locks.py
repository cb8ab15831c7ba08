"""Locks that die with their process: one builder at a time, and holds on what is mapped.

All are flock(2) locks. They belong to an open file, so that they work between threads too, and the
kernel lets go of them when a process ends in whatever way; no lock is ever stale.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from relib.errors import StoreRefused

__all__ = ["Hold", "exclusively", "hold", "try_exclusively"]

_logger = logging.getLogger("relib")

# A child made by fork() shares the open file, and with it the lock, for as long as it lives. For a
# hold that is right, as it shares the mapping as well; a builder's lock it must not keep.
_held: set[int] = set()


def _let_go_in_child() -> None:
    for fd in _held:
        os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


@contextmanager
def exclusively(path: Path, purpose: str) -> Iterator[None]:
    """Hold the lock file at `path`; wait for as long as a living process or thread holds it.

    Whoever has to wait says so in the log (``relib``, level INFO), with the holder's process id.

    Args:
        path: the lock file; created if need be.
        purpose: what is being waited for, for the log.

    Raises:
        StoreRefused: the file system has no locks.
        OSError: the lock file cannot be created.
    """
    fd = _acquire(path, purpose)
    _held.add(fd)
    try:
        yield
    finally:
        _release(fd)


@contextmanager
def try_exclusively(path: Path) -> Iterator[bool]:
    """Hold the lock file at `path` if nobody does; yields whether it is held."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        yield False
        return
    _held.add(fd)
    try:
        yield _still_at(fd, path)
    finally:
        _release(fd)


def _acquire(path: Path, purpose: str) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(fd, path, purpose)
            # the cleaner removes lock files while it holds them: then this one is nobody's
            if _still_at(fd, path):
                with suppress(OSError):  # only for whoever waits to read
                    os.pwrite(fd, f"{os.getpid():<10}\n".encode(), 0)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _lock(fd: int, path: Path, purpose: str) -> None:
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            _logger.info("waiting for process %s, which is %s", holder, purpose)
            fcntl.flock(fd, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        raise StoreRefused(
            f"{path} is on a file system without locks (flock: {error.strerror}); "
            "set `store` to a directory on a local disk",
            path=path,
        ) from error


def _still_at(fd: int, path: str | Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))  # noqa: PTH116
    except FileNotFoundError:
        return False


def _release(fd: int) -> None:
    if fd in _held:  # not in a child that was forked meanwhile
        _held.discard(fd)
        # not only close: a child forked before this module knew the lock would keep it
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


class Hold:
    """Keeps one build from being removed, until released or until the process ends.

    A child made by fork() shares it, as it shares the mapping: the build stays until parent and
    child have both let go. Dropping the object without release() lets go of nothing.
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def released(self) -> bool:
        """Whether release() was called."""
        return self._fd < 0

    def release(self) -> None:
        """Let go. More than once is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def hold(path: str | Path) -> Hold | None:
    """A shared lock on the file at `path`; None when it has been removed.

    Waits if the cleaner is just now removing it, which takes milliseconds.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        if _still_at(fd, path):
            return Hold(fd)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None
