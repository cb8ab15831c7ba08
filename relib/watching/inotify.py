"""The kernel's file events (inotify(7)), through the C library."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

__all__ = ["Inotify", "Notice"]

# sys/inotify.h
MODIFY = 0x0000_0002
ATTRIB = 0x0000_0004
CLOSE_WRITE = 0x0000_0008
MOVED_FROM = 0x0000_0040
MOVED_TO = 0x0000_0080
CREATE = 0x0000_0100
DELETE = 0x0000_0200
DELETE_SELF = 0x0000_0400
MOVE_SELF = 0x0000_0800
UNMOUNT = 0x0000_2000
Q_OVERFLOW = 0x0000_4000
IGNORED = 0x0000_8000
_ONLYDIR = 0x0100_0000
_EXCL_UNLINK = 0x0400_0000
ISDIR = 0x4000_0000

# Not IN_MODIFY: a log file beside the sources would wake us with each line. What was written is
# looked at when it is closed.
_MASK = (
    ATTRIB
    | CLOSE_WRITE
    | MOVED_FROM
    | MOVED_TO
    | CREATE
    | DELETE
    | DELETE_SELF
    | MOVE_SELF
    | _ONLYDIR
    | _EXCL_UNLINK
)
_HEADER = struct.Struct("iIII")
_BUFFER = 1 << 16


class Notice(NamedTuple):
    """One event."""

    watch: int
    """What `Inotify.add` returned for the directory; -1 for the queue itself."""
    mask: int
    name: str
    """The entry of the directory; empty for the directory itself."""


class Inotify:
    """A queue of events about the entries of directories.

    Raises:
        OSError: EMFILE: the user has as many as a user may have (fs.inotify.max_user_instances).
        AttributeError: the system has no inotify.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def fileno(self) -> int:
        """What to wait for until there are events."""
        return self._fd

    def add(self, directory: str) -> int:
        """Watch a directory's entries. The same number again for a directory that is watched.

        Raises:
            OSError: ENOSPC: the user watches as many as a user may (fs.inotify.max_user_watches);
                EACCES, ENOENT, ENOTDIR: it cannot be read, or is no directory.
        """
        watch = self._libc.inotify_add_watch(
            self._fd, os.fsencode(directory), ctypes.c_uint32(_MASK)
        )
        return self._checked(watch)

    def remove(self, watch: int) -> None:
        """Stop watching a directory; one that has gone has stopped by itself."""
        self._libc.inotify_rm_watch(self._fd, watch)

    def read(self) -> list[Notice]:
        """The events that there are now, oldest first."""
        notices: list[Notice] = []
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return notices
            at = 0
            while at < len(data):
                watch, mask, _cookie, length = _HEADER.unpack_from(data, at)
                at += _HEADER.size
                name = data[at : at + length].rstrip(b"\0")
                at += length
                notices.append(Notice(watch, mask, os.fsdecode(name)))

    def close(self) -> None:
        """Give the descriptor back; its watches end with it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _checked(self, result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result
