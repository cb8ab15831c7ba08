"""Reads from a source, without Cython, what its build has to know before Cython or a compiler runs.

That is its header (see relib.declared.source_header), and what it cimports and includes: a
cimported .pxd has a header of its own, and a cimported numpy needs its include directory.
"""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from relib.declared.source_header import Header, parse_c_header, parse_cython_header
from relib.extension import C_SUFFIXES, CPLUSPLUS_SUFFIXES, CYTHON_SUFFIXES

__all__ = [
    "Facts",
    "header_language",
    "read_facts",
]


@dataclass(frozen=True, slots=True)
class Facts:
    """What one file says."""

    header: Header
    cimports: tuple[str, ...] = ()
    """Modules that may be cimported, with leading dots where relative. `from a cimport b` gives `a`
    and `a.b`, as b may be a module."""
    includes: tuple[str, ...] = ()
    """Files included as Cython text."""
    externs: tuple[str, ...] = ()
    """C headers: of `cdef extern from`, or of `#include` in a C source; `<these>` with brackets."""


def read_facts(path: Path, *, as_c: bool = False) -> Facts:
    """Return what the file at `path` says. Remembered by contents, so it is never out of date.

    Args:
        path: a Cython, C or C++ file.
        as_c: read it as C whatever its suffix.

    Raises:
        OSError: the file cannot be read.
        ProjectError: its header cannot be made sense of.
    """
    contents = path.read_bytes()
    if as_c or path.suffix in (*C_SUFFIXES, *CPLUSPLUS_SUFFIXES):
        return _c_facts(contents, path)
    return _cython_facts(contents, path)


def header_language(path: Path) -> str | None:
    """Return the language that a Cython source's header sets, if any.

    Raises:
        OSError: the file cannot be read.
        ProjectError: its header cannot be made sense of.
    """
    return read_facts(path).header.language if path.suffix in CYTHON_SUFFIXES else None


# Comments and strings: what looks like a cimport inside of them is none.
_LITERAL = re.compile(
    r'#[^\n]*|"""(?:\\.|[^\\])*?"""|'
    r"'''(?:\\.|[^\\])*?'''|"
    r'"(?:\\.|[^"\\\n])*"|'
    r"'(?:\\.|[^'\\\n])*'",
    re.DOTALL,
)
# In a conditional (IF UNAME_SYSNAME == ...) they are indented.
_FROM = re.compile(
    r"^[ \t\f]*from[ \t\f]+"
    r"(?:(cython\.cimports)(?:\.([\w.]+))?[ \t\f]+c?import|([\w.]+)[ \t\f]+cimport)\b"
    r"[ \t\f]*(\([^)]*\)|[^\n;]*)",
    re.MULTILINE,
)
_CIMPORT = re.compile(
    r"^[ \t\f]*(?:cimport[ \t\f]+([^\n;]+)|c?import[ \t\f]+cython\.cimports\.([\w.]+))",
    re.MULTILINE,
)
_EXTERN = re.compile(r'^[ \t\f]*cdef[ \t\f]+extern[ \t\f]+from[ \t\f]+"(\d+)"', re.MULTILINE)
_INCLUDE = re.compile(r'^[ \t\f]*include[ \t\f]+"(\d+)"', re.MULTILINE)
_C_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*("[^"\n]+"|<[^>\n]+>)', re.MULTILINE)


@lru_cache(maxsize=512)
def _cython_facts(contents: bytes, path: Path) -> Facts:
    text = _decode(contents)
    literals: list[str] = []

    def replace(found: re.Match[str]) -> str:
        literal = found[0]
        if literal[0] == "#":
            return ""
        quotes = 3 if literal.startswith(('"""', "'''")) else 1
        literals.append(literal[quotes:-quotes])
        return f'"{len(literals) - 1}"'

    code = _LITERAL.sub(replace, text).replace("\\\n", " ")
    cimports: dict[str, None] = {}
    for pure, package, module, names in _FROM.findall(code):
        module = package if pure else module
        if module:
            cimports[module] = None
        dot = "" if not module or module.endswith(".") else "."
        for name in names.strip("() \t\f").split(","):
            if words := name.split():
                cimports[module + dot + words[0]] = None
    for modules, pure in _CIMPORT.findall(code):
        for module in (modules or pure).split(","):
            if words := module.split():
                cimports[words[0]] = None
    return Facts(
        parse_cython_header(text, path),
        tuple(name for name in cimports if name != "cython" and not name.startswith("cython.")),
        tuple(literals[int(index)] for index in _INCLUDE.findall(code)),
        tuple(literals[int(index)] for index in _EXTERN.findall(code)),
    )


@lru_cache(maxsize=128)
def _c_facts(contents: bytes, path: Path) -> Facts:
    text = contents.decode(errors="replace")
    names = (name if name[0] == "<" else name[1:-1] for name in _C_INCLUDE.findall(text))
    return Facts(parse_c_header(text, path), externs=tuple(names))


def _decode(contents: bytes) -> str:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(contents).readline)
    except SyntaxError:  # an unknown encoding, or no UTF-8: Cython will say so, with the line
        encoding = "utf-8"
    text = contents.decode(encoding, errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")
