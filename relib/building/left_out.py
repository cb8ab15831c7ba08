"""Flags that are left out: what makes a compiler slow, and what the linker takes only once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["without_slow", "without_version_script"]

# What makes a compiler slower without changing what the code does: optimisation, debug information
# (also of the linker's plugin), warnings, and _FORTIFY_SOURCE, which wants an optimiser.
_SLOW = re.compile(
    r"""
    -O.* | -g(?!nu).* | -W(?![alp],).* | -w | -pedantic.* | -flto.* | -f(?:no-)?fat-lto-objects
    | -fuse-linker-plugin | -f(?:no-)?semantic-interposition | -fprofile-(?!arcs).*
    | -specs=.*(?:annobin|hardened|package-notes).* | -fanalyzer | -f(?:no-)?plt | -pipe
    | -(?:D|Wp,-[DU])_FORTIFY_SOURCE.* | -U_FORTIFY_SOURCE
    """,
    re.VERBOSE,
)


def without_slow(flags: Iterable[str]) -> list[str]:
    """Take out what makes a compiler slow.

    >>> without_slow(["-O3", "-D", "_FORTIFY_SOURCE=2", "-Wall", "-g", "-std=c99", "-Wl,-s"])
    ['-std=c99', '-Wl,-s']
    """
    kept: list[str] = []
    words = iter(flags)
    for word in words:
        if word in ("-D", "-U", "-I", "-include", "-isystem", "-iquote", "-Xlinker"):
            value = next(words, "")
            if not value.startswith("_FORTIFY_SOURCE"):
                kept += [word, value]
        elif not _SLOW.fullmatch(word):
            kept.append(word)
    return kept


def without_version_script(flags: Sequence[str]) -> list[str]:
    """Take out the user's version scripts: they know nothing of the name that PyInit_ gets, and ld
    takes no two of them.

    >>> without_version_script(["-Wl,-O1,--version-script=x", "-Wl,--version-script,x", "-lm"])
    ['-Wl,-O1', '-lm']
    >>> without_version_script(["-Xlinker", "--version-script", "-Xlinker", "x", "-Xlinker", "-s"])
    ['-Xlinker', '-s']
    """
    kept = []
    value_follows = False
    words = iter(flags)
    for flag in words:
        if flag.startswith("-Wl,"):
            given = flag.split(",")[1:]
        elif flag == "-Xlinker":
            given = [next(words, "")]
        else:
            kept.append(flag)
            continue
        left = []
        for word in given:
            if value_follows:
                value_follows = False
            elif word.lstrip("-") == "version-script":
                value_follows = True
            elif not word.lstrip("-").startswith("version-script="):
                left.append(word)
        if left:
            kept += [flag, *left] if flag == "-Xlinker" else ["-Wl," + ",".join(left)]
    return kept
