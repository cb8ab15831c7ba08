"""Reads pyproject.toml, and says where it is wrong."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relib.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FILE_NAME", "read_pyproject", "tool_table"]

FILE_NAME = "pyproject.toml"


def read_pyproject(root: Path) -> dict[str, Any]:
    """Return what pyproject.toml in `root` says; nothing when there is none.

    The result is shared with other callers: do not change it.

    Raises:
        ProjectError: the file cannot be read, or is no TOML; with its line.
    """
    path = root / FILE_NAME
    try:
        contents = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ProjectError(f"{path}: cannot be read: {error.strerror}", path=path) from error
    return _parse(path, contents)


@lru_cache(maxsize=32)
def _parse(path: Path, contents: bytes) -> dict[str, Any]:
    import tomllib  # here, because most of its 3 ms are spent by programs that never load anything

    try:
        return tomllib.loads(contents.decode())
    except UnicodeDecodeError as error:
        line = contents.count(b"\n", 0, error.start) + 1
        message = f"{path}:{line}: is not UTF-8, as TOML must be"
        raise ProjectError(message, path=path, line=line) from error
    except tomllib.TOMLDecodeError as error:
        # the line is an attribute from Python 3.14 on, and only in the text before
        found = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
        if found is None:
            line = contents.count(b"\n") + 1
            message = f"{path}:{line}: is not valid TOML: {error}"
        else:
            line = int(found[1])
            reason = str(error)[: found.start()]
            message = f"{path}:{line}:{found[2]}: is not valid TOML: {reason}"
        raise ProjectError(message, path=path, line=line) from error


def tool_table(root: Path, *names: str) -> Mapping[str, Any]:
    """Return the table `[tool.<names>]` of pyproject.toml in `root`; empty when there is none.

    Raises:
        ProjectError: the file cannot be read, is no TOML, or has something else than a table there.
    """
    table: dict[str, Any] = read_pyproject(root)
    taken: list[str] = []
    for name in ("tool", *names):
        inner = table.get(name, {})
        taken.append(name)
        if not isinstance(inner, dict):
            path = root / FILE_NAME
            message = f"{path}: {'.'.join(taken)} must be a table, not {inner!r}"
            raise ProjectError(message, path=path)
        table = inner
    return table
