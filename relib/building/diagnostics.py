"""What Cython and the compilers say, as data and as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from relib.building.generated import GeneratedC, Origin

__all__ = ["Diagnostic", "parse_compiler", "show"]


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One error or warning, pointing at the line that the user wrote.

    >>> from pathlib import Path
    >>> print(Diagnostic(Path("fast.pyx"), 3, 5, "error", "undeclared name", "    retrun x"))
    fast.pyx:3:5: error: undeclared name
        retrun x
        ^
    """

    file: Path
    line: int
    """Counted from 1; 0 where there is none."""
    column: int
    """Counted from 1; 0 where there is none."""
    severity: str
    """``"error"``, ``"warning"`` or ``"note"``."""
    message: str
    source: str = ""
    """The offending line, as it stands in the file."""

    def __str__(self) -> str:
        """The place, the message, the line, and a mark under the column."""
        return _render(self, str(self.file), color=False)


# --- as text -------------------------------------------------------------------------------------

_BOLD, _GREEN, _RESET = "\x1b[1m", "\x1b[1;32m", "\x1b[0m"
_COLORS = {"error": "\x1b[1;31m", "warning": "\x1b[1;35m", "note": "\x1b[1;36m"}
_WIDEST = 160
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")


def show(diagnostics: Iterable[Diagnostic], *, color: bool) -> str:
    """Render diagnostics for a person: each once, with its line and a mark under the column.

    Files below the current directory are named relative to it.

    Args:
        diagnostics: in the order they are to appear.
        color: with ANSI escapes for a terminal; there are none otherwise.

    >>> from pathlib import Path
    >>> twice = [Diagnostic(Path("/p/a.c"), 1, 5, "error", "unknown type name 'x'", "int x y;")] * 2
    >>> print(show(twice, color=False))
    /p/a.c:1:5: error: unknown type name 'x'
    int x y;
        ^
    """
    return "\n".join(_render(d, _short(d.file), color=color) for d in dict.fromkeys(diagnostics))


def _short(file: Path) -> str:
    try:
        return str(file.relative_to(Path.cwd()))
    except (ValueError, OSError):  # the current directory may be gone
        return str(file)


def _render(diagnostic: Diagnostic, file: str, *, color: bool) -> str:
    def paint(escape: str, text: str) -> str:
        return f"{escape}{text}{_RESET}" if color else text

    numbers = (str(n) for n in (diagnostic.line, diagnostic.column) if n)
    place = _printable(":".join([file, *numbers]))
    severity = paint(_COLORS.get(diagnostic.severity, _BOLD), f"{diagnostic.severity}:")
    lines = [f"{paint(_BOLD, place + ':')} {severity} {_printable(diagnostic.message)}"]
    if diagnostic.source:
        source, column = _window(_printable(diagnostic.source), diagnostic.column)
        lines.append(source)
        if column:
            lines.append(_blank(source[: column - 1]) + paint(_GREEN, "^"))
    return "\n".join(lines)


