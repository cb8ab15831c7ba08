"""The headers that are not there and would have been included, had they been.

Only for what the project's own files include, and for headers in its own include directories: for
the system's, it would double what has to be looked at to find a build.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["absent_headers", "include_directories"]

# From the word on: generated C has megabytes, and `re` finds a literal text ten times as fast as
# the beginning of a line.
_QUOTED = re.compile(rb'include[ \t]*"([^"\n]+)"')
_BEFORE = re.compile(rb"[ \t]*#[ \t]*")
_ASKED = re.compile(rb'\b__has_include(?:_next)?[ \t]*\([ \t]*(?:"([^"\n]+)"|<([^>\n]+)>)')
# In the order in which gcc and clang search them.
_OPTIONS = ("-iquote", "-I")


def include_directories(words: Sequence[str], base: Path) -> list[str]:
    """The directories that a compiler's arguments tell it to search first, in order.

    >>> include_directories(["-Ia", "-iquote", "b", "-I", "/c", "-O2"], Path("/base"))
    ['/base/b', '/base/a', '/c']
    """
    found: dict[str, list[str]] = {option: [] for option in _OPTIONS}
    rest = iter(words)
    for word in rest:
        option = next((option for option in _OPTIONS if word.startswith(option)), None)
        if option is not None:
            value = word[len(option) :] or next(rest, "")
            found[option].append(os.path.join(base, value))  # noqa: PTH118  # texts, as below
    return list(dict.fromkeys(path for option in _OPTIONS for path in found[option]))


def absent_headers(
    headers: Iterable[str], directories: Sequence[str], sources: Iterable[Path], root: Path
) -> list[str]:
    """The headers that would have been included before, or instead of, one of `headers`.

    Args:
        headers: what the compiler has read.
        directories: where it searches, in order; not the system's, nor Python's.
        sources: what it was given.
        root: the project's root.
    """
    prefixes = [os.path.join(path, "") for path in directories]  # noqa: PTH118
    read = dict.fromkeys(headers)
    wanted: dict[str, None] = {}
    for header in read:
        for rank, prefix in enumerate(prefixes):
            if header.startswith(prefix):
                rest = header[len(prefix) :]
                wanted.update((earlier + rest, None) for earlier in prefixes[:rank])
    below = os.path.join(root, "")  # noqa: PTH118
    own = {*map(os.fspath, sources), *(path for path in read if path.startswith(below))}
    for path in sorted(own):
        beside = os.path.join(os.path.dirname(path), "")  # noqa: PTH118, PTH120
        quoted, asked = _included(path)
        for name in quoted:
            if any(os.path.normpath(prefix + name) in read for prefix in prefixes):
                wanted[beside + name] = None
        for name, is_quoted in asked:
            places = [beside, *prefixes] if is_quoted else prefixes
            wanted.update((place + name, None) for place in places)
    return [path for path in wanted if not os.path.exists(path)]  # noqa: PTH110


def _included(path: str) -> tuple[list[str], list[tuple[str, bool]]]:
    """What a file includes in quotes, and what it asks for: the names, and whether in quotes."""
    try:
        text = Path(path).read_bytes()
    except OSError:
        return [], []
    quoted = [
        os.fsdecode(found[1])
        for found in _QUOTED.finditer(text)
        if _BEFORE.fullmatch(text, text.rfind(b"\n", 0, found.start()) + 1, found.start())
    ]
    if b"__has_include" not in text:
        return quoted, []
    asked = [(os.fsdecode(one or other), bool(one)) for one, other in _ASKED.findall(text)]
    return quoted, asked
