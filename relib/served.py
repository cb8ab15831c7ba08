"""What the import hook serves: which names it looks at, and where it finds their sources."""

from __future__ import annotations

import logging
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from relib.errors import RelibError
from relib.file_paths import absolute
from relib.module_files import PROJECT_FILES

if TYPE_CHECKING:
    from relib.config import Config
    from relib.declared.project_files import Declaration
    from relib.extension import Extension

__all__ = ["Project", "Served", "Settings"]

_log = logging.getLogger("relib")

# Never looked at, even in a checkout of theirs: a build imports them.
_OWN = frozenset({"relib", "Cython", "cython", "setuptools"})
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_QUOTED = re.compile(r"""["']([A-Za-z_]\w*)[\w.]*["']""")
_WORD = re.compile(r"[A-Za-z_]\w*")


class Settings:
    """The settings of whatever project a source is in.

    Args:
        config: all settings, for every project.
        options: or some settings, over what each project says.
    """

    def __init__(self, config: Config | None, options: Mapping[str, object]) -> None:
        self.config = config
        self.options = dict(options)

    def of(self, root: Path) -> Config:
        """The settings that are in force now for the project at `root`."""
        from relib.config import load_config

        return self.config or load_config(root, None, **self.options)


class Project:
    """What one project declares."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root = root
        self._settings = settings
        self._declared: dict[str, Declaration] | None = None
        self._signature: object = None

    def config(self) -> Config:
        """Its settings, as they are now."""
        return self._settings.of(self.root)

    def declared(self) -> dict[str, Declaration]:
        """What it declares, by name. Read once: a setup.py takes a second to run.

        A project file that cannot be read is logged, once, and declares nothing.
        """
        declared = self._declared  # which another thread may forget meanwhile
        if declared is None:
            from relib.declared.project_files import read_declarations

            try:
                declared = read_declarations(self.config())
            except RelibError as error:
                _log.warning("%s", error)
                declared = {}
            self._declared = declared
        return declared

    def has_under_other_name(self, source: str, name: str) -> bool:
        """Whether the source is declared, and not as `name`."""
        real = os.path.realpath(source)
        names = {
            declaration.name
            for declaration in self.declared().values()
            if os.path.realpath(declaration.sources[0]) == real
        }
        return bool(names) and name not in names

    def names(self) -> set[str]:
        """The top-level names that it declares; others, too, until the project has been read.

        A setup.py takes a second to run, which no program shall wait for that imports nothing of
        it. Until then each name that is quoted there may be declared, and each in pyproject.toml.
        """
        declared = self._declared
        if declared is not None:
            return {name.partition(".")[0] for name in declared}
        found = set(_QUOTED.findall(_text(self.root / "setup.py")))
        text = _text(self.root / "pyproject.toml")
        if "extensions" in text or "ext-modules" in text:
            found.update(_WORD.findall(text))
        return found

    def forget(self) -> None:
        """Read it anew when it is needed next."""
        self._declared = None

    def has_changed(self) -> bool:
        """Whether its project files are others than when this was last asked."""
        before, self._signature = (
            self._signature,
            [_stamp(self.root / name) for name in PROJECT_FILES],
        )
        return before != self._signature


class Served:
    """Packages and directories whose extensions are imported through relib.

    Args:
        settings: with which they are built.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.packages: set[str] = set()
        self.directories: list[str] = []
        self._projects: dict[str, Project] = {}
        self._within: dict[str, bool] = {}
        self._stamps: object = None

    def add(self, packages: Iterable[str], directories: Iterable[Path]) -> None:
        """Serve more."""
        self.packages.update(packages)
        for directory in map(str, directories):
            if directory not in self.directories:
                self.directories.append(directory)
                self.project_of(directory)
        self._within.clear()

    def project_of(self, directory: str) -> Project:
        """The project that a directory is in."""
        root = _root_of(directory)
        if root not in self._projects:
            self._projects[root] = Project(Path(root), self.settings)
        return self._projects[root]

    # --- names -----------------------------------------------------------------------------------

    def names(self) -> frozenset[str]:
        """The top-level names that may be served; all others need not be looked at."""
        found = {package.partition(".")[0] for package in self.packages}
        for root in self._roots():
            found |= _importable(root)
        for project in list(self._projects.values()):
            found |= project.names()
        return frozenset(found - _OWN)

    def has_changed(self) -> bool:
        """Whether there may be names that there were not when this was last asked."""
        before, self._stamps = self._stamps, [_stamp(Path(root)) for root in self._roots()]
        changed = [project for project in self._projects.values() if project.has_changed()]
        for project in changed:
            project.forget()
        return bool(changed) or before != self._stamps

    def forget(self) -> None:
        """Look at everything anew."""
        _root_of.cache_clear()
        self._within.clear()
        for project in self._projects.values():
            project.forget()

    def _roots(self) -> Iterator[str]:
        """Where modules without a package may lie."""
        for directory in self.directories:
            yield directory
            yield os.path.join(directory, "src")  # noqa: PTH118
        yield from (entry for entry in _places(sys.path) if self._is_within(entry))

    # --- sources ---------------------------------------------------------------------------------

    def find(self, name: str, path: Sequence[str] | None) -> tuple[str, Project, bool] | None:
        """The main source of a module, its project, and whether it is declared there.

        Args:
            name: the public name.
            path: where its package's modules are looked for; None for a module without one.
        """
        entries = list(_places(sys.path if path is None else path))
        chosen = any(name == each or name.startswith(f"{each}.") for each in self.packages)
        source, ordinary = self._look(name, entries, chosen)
        if ordinary:
            return None
        projects = self._concerned(entries, chosen)
        for project in projects:
            if declaration := project.declared().get(name):
                return declaration.sources[0], project, True
        if source is None:
            return None
        project = self.project_of(os.path.dirname(source))  # noqa: PTH120
        if project.has_under_other_name(source, name):
            return None
        return source, project, False

    def extension(
        self, name: str, source: str, project: Project, declared: bool
    ) -> tuple[Extension, Config]:
        """What `find` has found, as it is to be built now."""
        from relib.project import find_extension

        config = project.config()
        if declared:
            return find_extension(name, config=config)
        return find_extension(Path(source), name=name, config=config)

    def _look(self, name: str, entries: Sequence[str], chosen: bool) -> tuple[str | None, bool]:
        """The .pyx file by its place, if there is one; and whether it is an ordinary package."""
        tail = name.rpartition(".")[2]
        for index, entry in enumerate(entries):
            if not (chosen or self._is_within(entry)):
                continue
            base = f"{entry}{os.sep}{tail}"
            found = None
            if os.path.isfile(f"{base}{os.sep}__init__.pyx"):  # noqa: PTH113
                found = f"{base}{os.sep}__init__.pyx"
            elif os.path.isfile(f"{base}{os.sep}__init__.py"):  # noqa: PTH113
                return None, True
            elif os.path.isfile(f"{base}.pyx"):  # noqa: PTH113
                found = f"{base}.pyx"
            if found is not None:
                # What comes earlier on the path goes before, as for any import.
                earlier = PathFinder.find_spec(name, entries[:index]) if index else None
                hidden = earlier is not None and earlier.loader is not None
                return (None if hidden else found), False
        return None, False

    def _concerned(self, entries: Iterable[str], chosen: bool) -> list[Project]:
        if chosen:
            for entry in entries:
                self.project_of(entry)
            return list(self._projects.values())
        return [self.project_of(directory) for directory in self.directories]

    def _is_within(self, place: str) -> bool:
        """Whether a directory is in one of those that are served, and not of what is installed."""
        known = self._within.get(place)
        if known is None:
            known = self._within[place] = any(
                _is_inside(form, directory)
                for directory in self.directories
                for form in {place, os.path.realpath(place)}
            )
        return known


def _is_inside(place: str, directory: str) -> bool:
    if place != directory and not place.startswith(directory.rstrip(os.sep) + os.sep):
        return False
    below = Path(place[len(directory) :]).parts
    library = sysconfig.get_path("stdlib")
    return _INSTALLED.isdisjoint(below) and (
        not place.startswith(library) or directory.startswith(library)
    )


def _places(path: Iterable[str]) -> Iterator[str]:
    """The directories of a search path, absolute; "" is the current one."""
    for entry in path:
        if isinstance(entry, str):
            yield entry if entry.startswith(os.sep) else str(absolute(entry))


def _importable(directory: str) -> set[str]:
    """The names of packages and of extensions, built or not, in a directory."""
    found = set()
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                stem, _, rest = entry.name.partition(".")
                if stem.isidentifier() and (
                    rest == "pyx"
                    or f".{rest}" in EXTENSION_SUFFIXES
                    or (not rest and stem != "__pycache__" and entry.is_dir())
                ):
                    found.add(stem)
    except OSError:
        pass
    return found


@lru_cache(maxsize=4096)
def _root_of(directory: str) -> str:
    from relib.config import find_root

    return str(find_root(Path(directory, "_")))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
