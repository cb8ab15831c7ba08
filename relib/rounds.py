"""One round of a session: which modules changed files concern, what is to be built, what failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from relib.building.several import several
from relib.config import find_root, load_config
from relib.failed import Failure, is_of_project
from relib.live.loaded import modules as loaded_modules
from relib.live.together import with_dependents
from relib.module_files import digests, files_of, is_source

if TYPE_CHECKING:
    from relib.building.builder import Build
    from relib.live.module import Module
    from relib.watching import Watcher

__all__ = ["Group", "Rounds"]


@dataclass(slots=True, eq=False)
class Group:
    """Modules that are reloaded in one step, as they were prepared."""

    names: set[str]
    """Those whose files have changed."""
    builds: dict[str, Build] = field(default_factory=dict)
    """What to run; nothing if the contents are those that run already."""
    changed: tuple[str, ...] = ()
    """All that will be reloaded, or cannot be."""
    replaced: str | None = None
    """For an optimized build: the fingerprint of the one that must still run."""
    error: Exception | None = None
    """Why they cannot be built."""
    started: float = field(default_factory=time.perf_counter)
    """When this began."""
    before: dict[Path, object] = field(default_factory=dict)
    """What was in their files then."""

    @property
    def is_news(self) -> bool:
        """Whether there is something to be done or told."""
        return self.error is not None or bool(self.changed)


class Rounds:
    """Knows which files matter, which modules have changed, and which have failed.

    For one thread, but for `failed`, `succeeded` and `look_again`, which may be called in another.

    Args:
        minds: whether a module is to be looked after.
        jobs: how many modules to build at the same time; None: what the project of one says.
    """

    def __init__(self, minds: Callable[[Module], bool], jobs: int | None) -> None:
        self._minds = minds
        self._jobs = jobs
        self._lock = threading.Lock()
        self._dirty: set[str] = set()
        self._again: set[str] = set()
        self._missed: set[str] = set()
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

    @property
    def events(self) -> str:
        """Who is to tell of changes, as the settings of the modules' projects say."""
        for module in self.modules.values():
            return module.config.events
        return load_config(find_root(Path.cwd())).events

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
                    # what is new may have changed before it was watched
                    self.look_again({name})
                self._files[name] = (module.build, files)
        failures = dict(self._failures)
        files = frozenset[Path]().union(
            *(files for _, files in self._files.values()),
            *(each.files for each in failures.values()),
        )
        directories = frozenset[Path]().union(*(each.surroundings for each in failures.values()))
        roots = frozenset(module.build.config.root for module in modules.values())
        if (files, directories, roots) != self._watched:
            watcher.watch(files, directories, roots=roots)
            self._watched = (files, directories, roots)
        # What was missing may have come after it was looked for, and before it was watched.
        missed = {name for name, failure in failures.items() if not failure.armed}
        for name in missed:
            failures[name].armed = True
        built = {name for name in missed if failures[name].is_of_load}
        self.look_again(missed, at_all_costs=missed - built, unless_the_same=built)

    def sort(self, batch: frozenset[Path]) -> None:
        """Note which modules changed files concern."""
        found = {name for name, (_, files) in self._files.items() if not files.isdisjoint(batch)}
        again = set()
        for name, failure in list(self._failures.items()):
            if not failure.files.isdisjoint(batch):
                found.add(name)
            new = batch - failure.files
            if any(path.parent in failure.surroundings and is_source(path) for path in new):
                again.add(name)
        self.look_again(found | again, at_all_costs=again)

    def look_again(
        self,
        names: Iterable[str],
        *,
        at_all_costs: Iterable[str] = (),
        unless_the_same: Iterable[str] = (),
    ) -> None:
        """Look at these modules in the next round.

        Args:
            names: of the modules.
            at_all_costs: those that are built even if they have failed from the same contents.
            unless_the_same: those of which the same build as the one that failed is no news.
        """
        with self._lock:
            new = set(names) - self._dirty
            self._dirty |= new
            self._again |= set(at_all_costs)
            self._missed = (self._missed | (set(unless_the_same) & new)) - (
                set(names) - set(unless_the_same)
            )

    # --- building --------------------------------------------------------------------------------

    def prepare(self) -> Iterator[Group]:
        """Build what has changed, all that is independent at the same time, and group it."""
        with self._lock:
            dirty, again, missed = self._dirty, self._again, self._missed
            self._dirty, self._again, self._missed = set(), set(), set()
        try:
            yield from self._prepared(dirty, again, missed)
        except BaseException:
            self.look_again(dirty, at_all_costs=again)
            raise

    def _prepared(self, dirty: set[str], again: set[str], missed: set[str]) -> Iterator[Group]:
        started = time.perf_counter()
        loaded = self.modules
        names = {name for name in dirty & loaded.keys() if name in again or not self._stands(name)}
        before = self._digests(names)
        built = self._built(names, loaded)
        builds = {name: one for name, one in built.items() if not isinstance(one, Exception)}
        errors = {name: one for name, one in built.items() if isinstance(one, Exception)}
        for name in missed & builds.keys():
            failure = self._failures.get(name)
            if failure and failure.builds.get(name) == builds[name].fingerprint:
                del builds[name]
        for error, together in _project_errors(errors, loaded):
            group = Group(together & errors.keys(), error=error, started=started, before=before)
            group.changed = tuple(sorted(together - builds.keys()))
            yield group
            errors = {name: one for name, one in errors.items() if name not in together}
        # All that is loaded: a module that is not looked after may cimport one that is.
        everything = loaded_modules()
        news = {name for name, build in builds.items() if loaded[name].is_news(build)}
        if unchanged := builds.keys() - news:
            yield Group(set(unchanged), started=started)
        for together in groups(news | errors.keys(), everything, builds):
            group = Group(together, started=started, before=before)
            group.error = next((errors[each] for each in sorted(together) if each in errors), None)
            if group.error is None:
                self._complete(group, builds, everything)
            else:
                group.changed = tuple(sorted(together))
            yield group

    def _complete(
        self, group: Group, builds: Mapping[str, Build], everything: Mapping[str, Module]
    ) -> None:
        """Build what is reloaded with those that have changed."""
        concerned = with_dependents(group.names, everything, builds)
        group.changed = tuple(sorted(concerned))
        # Of those that were looked at because their files had changed, the build is there.
        wanted = concerned - builds.keys()
        group.before = group.before | self._digests(wanted)
        built = {**builds, **self._built(wanted, everything)}
        for name in group.changed:
            build = built[name]
            if isinstance(build, Exception):
                group.error = build
                return
            group.builds[name] = build

    def _built(
        self, names: Collection[str], loaded: Mapping[str, Module]
    ) -> dict[str, Build | Exception]:
        """The builds of modules, several at a time; for those that do not build, why."""
        broken: dict[Path, Exception] = {}

        def build(name: str) -> Build | Exception:
            root = loaded[name].build.config.root
            if root in broken:  # they all would say the same
                return broken[root]
            try:
                return loaded[name].next_build()
            except Exception as error:
                if is_of_project(error):
                    broken[root] = error
                return error

        jobs = self._jobs or max((loaded[name].config.jobs for name in names), default=1)
        names = sorted(names)
        return dict(zip(names, several(build, names, jobs=jobs), strict=True))

    def _digests(self, names: Iterable[str]) -> dict[Path, object]:
        files = (self._files[name][1] for name in names if name in self._files)
        return digests(frozenset[Path]().union(*files))

    def _stands(self, name: str) -> bool:
        failure = self._failures.get(name)
        return failure is not None and failure.stands()

    # --- what became of it -----------------------------------------------------------------------

    def succeeded(self, names: Iterable[str], *, upgraded: bool = False) -> None:
        """These run what their sources say.

        Args:
            names: of the modules.
            upgraded: whether they did not before; what has not loaded may load with them.
        """
        for name in names:
            self._failures.pop(name, None)
        if upgraded:
            failures = list(self._failures.items())
            self.look_again({name for name, failure in failures if failure.is_of_load})

    def failed(self, names: Iterable[str], error: Exception, group: Group) -> bool:
        """These could not be reloaded.

        Returns:
            Whether to tell of it: not if it is the same failure from the same contents as the last
            one, nor if the contents are others by now.
        """
        modules = {name: each for name, each in self.modules.items() if name in set(names)}
        of_project = is_of_project(error)
        known = list(self._failures.values()) if of_project else []
        tell = False
        # What mends one of them mends all, but a project file is the same for all anyway.
        for together in [[name] for name in modules] if of_project else [list(modules)]:
            failure = Failure(
                [modules[name] for name in together], error, group.before, group.builds
            )
            for name in together:
                last = self._failures.get(name)
                failure.armed |= last is not None and last.armed and last.covers(failure)
                if failure.outdated:
                    failure.told = last and last.told
                else:
                    told = known if last is None else [last]
                    tell |= not any(failure.repeats(each.told) for each in told if each.told)
                self._failures[name] = failure
        return tell


def groups(
    names: Iterable[str], loaded: Mapping[str, Module], builds: Mapping[str, Build]
) -> list[set[str]]:
    """These modules, put together where one is reloaded with the other.

    Args:
        names: of the modules.
        loaded: all modules.
        builds: what those are to run that have been built; who cimports whom may have changed.
    """
    found: list[tuple[set[str], set[str]]] = []
    for name in sorted(names):
        together, reach = {name}, with_dependents({name}, loaded, builds)
        for other in [other for other in found if other[1] & reach]:
            found.remove(other)
            together |= other[0]
            reach |= other[1]
        found.append((together, reach))
    return [together for together, _ in found]


def _project_errors(
    errors: Mapping[str, Exception], loaded: Mapping[str, Module]
) -> Iterator[tuple[Exception, set[str]]]:
    """What is wrong with a project file, and the modules of the project: all would say the same."""
    told = set()
    for name, error in errors.items():
        root = loaded[name].build.config.root
        if is_of_project(error) and root not in told:
            told.add(root)
            yield error, {name for name, each in loaded.items() if each.build.config.root == root}
