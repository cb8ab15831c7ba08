"""Follows a source's cimports and includes, as far as its build depends on what they say.

As in cythonize (Cython 3.3, Build/Dependencies.py, DependencyTree) a source takes over the headers
of the .pxd files that it cimports, directly or not, and the directories of the C headers that
these and it declare with `cdef extern from "x.h"`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from relib.declared.module_name import package_of
from relib.declared.source_facts import Facts, read_facts
from relib.declared.source_header import Header
from relib.extension import CYTHON_SUFFIXES
from relib.file_paths import absolute

__all__ = ["Survey", "package_include_dirs", "survey"]

# Packages with C headers that are found without being declared: where in the package they are.
# numpy moved them in version 2.
_PACKAGE_HEADERS = {"numpy": ("_core/include", "core/include"), "pybind11": ("include",)}
# Come with Cython, and set nothing.
_CYTHONS_OWN = {"cpython", "libc", "libcpp", "openmp", "posix"}


@dataclass(frozen=True, slots=True)
class Survey:
    """What a source and all that it cimports and includes say about its build."""

    header: Header
    """The source's header with what it takes over; paths are absolute."""
    extern_dirs: tuple[str, ...]
    """Directories of C headers that are declared relative to the file that declares them."""
    packages: tuple[str, ...]
    """Of the packages whose C headers relib finds by itself, those that are used."""


def survey(
    source: Path, include_path: Sequence[str], resolve: Callable[[Path, str, str], str]
) -> Survey:
    """Follow `source` (an absolute path) to all that it cimports and includes.

    Args:
        source: a Cython, C or C++ source.
        include_path: where .pxd and .pxi files are looked for, besides the source's own package
            and sys.path.
        resolve: `resolve(file, key, item)` returns an item of that file's header with its path made
            absolute.

    Raises:
        OSError: `source` itself cannot be read. What it includes and is not there is left to
            Cython and the compiler, who report it with its line.
        ProjectError: a header cannot be made sense of.
    """
    search = _Search(tuple(include_path), resolve)
    search.visit(source, read_facts(source))
    assert search.header is not None
    used = tuple(package for package in _PACKAGE_HEADERS if package in search.packages)
    return Survey(search.header, tuple(search.extern_dirs), used)


class _Search:
    def __init__(
        self, include_path: tuple[str, ...], resolve: Callable[[Path, str, str], str]
    ) -> None:
        self.include_path = include_path
        self.resolve = resolve
        self.header: Header | None = None
        self.extern_dirs: dict[str, None] = {}
        self.packages: set[str] = set()
        self.visited: set[Path] = set()

    def visit(self, path: Path, facts: Facts) -> None:
        """Take in the source or the .pxd at `path`, and what it cimports."""
        self.visited.add(path)
        header = facts.header.with_paths(lambda key, item: self.resolve(path, key, item))
        self.header = header if self.header is None else self.header.inherit(header)
        cimports = dict.fromkeys(facts.cimports)
        self._take_externs(path, facts)
        self._visit_included(path, facts, cimports)
        found = [path.with_suffix(".pxd")] if path.suffix in CYTHON_SUFFIXES else []
        for module in cimports:
            top = module.partition(".")[0]
            if top in _PACKAGE_HEADERS:
                # not followed: numpy's own .pxd files are long and have no header
                self.packages.add(top)
            elif top not in _CYTHONS_OWN and (pxd := self._find_pxd(module, path)) is not None:
                found.append(pxd)
        for pxd in found:
            if pxd not in self.visited:
                try:
                    facts = read_facts(pxd)
                except OSError:
                    continue
                self.visit(pxd, facts)

    def _visit_included(self, path: Path, facts: Facts, cimports: dict[str, None]) -> None:
        """Take in the files that `path` includes: their cimports count as its own."""
        for include in facts.includes:
            for directory in (str(path.parent), *self.include_path):
                included = Path(directory, include)
                if included in self.visited:
                    break
                try:
                    inner = read_facts(included)
                except OSError:
                    continue
                self.visited.add(included)
                cimports.update(dict.fromkeys(inner.cimports))
                self._take_externs(included, inner)
                self._visit_included(included, inner, cimports)
                break

    def _take_externs(self, path: Path, facts: Facts) -> None:
        for name in facts.externs:
            bare = name.strip("<>")
            top = bare.partition("/")[0]
            if top in _PACKAGE_HEADERS:
                self.packages.add(top)
            header = path.parent / bare
            if name != bare or not header.exists():
                continue
            self.extern_dirs[str(path.parent)] = None
            if header not in self.visited:
                self.visited.add(header)
                with contextlib.suppress(OSError):
                    self._take_externs(header, read_facts(header, as_c=True))

    def _find_pxd(self, module: str, path: Path) -> Path | None:
        package = package_of(path)
        root = str(path.parents[len(package)])
        name = module.lstrip(".")
        level = len(module) - len(name)
        if level:
            package = package[: len(package) - level + 1] if level <= len(package) else ()
            return _pxd_in(root, (*package, *filter(None, name.split("."))))
        parts = tuple(name.split("."))
        # Cython looks into the file's own package first, as Python 2 did for imports.
        if package and (pxd := _pxd_in(root, (*package, *parts))) is not None:
            return pxd
        for directory in (root, *self.include_path, *sys.path):
            if (pxd := _pxd_in(directory or os.curdir, parts)) is not None:
                return pxd
        return None


def _pxd_in(directory: str, parts: tuple[str, ...]) -> Path | None:
    # texts, not paths: hundreds of these for a source with many cimports
    if not parts:
        return None
    module = f"{directory}/{'/'.join(parts)}"
    for candidate in (
        f"{directory}/{'.'.join(parts)}.pxd",
        f"{module}.pxd",
        f"{module}/__init__.pxd",
    ):
        if os.path.isfile(candidate):  # noqa: PTH113
            return absolute(candidate)
    return None


def package_include_dirs(package: str) -> tuple[str, ...]:
    """Return the include directory of a package's C headers, if it is installed.

    The package is not imported for that: importing numpy takes 100 ms.
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # ValueError: a module without __spec__ stands in for it
        return ()
    for location in (spec.submodule_search_locations or ()) if spec else ():
        for place in _PACKAGE_HEADERS[package]:
            directory = Path(location, place)
            if directory.is_dir():
                return (str(directory),)
    return ()
