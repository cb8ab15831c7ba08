"""Reads the value of a setting: from TOML, from an environment variable, or from an option.

Every function takes what was written there and returns the value that relib works with; it raises
ValueError with what the value must be, worded to follow "must be".
"""

from __future__ import annotations

import math
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

__all__ = [
    "age_in_days",
    "byte_count",
    "choice",
    "command_line",
    "count",
    "directive_pairs",
    "file_path",
    "flags",
    "seconds",
]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+|inf)\s*([a-z]*)", re.IGNORECASE)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def byte_count(value: object) -> int:
    """Read a size in bytes.

    As everywhere outside of RAM, k, M, G and T are powers of 1000; Ki, Mi, Gi and Ti of 1024.

    >>> byte_count("500 MB"), byte_count("1.5GiB"), byte_count(10_000)
    (500000000, 1610612736, 10000)
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        prefix = " kmgt".index(found[2].lower()) if found[2] else 0
        return int(float(found[1]) * (1024 if found[3] else 1000) ** prefix)
    raise ValueError("a size that is not negative: bytes, or such as '500MB' or '2GiB'")


def seconds(value: object) -> float:
    """Read a time in seconds.

    >>> seconds(10), seconds("500ms"), seconds("2 m")
    (10.0, 0.5, 120.0)
    """
    result = _duration(value, "s")
    # a timeout of infinity is refused by subprocess and by locks (OverflowError)
    if result is None or not 0 < result < math.inf:
        raise ValueError("a time over 0: seconds, or such as '500ms' or '10m'")
    return result


def age_in_days(value: object) -> float:
    """Read an age in days.

    >>> age_in_days(30), age_in_days("12h"), age_in_days("inf")
    (30.0, 0.5, inf)
    """
    result = _duration(value, "d")
    if result is None:
        raise ValueError("an age that is not negative: days, or such as '12h', '2w' or 'inf'")
    return result / _UNITS["d"]


def _duration(value: object, default_unit: str) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        result = value * _UNITS[default_unit]
        return result if result >= 0 else None  # None for NaN too
    if isinstance(value, str) and (found := _DURATION.fullmatch(value.strip())):
        unit = _UNITS.get(found[2].lower() or default_unit)
        return None if unit is None else float(found[1]) * unit
    return None


def count(*, least: int) -> Callable[[object], int]:
    """Return a function that reads a whole number, `least` or more.

    >>> count(least=1)("4")
    4
    """

    def read(value: object) -> int:
        if isinstance(value, str) and re.fullmatch(r"\s*\d+\s*", value, re.ASCII):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        raise ValueError(f"a whole number, {least} or more")

    return read


def choice(*words: str) -> Callable[[object], str]:
    """Return a function that reads one of some words.

    >>> choice("slow", "quick")(" quick ")
    'quick'
    """

    def read(value: object) -> str:
        if isinstance(value, str) and value.strip() in words:
            return value.strip()
        raise ValueError(f"{', '.join(map(repr, words[:-1]))} or {words[-1]!r}")

    return read


def file_path(value: object) -> Path:
    """Read a path; `~` is the user's home.

    >>> file_path("builds/here")
    PosixPath('builds/here')
    """
    if isinstance(value, (str, os.PathLike)):
        path = os.fspath(value)
        if isinstance(path, str) and path and "\0" not in path:
            try:
                return Path(path).expanduser()
            except RuntimeError:
                raise ValueError("a path, with a ~user that exists") from None
    raise ValueError("a path")


def command_line(value: object) -> str:
    """Read a command with its arguments: one text, quoted as in a shell, or a list of words.

    >>> command_line(["ccache", "gcc"])
    'ccache gcc'
    """
    try:
        command = flags(value)
    except ValueError:
        command = ""
    if not command.strip():
        raise ValueError("a command: a text, quoted as in a shell, or a list of words")
    return command


def flags(value: object) -> str:
    """Read flags: one text, quoted as in a shell, or a list of words.

    >>> flags("-O0 -g0"), flags(["-O0", "-DX=a b"])
    ('-O0 -g0', "-O0 '-DX=a b'")
    """
    if isinstance(value, str):
        try:
            shlex.split(value)
        except ValueError:
            pass  # a quote that is not closed
        else:
            return value
    elif isinstance(value, Sequence) and all(isinstance(word, str) for word in value):
        return shlex.join(value)
    raise ValueError("flags: a text, quoted as in a shell, or a list of words")


def directive_pairs(value: object) -> tuple[tuple[str, object], ...]:
    """Read Cython directives: a table, JSON, or name=value,name=value.

    A table in a table is a directive with a dot in its name. Whether a directive exists is Cython's
    to say.

    >>> directive_pairs("boundscheck=False, language_level=3")
    (('boundscheck', False), ('language_level', 3))
    >>> directive_pairs({"optimize": {"use_switch": True}})
    (('optimize.use_switch', True),)
    """
    if isinstance(value, str):
        value = _directives_in_text(value.strip())
    if isinstance(value, (list, tuple)):
        try:
            value = dict(value)
        except (TypeError, ValueError):
            value = None
    if not isinstance(value, Mapping) or not all(isinstance(name, str) and name for name in value):
        raise ValueError(
            "Cython directives: a table, JSON, or such as 'boundscheck=False,cdivision=True'"
        )
    return tuple(_flatten(value, ""))


def _flatten(table: Mapping[str, object], prefix: str) -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, tuple(value) if isinstance(value, list) else value


def _directives_in_text(text: str) -> object:
    if text.startswith("{"):
        import json  # here, because hardly anyone writes them so

        try:
            return json.loads(text)
        except ValueError:
            return None
    result: dict[str, object] = {}
    for part in text.split(","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if equals and name:
            result[name] = _directive_value(value)
        elif part.strip():
            return None
    return result


def _directive_value(text: str) -> object:
    word = text.lower()
    if word in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[word]
    return int(text) if re.fullmatch(r"-?\d+", text, re.ASCII) else text
