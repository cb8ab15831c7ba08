"""Makes paths absolute, as they were meant where they were written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

__all__ = ["absolute", "resolve_path"]


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return `path` absolute and without `..`, but with its symbolic links.

    Links stay, because a module's name and what lies beside it are found by the path that the user
    sees, as Python's own import does.

    >>> absolute("/a/b/../c")
    PosixPath('/a/c')
    """
    return Path(os.path.abspath(path))  # noqa: PTH100 (resolve() follows links)


def resolve_path(item: str, bases: Sequence[Path]) -> str:
    """Return `item` as an absolute path: in the first of `bases` where it is, else in the first.

    An item that starts with `$` (`$ORIGIN/lib`, for the loader) or `=` (the compiler's sysroot) is
    left as it is.

    >>> resolve_path("include", [Path("/nowhere"), Path("/usr")])
    '/usr/include'
    >>> resolve_path("$ORIGIN/lib", [Path("/nowhere")])
    '$ORIGIN/lib'
    """
    if item[:1] in ("$", "="):
        return item
    paths = [absolute(base / item) for base in bases]
    return str(next((path for path in paths if path.exists()), paths[0]))