def _printable(text: str) -> str:
    # a source line must not be able to send commands to the terminal
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _window(source: str, column: int) -> tuple[str, int]:
    """The part of a very long line that is around the column."""
    if len(source) <= _WIDEST:
        return source, column
    start = max(0, min(column - _WIDEST // 2, len(source) - _WIDEST))
    part = source[start : start + _WIDEST]
    if start:
        part = "\N{HORIZONTAL ELLIPSIS}" + part[1:]
    if start + _WIDEST < len(source):
        part = part[:-1] + "\N{HORIZONTAL ELLIPSIS}"
    return part, column - start if column else 0


def _blank(lead: str) -> str:
    """As wide as `lead` on a terminal: tabs stay, since nothing tells how wide they are."""
    import unicodedata

    def width(char: str) -> int:
        if unicodedata.combining(char):
            return 0
        return 2 if unicodedata.east_asian_width(char) in "WF" else 1

    return "".join("\t" if char == "\t" else " " * width(char) for char in lead)


# --- from a compiler's output --------------------------------------------------------------------

_LONGEST = 4000
_ESCAPE = re.compile(r"\x1b\[[0-9;]*[mK]")
# gcc's copy of the source line below its message: "   12 | code"
_QUOTED = re.compile(r"\s*(?:\d+|\+\+\+|)\s*\|")
_SEVERITY = "fatal error|internal compiler error|sorry, unimplemented|error|warning|note|remark"
# gcc, clang: "file:line:column: error: message"; tcc: "file:line: error: message"
_AT = re.compile(
    rf"(?P<file>[^\s].*?):(?P<line>\d+):(?:(?P<column>\d+):)? (?P<severity>{_SEVERITY}): "
    r"(?P<message>.*)"
)
# ld, with and without debug information; collect2 and ld.lld in their own ways
_UNDEFINED = re.compile(
    r"(?:\S*ld\S*: )?(?P<file>.+?):(?:(?P<line>\d+)(?=:)|(?=\())(?::?\(\.[^)]*\))?: "
    r"(?P<message>(?:undefined reference to|multiple definition of|relocation ).*)"
)
_PROGRAM = re.compile(rf"(?P<program>[\w./+-]+): (?P<severity>{_SEVERITY}): (?P<message>.*)")
_LINKER = re.compile(r"(?P<program>(?:\S*[/-])?ld(?:\.\w+)?): (?P<message>.*)")
_LINKER_CONTEXT = re.compile(
    r".*: in function |NOTE: |skipping incompatible|have you installed the static version"
    r"|.*missing \.note\.GNU-stack section"
)
# Said only to sum up what was said before.
_SUMMARY = re.compile(
    r"ld returned \d+ exit status|linker command failed|final link failed|too many errors emitted"
)
_IDLE_NOTE = re.compile(
    r"each undeclared identifier is reported|in (?:definition|expansion) of macro|expanded from "
)
# Flags go to every step, also to those that have no use for them.
_IDLE_WARNING = re.compile(r"-W(?:unused-command-line-argument|ignored-optimization-argument)\b")
_MANGLED = re.compile(r"__pyx_(?:v|k|arg|p)_(?:self->)?(\w+)")
_IDENTIFIER = re.compile(r"['\"`]((?!__pyx)[A-Za-z_]\w*)['\"`(]")
_NEAR = 200


def parse_compiler(
    output: str, *, cwd: Path, pyx_sources: Sequence[Path] = ()
) -> tuple[Diagnostic, ...]:
    """Read what gcc, clang, tcc or a linker has printed.

    A message about generated C is placed on the line of the .pyx that the C was generated for, as
    far as Cython's comments tell. Where that works for an error, errors in the rest of the
    generated C are left out: they follow from it.

    Args:
        output: what the compiler printed, in English (``LC_ALL=C``).
        cwd: the directory it ran in.
        pyx_sources: the Cython sources that were compiled.

    Returns:
        Each message once, in the compiler's order.
    """
    files = _Files(cwd, pyx_sources)
    found: list[tuple[Diagnostic, bool]] = []
    for whole in _ESCAPE.sub("", output).splitlines():
        line = whole[:_LONGEST]
        if not _QUOTED.match(line) and (diagnostic := _parse_line(line, files)) is not None:
            found.extend(files.placed(diagnostic))
    mapped = any(d.severity == "error" for d, stray in found if not stray)
    kept = [d for d, stray in found if not stray or (d.severity == "error" and not mapped)]
    summaries = [d for d in kept if _SUMMARY.search(d.message)]
    if len(summaries) < sum(d.severity == "error" for d in kept):
        kept = [d for d in kept if d not in summaries]
    return tuple(dict.fromkeys(kept))


def _parse_line(line: str, files: _Files) -> Diagnostic | None:
    if (match := _AT.match(line)) is not None and files.knows(match["file"]):
        return Diagnostic(
            files.path(match["file"]),
            int(match["line"]),
            int(match["column"] or 0),
            _severity(match["severity"]),
            match["message"],
        )
    if (match := _UNDEFINED.match(line)) is not None:
        known = files.knows(match["file"])
        file = files.path(match["file"]) if known else Path("ld")
        number = int(match["line"] or 0) if known else 0
        return Diagnostic(file, number, 0, "error", match["message"])
    if (match := _PROGRAM.match(line)) is not None:
        if _IDLE_WARNING.search(line) or _LINKER_CONTEXT.match(match["message"]):
            return None
        program = Path(match["program"]).name
        return Diagnostic(Path(program), 0, 0, _severity(match["severity"]), match["message"])
    if (match := _LINKER.match(line)) is not None and not _LINKER_CONTEXT.match(match["message"]):
        return Diagnostic(Path("ld"), 0, 0, "error", match["message"])
    return None


def _severity(word: str) -> str:
    return {"warning": "warning", "note": "note", "remark": "note"}.get(word, "error")


class _Files:
    """The files that messages are about, each read once."""

    def __init__(self, cwd: Path, pyx_sources: Sequence[Path]) -> None:
        self._cwd = cwd
        self._pyx_sources = pyx_sources
        self._texts: dict[Path, str] = {}
        self._lines: dict[Path, list[str]] = {}
        self._generated: dict[Path, GeneratedC | None] = {}

    def path(self, name: str) -> Path:
        return Path(name) if name.startswith("<") else self._cwd / name

    def knows(self, name: str) -> bool:
        # "<command-line>" and the like are gcc's; what else is no file was no message
        return name.startswith("<") or (self._cwd / name).is_file()

    def placed(self, diagnostic: Diagnostic) -> Iterator[tuple[Diagnostic, bool]]:
        """The diagnostic where the user can do something about it.

        The second value tells that it is about C of Cython's own, which no source line stands for.
        """
        if diagnostic.severity == "note" and _IDLE_NOTE.search(diagnostic.message):
            return
        generated = self._generated_c(diagnostic.file)
        if generated is None or not diagnostic.line:
            source = self._line(diagnostic.file, diagnostic.line)
            column = _characters(source, diagnostic.column)
            yield replace(diagnostic, column=column, source=source), False
            return
        if diagnostic.severity == "note":
            return  # about the C, and the user did not write it
        origin = generated.origin(diagnostic.line)
        if origin is None:
            source = self._line(diagnostic.file, diagnostic.line)
            yield replace(diagnostic, source=source), True
            return
        message = _MANGLED.sub(r"\1", diagnostic.message)
        line, column = _mention(message, origin, self._split(origin.file))
        source = self._line(origin.file, line)
        yield Diagnostic(origin.file, line, column, diagnostic.severity, message, source), False

    def _text(self, path: Path) -> str:
        if path not in self._texts:
            try:
                self._texts[path] = path.read_bytes().decode("utf-8", "surrogateescape")
            except OSError:
                self._texts[path] = ""
        return self._texts[path]

    def _split(self, path: Path) -> list[str]:
        if path not in self._lines:
            # not splitlines(): the compilers do not end a line at a form feed
            self._lines[path] = self._text(path).replace("\r\n", "\n").split("\n")
        return self._lines[path]

    def _line(self, path: Path, number: int) -> str:
        lines = self._split(path)
        return lines[number - 1] if 0 < number <= len(lines) else ""

    def _generated_c(self, path: Path) -> GeneratedC | None:
        if path not in self._generated:
            text = self._text(path) if path.suffix != "" else ""
            self._generated[path] = (
                GeneratedC(text, cwd=self._cwd, sources=self._pyx_sources)
                if GeneratedC.recognizes(text)
                else None
            )
        return self._generated[path]


def _characters(source: str, column: int) -> int:
    """A column in characters: gcc and clang count bytes."""
    lead = source.encode("utf-8", "surrogateescape")[: max(0, column - 1)]
    return len(lead.decode("utf-8", "ignore")) + 1 if column and source else column


def _mention(message: str, origin: Origin, lines: Sequence[str]) -> tuple[int, int]:
    """The line and column of the name that a message is about; column 0 if it is not found.

    A class or function has a mark at its head only, and its declarations are C before its first
    statement, so the name may stand in the lines after the one, or before the other.
    """
    if not 0 < origin.line <= len(lines):
        return origin.line, 0
    marked = lines[origin.line - 1]
    places = [origin.line]
    if marked.rstrip().endswith(":"):
        places += _block(origin.line, lines)
    elif origin.declarations:
        places += range(origin.line - 1, max(0, origin.line - _NEAR), -1)
    for name in _IDENTIFIER.findall(message):
        for number in places:
            if (found := re.search(rf"\b{name}\b", lines[number - 1])) is not None:
                return number, found.start() + 1
    return origin.line, 0


def _block(head: int, lines: Sequence[str]) -> Iterator[int]:
    """The numbers of the lines that are indented below the line `head`."""
    indent = _indent(lines[head - 1])
    for number in range(head + 1, min(head + _NEAR, len(lines)) + 1):
        line = lines[number - 1]
        if line.strip() and _indent(line) <= indent:
            return
        yield number


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
