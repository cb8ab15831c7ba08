"""Whether a source can be built at all, and what to say if not."""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path

from relib.errors import SourceMissing, SourceUnreadable
from relib.extension import SOURCE_SUFFIXES
from relib.spelling import did_you_mean

__all__ = ["check_source"]


def check_source(path: Path) -> None:
    """Make sure that a source is there, is a file, can be read, and is of a kind that is built.

    Raises:
        SourceMissing: it is not there.
        SourceUnreadable: it is there, and one of the others does not hold.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            message = f"{path}: is a symbolic link to {path.readlink()}, which is not there"
        else:
            names: list[str] = []
            with contextlib.suppress(OSError):
                names = [p.name for p in path.parent.iterdir() if p.suffix in SOURCE_SUFFIXES]
            message = f"{path}: there is no such file{did_you_mean(path.name, names)}"
        raise SourceMissing(message, path=path) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(mode):
        # said before any attempt to open it: to open a FIFO waits for who writes to it
        kinds = {
            stat.S_IFDIR: "a directory",
            stat.S_IFIFO: "a FIFO",
            stat.S_IFSOCK: "a socket",
            stat.S_IFCHR: "a device",
            stat.S_IFBLK: "a device",
        }
        message = f"{path}: is {kinds.get(stat.S_IFMT(mode), 'no file')}, not a source file"
        raise SourceUnreadable(message, path=path)
    if path.suffix not in SOURCE_SUFFIXES:
        message = f"{path}: is no source that relib builds ({', '.join(SOURCE_SUFFIXES)})"
        raise SourceUnreadable(message, path=path)
    try:
        path.open("rb").close()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError | ValueError) -> SourceUnreadable:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return SourceUnreadable(f"{path}: cannot be read: {reason}", path=path)
