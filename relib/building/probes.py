"""What compilers said about themselves, kept between programs: asking takes a tenth of a second.

A file in the user's cache directory. It is only for programs that are what they seem: a script, or
a launcher under a compiler's name, may start another compiler tomorrow.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from relib.config import cache_directory

__all__ = ["recall", "remember"]

_FILE = "compilers.json"
_KEPT = 64
_LAUNCHERS = ("ccache", "distcc", "sccache", "icecc", "colorgcc")


def recall(question: Sequence[object], programs: Sequence[Path]) -> dict[str, Any] | None:
    """The answer to a question that was put before; None if it is not known.

    Args:
        question: all that the answer depends on, the program's size and times included.
        programs: the programs that are asked.
    """
    return _read().get(_key(question)) if _are_plain(programs) else None


def remember(question: Sequence[object], programs: Sequence[Path], answer: dict[str, Any]) -> None:
    """Keep an answer; quietly does nothing where that is not possible."""
    if not _are_plain(programs):
        return
    known = _read()
    known.pop(_key(question), None)
    kept = dict([*list(known.items())[-_KEPT + 1 :], (_key(question), answer)])
    try:
        directory = cache_directory()
        directory.mkdir(0o700, parents=True, exist_ok=True)
        fresh = directory / f"{_FILE}.{os.getpid()}"
        fresh.write_text(json.dumps(kept), "ascii")
        fresh.replace(directory / _FILE)
    except (OSError, RuntimeError):  # the latter: there is no home
        return


def _read() -> dict[str, Any]:
    try:
        with (cache_directory() / _FILE).open("rb") as file:
            status = os.fstat(file.fileno())
            # what is in it decides what is run
            if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return {}
            known = json.load(file)
        return known if isinstance(known, dict) else {}
    except (OSError, ValueError, RuntimeError):
        return {}


def _are_plain(programs: Sequence[Path]) -> bool:
    if len(programs) != 1:
        return False
    resolved = os.path.realpath(programs[0])
    if any(word in Path(resolved).name for word in _LAUNCHERS):
        return False
    try:
        with open(resolved, "rb") as file:  # noqa: PTH123
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _key(question: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(question).encode()).hexdigest()
