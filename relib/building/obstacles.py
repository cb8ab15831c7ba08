"""Why a quick compiler cannot build an extension: remembered, so that it is not tried in vain.

A file for each extension, beside the builds in the store. Each entry says what in the C stood in
the way; when that is gone, the compiler is tried again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relib.building.toolchain import Toolchain
    from relib.errors import BuildError

__all__ = ["Obstacle", "Obstacles", "doubted", "obstacle"]

_INCLUDE = re.compile(r"^[ \t]*#[ \t]*include\b.*$", re.MULTILINE)
_KEPT = 8


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason why one compiler cannot build one extension."""

    compiler: str
    """A hash of the compiler's identity: another one, or other flags, may manage."""
    reason: str
    """In a few words, for the user."""
    lines: tuple[str, ...] = ()
    """Lines of C that stand in the way; none if it is the flags that do."""
    includes: str = ""
    """A hash of the #include lines, where what stands in the way is in a header."""

    def stands(self, texts: Sequence[str]) -> bool:
        """Whether it is still there in the C of the extension.

        >>> Obstacle("", "_Complex", ("double _Complex z;",)).stands(["int z;"])
        False
        """
        if self.includes:
            return self.includes == _includes(texts)
        return all(any(line in text for text in texts) for line in self.lines)


class Obstacles:
    """What is known to stand in the way of building one extension.

    Args:
        directory: where to keep it; need not exist, nor be writable.
        name: the extension's.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._path = directory / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"

    def find(self, toolchain: Toolchain, texts: Sequence[str]) -> Obstacle | None:
        """What stands in the way of `toolchain`, if that is known."""
        compiler = _hash(toolchain.identity)
        known = (each for each in self._read() if each.compiler == compiler)
        return next((each for each in known if each.stands(texts)), None)

    def add(self, found: Obstacle) -> bool:
        """Remember an obstacle; False if its like was known before: then it has been told."""
        known = self._read()
        kept = [each for each in known if each != found][-_KEPT + 1 :]
        _known[self._path] = (*kept, found)
        try:
            self._path.parent.mkdir(0o700, exist_ok=True)
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps([asdict(each) for each in (*kept, found)]), "ascii")
            fresh.replace(self._path)
        except OSError:
            pass  # a read-only store: this process remembers it
        told = {(each.compiler, each.reason) for each in known}
        return (found.compiler, found.reason) not in told

    def _read(self) -> tuple[Obstacle, ...]:
        if self._path not in _known:
            _known[self._path] = _parse(self._path)
        return _known[self._path]


# By file. What another process finds out is found out here too, at the price of one try.
_known: dict[Path, tuple[Obstacle, ...]] = {}


def obstacle(toolchain: Toolchain, error: BuildError, texts: Sequence[str]) -> Obstacle:
    """What it was that made a compiler fail.

    Args:
        toolchain: the compiler.
        error: why it failed.
        texts: the C that it was given.
    """
    compiler = _hash(toolchain.identity)
    first = next((d for d in error.diagnostics if d.severity == "error"), None)
    if first is None:
        reason = str(error).partition("\n")[0]
        if not error.command:  # it was not even started: a flag
            return Obstacle(compiler, reason)
        return Obstacle(compiler, reason, includes=_includes(texts))
    lines = _lines(error.output, texts)
    if lines:
        return Obstacle(compiler, first.message, lines)
    return Obstacle(compiler, first.message, includes=_includes(texts))


def doubted(toolchain: Toolchain, reason: str, line: str, texts: Sequence[str]) -> Obstacle:
    """The obstacle that a line is which a compiler cannot be trusted with.

    Args:
        toolchain: the compiler.
        reason: what it is about.
        line: of one of the texts, or of a header.
        texts: the C that it was given.
    """
    compiler = _hash(toolchain.identity)
    if line and any(line in text for text in texts):
        return Obstacle(compiler, f"{reason} ({line})", (line,))
    reason = f"{reason} ({line})" if line else reason
    return Obstacle(compiler, reason, includes=_includes(texts))


def _lines(output: str, texts: Sequence[str]) -> tuple[str, ...]:
    """The lines of the C itself, not of a header, that a compiler's errors are about."""
    found: dict[str, None] = {}
    for number in re.findall(r"^(?!In file)[^\n:]+\.c:(\d+):(?:\d+:)? error: ", output, re.M):
        for text in texts:
            lines = text.splitlines()
            line = lines[int(number) - 1].strip() if int(number) <= len(lines) else ""
            if len(line) > 1:
                found[line] = None
    return tuple(found)[:4]


def _parse(path: Path) -> tuple[Obstacle, ...]:
    try:
        plain = json.loads(path.read_bytes())
        return tuple(Obstacle(**{**each, "lines": tuple(each["lines"])}) for each in plain)
    except (OSError, ValueError, TypeError, KeyError):
        return ()


def _includes(texts: Sequence[str]) -> str:
    lines = {line.strip() for text in texts for line in _INCLUDE.findall(text)}
    return _hash("\n".join(sorted(lines)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
