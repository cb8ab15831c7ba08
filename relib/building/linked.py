"""The files that are linked: objects, archives and libraries, wherever they are named.

The compiler writes no list of them. Libraries of the system are left out, as the compiler is known
by its version.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

__all__ = ["linked_files"]

_WITH_VALUE = ("-D", "-U", "-I", "-x", "-arch", "--param", "-u", "-z", "-h", "-soname", "-rpath")


def linked_files(words: Sequence[str], base: Path) -> tuple[list[str], list[str]]:
    """The files that a link command reads, and those that it would read if they were there.

    Args:
        words: the command's arguments.
        base: the directory that it runs in.
    """
    read: dict[str, None] = {}
    absent: dict[str, None] = {}
    directories: dict[str, None] = {}
    libraries: dict[str, None] = {}
    for kind, value in _inputs(words):
        path = os.path.join(base, value)  # noqa: PTH118  # texts: hundreds of flags make no Path
        if kind == "-L":
            directories[path] = None
        elif kind == "-l":
            libraries[value] = None
        elif os.path.isfile(path):  # noqa: PTH113
            read[path] = None
    for library in libraries:
        # the linker looks into one directory after the other, for the shared one first
        names = [library[1:]] if library[0] == ":" else [f"lib{library}.so", f"lib{library}.a"]
        for directory in directories:
            paths = [f"{directory.rstrip('/')}/{name}" for name in names]
            found = [path for path in paths if os.path.exists(path)]  # noqa: PTH110
            read.update(dict.fromkeys(found))
            absent.update(dict.fromkeys(path for path in paths if path not in found))
            if found:
                break
    return list(read), list(absent)


def _inputs(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The directories (`-L`), libraries (`-l`) and what may be files among the arguments.

    >>> list(_inputs(["-shared", "a.o", "-Lx", "-l", "m", "-Wl,-T,a.ld,b.a", "-z", "now"]))
    [('', 'a.o'), ('-L', 'x'), ('-l', 'm'), ('', 'a.ld'), ('', 'b.a')]
    """
    plain = iter(_plain(words))
    for word in plain:
        option, value = word[:2], word[2:]
        if option in ("-L", "-l"):
            yield option, value or next(plain, ".")
        elif word in _WITH_VALUE:
            next(plain, None)
        elif word[:1] == "@":
            yield "", word[1:]
        elif word[:1] != "-":
            yield "", word
        elif "=" in word and not word.startswith("-D"):
            yield "", word.partition("=")[2]


def _plain(words: Iterable[str]) -> Iterator[str]:
    """The words with those for the linker alone among them."""
    for word in words:
        if word.startswith("-Wl,"):
            yield from word.split(",")[1:]
        elif word != "-Xlinker":
            yield word
