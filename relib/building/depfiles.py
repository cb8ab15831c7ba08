"""The files that a compiler read, from the make rule that it leaves with -MD."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["read_depfile"]


def read_depfile(depfile: Path, *, base: Path, escaped: bool = True) -> tuple[Path, ...]:
    """The absolute paths that a depfile names, in order.

    Args:
        depfile: what the compiler wrote with ``-MD -MF``.
        base: the directory the compiler ran in, for relative paths.
        escaped: whether spaces in names are escaped as make wants it (gcc, clang); tcc 0.9.27
            writes each name as it is, on a line of its own.

    Raises:
        OSError: the depfile cannot be read.
    """
    text = os.fsdecode(depfile.read_bytes())
    names = _escaped_names(text) if escaped else _plain_names(text, base)
    root = os.fspath(base)
    return tuple(map(Path, dict.fromkeys(_absolute(name, root) for name in names)))


def _absolute(name: str, base: str) -> str:
    # As texts: there are hundreds, and each Path costs more than all else that is done with it.
    path = name if name.startswith("/") else os.path.join(base, name)  # noqa: PTH118
    # "a/link/../x" means another file than "a/x": only the file system can take ".." away.
    return os.path.realpath(path) if "/../" in path else path


def _escaped_names(text: str) -> Iterator[str]:
    for line in text.replace("\\\n", " ").splitlines():
        prerequisites = False
        for token in _tokens(line):
            if prerequisites:
                yield token
            # -MP adds rules without prerequisites; they give nothing
            prerequisites = prerequisites or token.endswith(":")


def _tokens(line: str) -> Iterator[str]:
    """Split at blanks that are not escaped.

    What is escaped, and how, follows mkdeps.cc (munge) of gcc and DependencyFile.cpp
    (PrintFilename) of clang: backslashes are doubled before a blank and nowhere else.

    >>> list(_tokens(r"a\\ b.o: x\\\\ y\\#z $$c"))
    ['a b.o:', 'x\\\\', 'y#z', '$c']
    """
    token = ""
    at = 0
    while at < len(line):
        char = line[at]
        following = line[at + 1] if at + 1 < len(line) else ""
        if char == "\\":
            run = len(line) - at - len(line[at:].lstrip("\\"))
            at += run
            following = line[at] if at < len(line) else ""
            if following in (" ", "\t"):
                token += "\\" * (run // 2)
                if run % 2:
                    token += following
                    at += 1
            elif following == "#":
                token += "\\" * (run - 1) + "#"
                at += 1
            else:
                token += "\\" * run
        elif char == "$" and following == "$":
            token += "$"
            at += 2
        elif char in " \t":
            if token:
                yield token
            token = ""
            at += 1
        else:
            token += char
            at += 1
    if token:
        yield token


def _plain_names(text: str, base: Path) -> Iterator[str]:
    # gen_makedeps in tcctools.c: "target:" and then " \<newline>  name" for each file. Newer ones
    # escape blanks, so a name that is not there as it stands is tried without the escapes.
    for line in text.splitlines()[1:]:
        name = line.strip().removesuffix(" \\").rstrip()
        if name:
            if "\\ " in name and not os.path.exists(_absolute(name, os.fspath(base))):  # noqa: PTH110
                name = name.replace("\\ ", " ")
            yield name
