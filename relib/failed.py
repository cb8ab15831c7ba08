"""What modules failed with: whether to try again, and whether it has been told already."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from relib.errors import BuildError, BuildTimeout, LoadError, RelibError
from relib.module_files import PROJECT_FILES, digests, files_of, surroundings

if TYPE_CHECKING:
    from relib.building.builder import Build
    from relib.live.module import Module

__all__ = ["Failure", "is_of_project"]


class Failure:
    """What modules failed with in one step, and from which contents.

    Args:
        modules: the modules; they run what they ran before.
        error: why the new ones do not.
        before: the digests of their files when that was begun.
        builds: those that were to be run, if it came so far.
    """

    def __init__(
        self,
        modules: Collection[Module],
        error: Exception,
        before: Mapping[Path, object],
        builds: Mapping[str, Build],
    ) -> None:
        self.error = error
        self.builds = {name: build.fingerprint for name, build in builds.items()}
        self._roots = {module.build.config.root for module in modules}
        self.surroundings = frozenset[Path]().union(*map(surroundings, modules))
        mentioned = {diagnostic.file for diagnostic in getattr(error, "diagnostics", ())}
        self.files = frozenset[Path]().union(
            *map(files_of, modules),
            *(build.inputs for build in builds.values()),
            (path for path in mentioned if path.is_absolute()),
        )
        self._digests = digests(self.files)
        self.outdated = any(
            self._digests[path] != before[path] for path in self.files & before.keys()
        )
        """Whether files have changed since: it is about contents that are gone, and the next round,
        which is bound to come, will say what is true."""
        self.told: Failure | None = self
        """The last one that was told of; another one if this is outdated."""
        # What hangs would hang once more, and cannot have been waiting for a file.
        self.armed = isinstance(error, BuildTimeout)
        """Whether what could mend it was being watched when it was last tried."""

    @property
    def is_of_load(self) -> bool:
        """Whether all is built, and does not load."""
        return isinstance(self.error, LoadError)

    def stands(self) -> bool:
        """Whether trying again would say the same: the sources are wrong, and still the same."""
        # A subclass is about something else: a compiler that is missing, a disk that is full.
        return (
            type(self.error) is BuildError
            and not self.outdated
            and digests(self.files) == self._digests
        )

    def covers(self, other: Failure) -> bool:
        """Whether all that could mend the other one could have mended this one."""
        return other.files <= self.files and other.surroundings <= self.surroundings

    def repeats(self, other: Failure) -> bool:
        """Whether the other one, which was told of, was the same failure from the same contents."""
        if type(self.error) is not type(other.error) or str(self.error) != str(other.error):
            return False
        if is_of_project(self.error):
            # one failure for all modules of the project
            files = {root / name for root in self._roots for name in PROJECT_FILES}
            return self._roots == other._roots and all(
                self._digests.get(path) == other._digests.get(path) for path in files
            )
        return all(self._digests[path] == other._digests[path] for path in self.files & other.files)


def is_of_project(error: Exception) -> bool:
    """Whether it is a project file that is wrong, and not a source."""
    place = getattr(error, "path", None) or getattr(error, "origin", None)
    return isinstance(error, RelibError) and Path(str(place)).name in PROJECT_FILES
