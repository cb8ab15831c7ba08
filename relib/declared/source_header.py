"""Reads the "distutils:" comments at the top of a source.

`# distutils: libraries = m` in a Cython source means here what it means to cythonize
(Cython 3.3, Build/Dependencies.py, DistutilsInfo, parse_list). It is read anew here and not by
Cython, because importing Cython takes 300 ms and 30 MB of the user's process. In a C or C++ source
the same lines may stand in comments: `// distutils: libraries = m`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relib.errors import ProjectError
from relib.spelling import did_you_mean

__all__ = ["Header", "parse_c_header", "parse_cython_header", "parse_list"]

# Whether a cimporting source takes the setting over from a .pxd (transitive_list there).
_INHERITED = {
    "libraries": True,
    "library_dirs": True,
    "runtime_library_dirs": True,
    "include_dirs": True,
    "extra_compile_args": True,
    "extra_link_args": True,
    "depends": True,
    "sources": False,
    "define_macros": False,
    "undef_macros": False,
    "extra_objects": False,
}
# Known, and without meaning here: the name comes from the file's place, as in cythonize;
# PyInit_ is all that a build exports; and Pythran is not supported.
_IGNORED = {"name", "export_symbols", "np_pythran"}

_QUOTED = r'"(?:\\.|[^"\\])*"|' + r"'(?:\\.|[^'\\])*'"
_COMMENT = re.compile(rf"((?:{_QUOTED}|[^#])*?)#.*", re.DOTALL)
_SPACED_ITEM = re.compile(rf"(?:{_QUOTED}|\S)+")
_COMMA_ITEM = re.compile(rf"(?:{_QUOTED}|[^,])+")
_WHOLLY_QUOTED = re.compile(_QUOTED)


@dataclass(frozen=True, slots=True)
class Header:
    """What a source's header sets."""

    language: str | None = None
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The fields of an extension that are lists, define_macros as `NAME` or `NAME=value`."""

    def inherit(self, pxd: Header) -> Header:
        """Return this header with what it takes over from that of a cimported .pxd."""
        lists = dict(self.lists)
        for key, items in pxd.lists.items():
            if _INHERITED[key]:
                mine = lists.get(key, ())
                lists[key] = (*mine, *(item for item in items if item not in mine))
        return Header(self.language or pxd.language, lists)

    def over(self, declared: Header) -> Header:
        """Return this header joined with what the project declares for the extension.

        As in cythonize the header wins where only one can be (the language, and the lists that are
        not inherited), and where both can, its items come first.
        """
        joined = self.inherit(declared)
        lists = dict(joined.lists)
        for key, items in declared.lists.items():
            if key == "sources":
                added = [item for item in self.lists.get(key, ()) if item not in items]
                lists[key] = (*items, *added)
            elif items:
                lists.setdefault(key, items)
        return Header(joined.language, lists)

    def with_paths(self, resolve: Callable[[str, str], str]) -> Header:
        """Return this header with `resolve(key, item)` in the place of every item."""
        lists = {
            key: tuple(resolve(key, item) for item in items) for key, items in self.lists.items()
        }
        return Header(self.language, lists)


def parse_list(text: str) -> list[str]:
    """Read a list: words separated by spaces, or items in brackets separated by commas.

    An item in quotes is taken as it stands between them. Unlike Cython 3.3, which answers with its
    own place holders there, quotes may also stand inside of an item, and `#` starts a comment.

    >>> parse_list('m "a b" -DX="1 2"')
    ['m', 'a b', '-DX="1 2"']
    >>> parse_list('[a, ",a", b c, ]  # four')
    ['a', ',a', 'b c']
    """
    text = text.strip()
    if comment := _COMMENT.fullmatch(text):
        text = comment[1].strip()
    if len(text) >= 2 and text[0] == "[" and text[-1] == "]":
        items = [item.strip() for item in _COMMA_ITEM.findall(text[1:-1])]
    else:
        items = _SPACED_ITEM.findall(text)
    return [item[1:-1] if _WHOLLY_QUOTED.fullmatch(item) else item for item in items if item]


def parse_cython_header(text: str, path: Path) -> Header:
    """Read the header of a Cython source: of the comments before the first line of code.

    Raises:
        ProjectError: the language is one that cannot be built.
    """
    return _header(_cython_settings(text), path)


def parse_c_header(text: str, path: Path) -> Header:
    """Read the header of a C or C++ source: of the comments before the first line of code.

    Raises:
        ProjectError: the language is one that cannot be built.
    """
    return _header(_c_settings(text), path)


def _header(settings: Iterator[tuple[int, str, str]], path: Path) -> Header:
    language: str | None = None
    lists: dict[str, tuple[str, ...]] = {}
    for line, key, value in settings:
        if key in _INHERITED:
            lists[key] = tuple(parse_list(value))
        elif key == "language":
            if value not in ("c", "c++"):
                message = f"{path}:{line}: the language must be c or c++, not {value!r}"
                raise ProjectError(message, path=path, line=line)
            language = value
        elif key not in _IGNORED:
            # Cython hands it on to setuptools' Extension, which warns too.
            known = did_you_mean(key, [*_INHERITED, "language"])
            warnings.warn(f"{path}:{line}: unknown setting {key!r}{known}", stacklevel=2)
    return Header(language, lists)


def _cython_settings(text: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        line = line.lstrip()
        if not line:
            continue
        if line[0] != "#":
            return
        kind, colon, setting = line[1:].lstrip().partition(":")
        if not colon or kind not in ("distutils", "cython"):
            continue
        key, _, value = (word.strip() for word in setting.partition("="))
        # "# cython:" sets directives, which are Cython's own business, and also all of this
        if kind == "distutils" or key in _INHERITED or key == "language":
            yield number, key, value


def _c_settings(text: str) -> Iterator[tuple[int, str, str]]:
    in_block = False
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not in_block:
            if not line:
                continue
            if line.startswith("/*"):
                in_block, line = True, line[2:]
            elif line.startswith("//"):
                line = line[2:]
            else:
                return
        if in_block:
            line, end, rest = line.partition("*/")
            in_block = not end
            if rest.strip():
                return
            line = line.lstrip("*")
        kind, colon, setting = line.lstrip("/* \t").partition(":")
        if colon and kind == "distutils":
            key, _, value = (word.strip() for word in setting.partition("="))
            yield number, key, value
