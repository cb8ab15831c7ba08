"""One round of a session: which modules changed files concern, what is to be built, what failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from relib.building.several import several
from relib.errors import BuildError, RelibError
from relib.live.loaded import modules as loaded_modules
from relib.live.together import with_dependents

if TYPE_CHECKING:
    from relib.building.builder import Build
    from relib.live.module import Module
    from relib.watching import Watcher

__all__ = ["Group", "Rounds"]

_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")
_SUFFIXES = {
    *(".pyx", ".pxd", ".pxi", ".py", ".c", ".cc", ".cpp", ".cxx", ".c++"),
    *(".h", ".hh", ".hpp", ".hxx", ".h++", ".inc", ".inl", ".ipp", ".tcc", ".tpp"),
}
_MOST_SURROUNDINGS = 256


def files_of(module: Module) -> frozenset[Path]:
    """All files whose change may call for another build of a module, there or not.

    They are what its build was made from, what would have been read if it had been there, and the
    project's files.
    """
    from relib.building.builder import inputs_of
    from relib.declared.setup_script import files_read

    build = module.build
    root = build.config.root
    files = {*build.inputs, *module.extension.sources, *files_read(root)}
    files |= {root / name for name in _PROJECT_FILES}
    with suppress(RelibError):  # the store is refused: the next build says so
        files |= set(inputs_of(module.extension, build.config))
    return frozenset(files)


def surroundings(module: Module) -> frozenset[Path]:
    """The directories in which a file may be missing that a module's sources ask for.

    What a source that does not build needs, no build knows: the .pxi that is still to be written,
    the header that is to come. So whatever appears here is reason to try again.
    """
    extension = module.extension
    root = module.build.config.root
    found = {source.parent for source in extension.sources}
    found |= {path.parent for path in module.build.inputs if path.is_relative_to(root)}
    found |= {Path(path) for path in (*extension.include_dirs, *extension.cython_include_path)}
    found = {path for path in found if path.is_relative_to(root)} | {extension.main.parent, root}
    below = set()
    for directory in found:
        try:
            below |= {
                path
                for path in directory.iterdir()
                if path.is_dir() and not path.name.startswith((".", "__"))
            }
        except OSError:
            continue
    return frozenset(sorted(found)[:_MOST_SURROUNDINGS]) | frozenset(
        sorted(below)[:_MOST_SURROUNDINGS]
    )


def is_source(path: Path) -> bool:
    """Whether a source may ask for a file of this name, or it may be a directory with such files.

    >>> is_source(Path("vec.pxi")), is_source(Path("notes.txt")), is_source(Path("pkg"))
    (True, False, True)
    """
    return path.suffix in _SUFFIXES or (not path.suffix and not path.name.startswith("."))


@dataclass(slots=True)
class Group:
    """Modules that are reloaded in one step, as they were prepared."""

    names: set[str]
    """Those whose files have changed."""
    builds: dict[str, Build] = field(default_factory=dict)
    """What to run; nothing if the contents are those that run already."""
    changed: tuple[str, ...] = ()
    """All that will be reloaded."""
    replaced: tuple[tuple[str, str], ...] = ()
    """For optimized builds: which builds must still run, by name and fingerprint."""
    error: Exception | None = None
    """Why they cannot be built."""
    started: float = field(default_factory=time.perf_counter)
    """When this began."""
    before: dict[Path, object] = field(default_factory=dict)
    """What was in their files then."""


class Failure:
    """What a module failed with, and from which contents.

    Args:
        module: the module; it runs what it ran before.
        error: why the new one does not.
        before: the digests of its files when that was begun.
    """

    def __init__(self, module: Module, error: Exception, before: Mapping[Path, object]) -> None:
        self.error = error
        self.root = module.build.config.root
        self.surroundings = surroundings(module)
        mentioned = {diagnostic.file for diagnostic in getattr(error, "diagnostics", ())}
        self.files = files_of(module) | {path for path in mentioned if path.is_absolute()}
        self._digests = digests(self.files)
        self.outdated = any(
            self._digests[path] != before[path] for path in self.files & before.keys()
        )
        """Whether files have changed since: it is about contents that are gone, and the next round,
        which is bound to come, will say what is true."""

    def stands(self) -> bool:
        """Whether trying again would say the same: the sources are wrong, and still the same."""
        # A subclass is about something else: a compiler that is missing, a disk that is full.
        return (
            type(self.error) is BuildError
            and not self.outdated
            and digests(self.files) == self._digests
        )

    def repeats(self, other: Failure) -> bool:
        """Whether the other one, which was told of, was the same failure from the same contents."""
        if other.outdated:
            return False
        if type(self.error) is not type(other.error) or str(self.error) != str(other.error):
            return False
        if is_of_project(self.error):
            # one failure for all modules of the project
            files = {self.root / name for name in _PROJECT_FILES}
            return self.root == other.root and all(
                self._digests.get(path) == other._digests.get(path) for path in files
            )
        return self._digests == other._digests


def digests(files: Iterable[Path]) -> dict[Path, object]:
    """What is in files now; for those that cannot be read, why."""
    from relib.building.builder import contents

    found: dict[Path, object] = {}
    for path in files:
        try:
            found[path] = contents.digest(path)
        except OSError as error:
            found[path] = error.errno
    return found


class Rounds:
    """Knows which files matter, which modules have changed, and which have failed.

    For one thread, but for `failed` and `succeeded`, which may be called in another.

    Args:
        minds: whether a module is to be looked after.
        jobs: how many modules to build at the same time; None: what the project of one says.
    """

    def __init__(self, minds: Callable[[Module], bool], jobs: int | None) -> None:
        self._minds = minds
        self._jobs = jobs
        self._dirty: set[str] = set()
        self._again: set[str] = set()
        self._failures: dict[str, Failure] = {}
        self._files: dict[str, tuple[Build, frozenset[Path]]] = {}
        self._watched: object = None

    @property
    def modules(self) -> dict[str, Module]:
        """The modules that are loaded and are to be looked after, by name."""
        return {name: each for name, each in loaded_modules().items() if self._minds(each)}

    @property
    def due(self) -> bool:
        """Whether there are modules to look at."""
        return bool(self._dirty)

    def knows(self, name: str) -> bool:
        """Whether a module of this name was looked after the last time that files were watched."""
        return name in self._files

    # --- what has changed ------------------------------------------------------------------------

    def arm(self, watcher: Watcher) -> None:
        """Watch what the modules are made from now."""
        modules = self.modules
        for name in self._files.keys() - modules.keys():
            del self._files[name]
            self._failures.pop(name, None)
        for name, module in modules.items():
            known = self._files.get(name)
            if known is None or known[0] is not module.build:
                files = files_of(module)
                if known is None or not files <= known[1]:
                    self._dirty.add(name)  # what is new may have changed before it was watched
                self._files[name] = (module.build, files)
        failures = list(self._failures.values())
        files = frozenset[Path]().union(
            *(files for _, files in self._files.values()), *(each.files for each in failures)
        )
        directories = frozenset[Path]().union(*(each.surroundings for each in failures))
        roots = frozenset(module.build.config.root for module in modules.values())
        if (files, directories, roots) != self._watched:
            watcher.watch(files, directories, roots=roots)
            self._watched = (files, directories, roots)

    def sort(self, batch: frozenset[Path]) -> None:
        """Note which modules changed files concern."""
        for name, (_, files) in self._files.items():
            if not files.isdisjoint(batch):
                self._dirty.add(name)
        for name, failure in list(self._failures.items()):
            if not failure.files.isdisjoint(batch):
                self._dirty.add(name)
            new = batch - failure.files
            if any(path.parent in failure.surroundings and is_source(path) for path in new):
                self._dirty.add(name)
                self._again.add(name)

    # --- building --------------------------------------------------------------------------------

    def prepare(self) -> Iterator[Group]:
        """Build what has changed, group by group."""
        loaded = self.modules
        names, again = self._dirty & loaded.keys(), self._again
        self._dirty, self._again = set(), set()
        left = groups(names, loaded)
        while left:
            together = left.pop(0)
            failures = [self._failures.get(name) for name in together - again]
            if failures and not together & again and all(f and f.stands() for f in failures):
                continue
            group = self._prepared(together, loaded)
            if group.error is not None and is_of_project(group.error):
                # They all would say the same.
                root = loaded[min(together)].build.config.root
                same = {name for name, each in loaded.items() if each.build.config.root == root}
                left = [other for other in left if not other <= same]
                group.names = together | same
            yield group

    def _prepared(self, names: set[str], loaded: Mapping[str, Module]) -> Group:
        group = Group(names)
        try:
            files = (self._files[name][1] for name in names if name in self._files)
            group.before = digests(frozenset[Path]().union(*files))
            builds = self._build(names, loaded)
            news = {name for name in names if loaded[name].is_news(builds[name])}
            if news:
                # All that is loaded: a module that is not looked after may cimport one that is.
                everything = loaded_modules()
                concerned = with_dependents(news, everything)
                group.builds = builds | self._build(concerned - builds.keys(), everything)
                group.changed = tuple(sorted(concerned))
        except Exception as error:
            group.error = error
        return group

    def _build(self, names: Iterable[str], loaded: Mapping[str, Module]) -> dict[str, Build]:
        names = sorted(names)
        jobs = self._jobs or max((loaded[name].config.jobs for name in names), default=1)
        builds = several(lambda name: loaded[name].next_build(), names, jobs=jobs)
        return dict(zip(names, builds, strict=True))

    # --- what became of it -----------------------------------------------------------------------

    def succeeded(self, names: Iterable[str]) -> None:
        """These run what their sources say."""
        for name in names:
            self._failures.pop(name, None)

    def failed(self, names: Iterable[str], error: Exception, before: Mapping[Path, object]) -> bool:
        """These could not be reloaded.

        Returns:
            Whether to tell of it: not if it is the same failure from the same contents as the last
            one, nor if the contents are others by now.
        """
        modules = self.modules
        known = list(self._failures.values()) if is_of_project(error) else []
        tell = False
        for name in names:
            if name in modules:
                failure = Failure(modules[name], error, before)
                last = [self._failures[name]] if name in self._failures else known
                if not failure.outdated and not any(map(failure.repeats, last)):
                    tell = True
                self._failures[name] = failure
        return tell


def groups(names: Iterable[str], loaded: Mapping[str, Module]) -> list[set[str]]:
    """These modules, put together where one is reloaded with the other."""
    found: list[tuple[set[str], set[str]]] = []
    for name in sorted(names):
        together, reach = {name}, with_dependents({name}, loaded)
        for other in [other for other in found if other[1] & reach]:
            found.remove(other)
            together |= other[0]
            reach |= other[1]
        found.append((together, reach))
    return [together for together, _ in found]


def is_of_project(error: Exception) -> bool:
    """Whether it is a project file that is wrong, and not a source."""
    place = getattr(error, "path", None) or getattr(error, "origin", None)
    return isinstance(error, RelibError) and Path(str(place)).name in _PROJECT_FILES
