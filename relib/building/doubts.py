"""What tcc compiles without a word and gcc compiles to something else.

What it warns of is judged in :mod:`relib.building.tinycc`; for the rest the C itself is looked at.
"""

from __future__ import annotations

import os
import re
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from relib.building.tinycc import WEIGHTY_ATTRIBUTES

__all__ = ["doubt", "doubt_about_gnu", "shadow"]

# Also the assembler names of functions, `int f(void) __asm__("g");`, which look too much like it.
_ASSEMBLY = re.compile(r"\b(?:asm|__asm|__asm__)\b\s*(?:\b\w+\b\s*)*\(")
# To tcc 0.9.27 a word is an int (tccgen.c, parse_attribute).
_MODE = re.compile(r"\b(?:__mode__|mode)\s*\(\s*__word__\s*\)")
_ATTRIBUTES = r"__attribute(?:__)?\s*\(\(((?:[^()]|\([^()]*\))*)\)\)"
_PACKED_ENUM = re.compile(
    rf"\benum\s*(?:\w+\s*)?{_ATTRIBUTES}|\benum\b[^{{}};()]*{{[^{{}}]*}}\s*{_ATTRIBUTES}"
)
_PACKED = re.compile(r"\b(?:__)?packed(?:__)?\b")
# It is no GNU compiler by its macros, though it has GNU's attributes.
_GNU = re.compile(r"\b__GNUC(?:__|_MINOR__)\b")
_WEIGHTY = re.compile(rf"\b(?:__)?(?:{'|'.join(sorted(WEIGHTY_ATTRIBUTES))})(?:__)?\b")
# Of its own headers those that are in none of the system's directories.
_OF_TCC = {"float.h", "stdarg.h", "stdbool.h", "stddef.h", "tgmath.h", "varargs.h"}


def doubt(text: str) -> tuple[str, str] | None:
    """The first thing in C that tcc cannot be trusted with: what it is, and its line.

    >>> doubt('void f(void) {\\n  asm volatile ("nop");\\n}')
    ('inline assembly', 'asm volatile ("nop");')
    >>> doubt("enum __attribute__((packed)) kind {A};")
    ('a packed enum', 'enum __attribute__((packed)) kind {A};')
    >>> doubt("enum kind {A}; struct __attribute__((packed)) pair {char a; int b;};")
    """
    # The words are looked for first: most of the time none is there, and that is ten times as fast.
    if "asm" in text and (found := _ASSEMBLY.search(text)) is not None:
        return "inline assembly", _line(text, found.end())
    if "__word__" in text and (found := _MODE.search(text)) is not None:
        return "the mode of a type", _line(text, found.end())
    if "packed" in text and "enum" in text:
        for found in _PACKED_ENUM.finditer(text):
            if _PACKED.search(found[1] or found[2] or ""):
                return "a packed enum", _line(text, found.end())
    return None


def doubt_about_gnu(text: str) -> tuple[str, str] | None:
    """The line of a file of the user's that asks for GNU C, if what it has for it weighs.

    >>> doubt_about_gnu("#ifdef __GNUC__\\n#define PACKED __attribute__((packed))\\n#endif")
    ('attributes for GNU C only', '#ifdef __GNUC__')
    """
    if "__GNUC" not in text or "__attribute" not in text:
        return None
    found = _GNU.search(text)
    if found is None or _WEIGHTY.search(text) is None:
        return None
    return "attributes for GNU C only", _line(text, found.end())


def shadow(headers: Iterable[str], quoted: Iterable[str], others: Iterable[str]) -> str | None:
    """A header beside a source that may have been read in the place of the system's, to tcc's mind.

    It has no -iquote: what is for ``#include "errno.h"`` also answers ``#include <errno.h>``.

    Args:
        headers: what was read.
        quoted: the directories that are searched for the first kind alone.
        others: those that are searched for both kinds, besides the system's.
    """
    others = list(others)
    triplet = sysconfig.get_config_var("MULTIARCH") or ""
    system = ["/usr/local/include", f"/usr/include/{triplet}", "/usr/include"]
    prefixes = [os.path.join(place, "") for place in quoted if place not in others]  # noqa: PTH118
    for header in headers:
        for prefix in prefixes:
            if header.startswith(prefix):
                name = header[len(prefix) :]
                if name in _OF_TCC or any(Path(p, name).exists() for p in (*others, *system)):
                    return name
    return None


def _line(text: str, at: int) -> str:
    start = text.rfind("\n", 0, at) + 1
    return text[start:].partition("\n")[0].strip()
