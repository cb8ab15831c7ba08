"""What polling compares: files and directories as they were last looked at."""

from __future__ import annotations

import hashlib
import os
import time
from typing import NamedTuple

__all__ = ["Look", "listing", "look_at"]

# File systems keep times in steps of up to two seconds (FAT), and servers have clocks of their own:
# a file that changed so recently may change again without its times telling.
_YOUNG = 5.0


class Look(NamedTuple):
    """What was seen of a file."""

    status: tuple[int, ...]
    """Where it is, how large, and when it changed; empty when there is none."""
    digest: bytes | None
    """Of its contents, where the status may not tell."""

    def differs(self, other: Look) -> bool:
        """Whether the file has changed between the two."""
        if self.status != other.status:
            return True
        return None not in (self.digest, other.digest) and self.digest != other.digest


def look_at(path: str) -> Look:
    """What the file at a path is now.

    >>> look_at("/nowhere/at/all")
    Look(status=(), digest=None)
    """
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return Look((), None)
    status = (
        found.st_dev,
        found.st_ino,
        found.st_mode,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )
    digest = None
    if abs(time.time() - max(found.st_mtime, found.st_ctime)) < _YOUNG:
        try:
            with open(path, "rb") as file:  # noqa: PTH123
                digest = hashlib.sha256(file.read()).digest()
        except OSError:
            pass
    return Look(status, digest)


def listing(directory: str) -> dict[str, tuple[int, ...]]:
    """The entries of a directory, and what tells that they changed; none when it is not there.

    The directory itself is among them, under an empty name.
    """
    found: dict[str, tuple[int, ...]] = {}
    try:
        found[""] = (os.stat(directory).st_ino,)  # noqa: PTH116
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    status = entry.stat()
                except OSError:
                    continue
                found[entry.name] = (status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError:
        pass
    return found
