"""What `relib watch` looks after: extensions, the files they are made from, and their builds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from relib.building.builder import Build, build_extension, inputs_of
from relib.cli.settings import Options, extension_of, once_each
from relib.config import Config, find_root, load_config
from relib.declared.setup_script import files_read
from relib.errors import RelibError, StoreRefused
from relib.extension import Extension
from relib.file_paths import absolute
from relib.project import read_project

__all__ = ["Watched", "build_all", "find_watched"]

_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")
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

    def rebuild(self) -> bool:
        """Build it; whether the result is another than before."""
        before = self.build
        try:
            self.build, self.error = build_extension(self.extension, self.config), None
        except RelibError as error:
            self.error = error
        self.files = self._files()
        if self.error is not None or self.build is None:
            return False
        return before is None or before.fingerprint != self.build.fingerprint

    def _files(self) -> frozenset[Path]:
        root = self.config.root
        found = {root / name for name in _PROJECT_FILES}
        found.update(self.extension.sources, self.extension.depends, files_read(root))
        if self.build is not None:
            found.update(self.build.inputs)
        with suppress(StoreRefused):  # the build has said so
            found.update(inputs_of(self.extension, self.config))
        diagnostics = getattr(self.error, "diagnostics", ())
        return frozenset(found | {each.file for each in diagnostics if each.file.is_absolute()})

    @property
    def directories(self) -> frozenset[Path]:
        """Where a file may appear that a build has missed."""
        if self.error is None:
            return frozenset()
        return frozenset(source.parent for source in self.extension.sources)


def find_watched(paths: Sequence[str], options: Options) -> list[Watched]:
    """The extensions that are meant.

    Args:
        paths: files, directories and public names; none: what the project of the current directory
            declares, or else the .pyx files in it.
        options: settings.

    Raises:
        ProjectError: two sources have one name.
    """
    found = (each for path in paths or ("",) for each in _meant(path, options))
    return [Watched(extension, config) for extension, config in once_each(found)]


def _meant(path: str, options: Options) -> Iterator[tuple[Extension, Config]]:
    if path and not Path(path).is_dir():
        yield extension_of(path, options)
        return
    # Its own project, which need not be that of the current directory.
    directory = absolute(path)
    config = load_config(find_root(directory / "_"), **options)
    if not path:
        directory = config.root
    declared = [
        extension
        for extension in read_project(config).values()
        if extension.main.is_relative_to(directory)
    ]
    if path or not declared:
        sources = {source for extension in declared for source in extension.sources}
        for source in sorted(_cython_files(directory) - sources):
            yield extension_of(str(source), options)
    for extension in declared:
        yield extension, config


def _cython_files(directory: Path) -> set[Path]:
    return {
        path
        for path in directory.rglob("*.pyx")
        if not any(
            part in _NOT_SOURCES or part.startswith(".")
            for part in path.relative_to(directory).parts
        )
    }


def build_all(each: Iterable[Watched]) -> list[Watched]:
    """Build them, several at a time; those that are other than before."""
    wanted = list(each)
    jobs = min([len(wanted), *(one.config.jobs for one in wanted[:1])])
    if jobs < 2:
        # Not in a thread of its own: there Ctrl-C would not reach it, and so not its compiler.
        return [one for one in wanted if one.rebuild()]
    with ThreadPoolExecutor(jobs) as pool:
        news = list(pool.map(Watched.rebuild, wanted))
    return [one for one, new in zip(wanted, news, strict=True) if new]
