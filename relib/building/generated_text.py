"""The C of a Cython module as a text in which places are found fast, and changed."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["Pattern", "Text"]


class Pattern:
    """A regular expression that begins with a literal text.

    The C of one module has megabytes, and few places in it matter: `str.find` passes over the rest
    several times as fast as `re` does.
    """

    def __init__(self, head: str, rest: str = "", flags: re.RegexFlag = re.NOFLAG) -> None:
        self._head = head
        self._whole = re.compile(re.escape(head) + rest, flags)

    def finditer(self, text: str, start: int = 0) -> Iterator[re.Match[str]]:
        """The matches that do not overlap, in order."""
        while (start := text.find(self._head, start)) >= 0:
            match = self._whole.match(text, start)
            start = start + 1 if match is None else match.end()
            if match is not None:
                yield match


class Text:
    """A text and the insertions and replacements to be made in it, in any order."""

    def __init__(self, original: str) -> None:
        self.original = original
        self.edits: list[str] = []
        self.missed: list[str] = []
        self._changes: list[tuple[int, int, str]] = []

    def find(self, pattern: Pattern) -> re.Match[str] | None:
        """The only match; None if there is none, or several."""
        found = list(pattern.finditer(self.original))
        return found[0] if len(found) == 1 else None

    def before(self, match: re.Match[str]) -> str:
        """What stands before a match on its line."""
        return self.original[self.original.rfind("\n", 0, match.start()) + 1 : match.start()]

    def body(self, head: str) -> str | None:
        """The body of the function whose definition begins so."""
        start = -1
        while (start := self.original.find(head, start + 1)) >= 0:
            end = self.original.find("\n", start)
            if self.original[start:end].endswith(") {"):
                return self.original[end : self.original.find("\n}", end)]
        return None

    def insert(self, place: int, addition: str) -> None:
        """Add text before the character at `place`; all places are those of the text as it was."""
        self._changes.append((place, place, addition))

    def replace(self, start: int, end: int, replacement: str) -> None:
        """Put another text in the place of a part."""
        self._changes.append((start, end, replacement))

    def edit(self, name: str, *changes: tuple[re.Match[str] | None, str]) -> bool:
        """Replace each match by its replacement, or none of them if one was not found."""
        if any(match is None for match, _ in changes):
            self.missed.append(name)
            return False
        for match, replacement in changes:
            assert match is not None
            self.replace(*match.span(), replacement)
        self.edits.append(name)
        return True

    def result(self) -> str:
        """The text with all changes."""
        parts = []
        done = 0
        for start, end, replacement in sorted(self._changes, key=lambda change: change[:2]):
            parts += [self.original[done:start], replacement]
            done = end
        return "".join([*parts, self.original[done:]])
