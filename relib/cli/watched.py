"""What `relib watch` looks after: extensions, the files they are made from, and their builds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relib.building.builder import Build, build_extension
from relib.building.several import several
from relib.cli.settings import Options, extension_of, once_each
from relib.config import Config, find_root, load_config
from relib.errors import RelibError
from relib.extension import Extension
from relib.file_paths import absolute
from relib.module_files import PROJECT_FILES, files_for, is_source, surroundings_for
from relib.project import read_project

__all__ = ["Search", "Watched", "build_all"]

_NOT_SOURCES = frozenset({"build", "dist", "node_modules", "site-packages", "__pycache__"})


@dataclass(eq=False)
class Watched:
    """One extension."""

    extension: Extension
    config: Config
    build: Build | None = None
    """The last one that was good."""
    error: RelibError | None = None
    """Why there is no newer one."""
    files: frozenset[Path] = field(default_factory=frozenset)
    """Whose change calls for another look."""
    directories: frozenset[Path] = field(default_factory=frozenset)
    """Where a file may appear that the last build has missed."""

    def rebuild(self) -> bool:
        """Build it; whether the result is another than before."""
        before = self.build
        try:
            self.build, self.error = build_extension(self.extension, self.config), None
        except RelibError as error:
            self.error = error
        self.files, self.directories = self._files(), self._directories()
        if self.error is not None or self.build is None:
            return False
        return before is None or before.fingerprint != self.build.fingerprint

    def _files(self) -> frozenset[Path]:
        inputs = () if self.build is None else self.build.inputs
        diagnostics = getattr(self.error, "diagnostics", ())
        mentioned = {each.file for each in diagnostics if each.file.is_absolute()}
        return files_for(self.extension, self.config, inputs) | mentioned

    def _directories(self) -> frozenset[Path]:
        if self.error is None:
            return frozenset()
        inputs = () if self.build is None else self.build.inputs
        return surroundings_for(self.extension, self.config, inputs)

    def concerns(self, changed: Iterable[Path]) -> bool:
        """Whether changed files may make another build of it."""
        return any(
            path in self.files or (path.parent in self.directories and is_source(path))
            for path in changed
        )


class Search:
    """The extensions that are meant, again whenever there may be others.

    Args:
        paths: files, directories and public names; none: what the project of the current directory
            declares, or else the .pyx files in it.
        options: settings.
    """

    def __init__(self, paths: Sequence[str], options: Options) -> None:
        self._paths = paths
        self._options = options
        self.directories: frozenset[Path] = frozenset()
        """Where the last search has looked for .pyx files."""

    def find(self) -> list[Watched]:
        """Search.

        Raises:
            ProjectError: two sources have one name.
        """
        before, self.directories = self.directories, frozenset()
        try:
            found = [each for path in self._paths or ("",) for each in self._meant(path)]
            return [Watched(extension, config) for extension, config in once_each(found)]
        except RelibError:
            self.directories |= before
            raise

    def is_news(self, changed: Iterable[Path], watched: Iterable[Watched]) -> bool:
        """Whether another search may find something else."""
        known = {source for one in watched for source in one.extension.sources}
        return any(
            path.name in PROJECT_FILES
            or path in self.directories
            or (
                path.parent in self.directories
                and _may_be_source(path.name)
                and (path.is_dir() if path.suffix != ".pyx" else path not in known)
            )
            for path in changed
        )

    def _meant(self, path: str) -> Iterator[tuple[Extension, Config]]:
        if path and not Path(path).is_dir():
            yield extension_of(path, self._options)
            return
        # Its own project, which need not be that of the current directory.
        directory = absolute(path)
        config = load_config(find_root(directory / "_"), **self._options)
        if not path:
            directory = config.root
        declared = [
            extension
            for extension in read_project(config).values()
            if extension.main.is_relative_to(directory)
        ]
        if path or not declared:
            sources = {source for extension in declared for source in extension.sources}
            below = _directories_below(directory)
            self.directories |= below
            for source in sorted(_cython_files(below) - sources):
                yield extension_of(str(source), self._options)
        for extension in declared:
            yield extension, config


def _directories_below(top: Path) -> frozenset[Path]:
    """The directory, and those in it that may hold sources."""
    found = set()
    for name, inner, _ in os.walk(top):
        inner[:] = filter(_may_be_source, inner)
        found.add(Path(name))
    return frozenset(found)


def _cython_files(directories: Iterable[Path]) -> set[Path]:
    return {
        path
        for directory in directories
        for path in directory.glob("*.pyx")
        if _may_be_source(path.name)
    }


def _may_be_source(name: str) -> bool:
    return name not in _NOT_SOURCES and not name.startswith(".")


def build_all(each: Iterable[Watched], step: Callable[[], None] | None = None) -> list[Watched]:
    """Build them, several at a time; those that are other than before.

    Args:
        each: what to build.
        step: called after each, in whatever thread.
    """

    def rebuild(one: Watched) -> bool:
        try:
            return one.rebuild()
        finally:
            if step is not None:
                step()

    wanted = list(each)
    jobs = wanted[0].config.jobs if wanted else 1
    news = several(rebuild, wanted, jobs=jobs)
    return [one for one, new in zip(wanted, news, strict=True) if new]
