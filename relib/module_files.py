"""The files that matter to a module: those it is made from, and those it may be asking for."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from relib.errors import RelibError

if TYPE_CHECKING:
    from relib.config import Config
    from relib.extension import Extension
    from relib.live.module import Module

__all__ = [
    "PROJECT_FILES",
    "digests",
    "files_for",
    "files_of",
    "is_source",
    "surroundings",
    "surroundings_for",
]

PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")
_SUFFIXES = {
    *(".pyx", ".pxd", ".pxi", ".py", ".c", ".cc", ".cpp", ".cxx", ".c++"),
    *(".h", ".hh", ".hpp", ".hxx", ".h++", ".inc", ".inl", ".ipp", ".tcc", ".tpp"),
}
_MOST_SURROUNDINGS = 256


def files_of(module: Module) -> frozenset[Path]:
    """All files whose change may call for another build of a module, there or not."""
    return files_for(module.extension, module.build.config, module.build.inputs)


def files_for(extension: Extension, config: Config, inputs: Iterable[Path] = ()) -> frozenset[Path]:
    """The same for an extension, which need not be loaded.

    They are what its build was made from, what would have been read if it had been there, and the
    project's files.

    Args:
        extension: what is built.
        config: the settings of its project.
        inputs: what its last good build was made from.
    """
    from relib.building.builder import inputs_of
    from relib.declared.setup_script import files_read

    files = {*inputs, *extension.sources, *extension.depends, *files_read(config.root)}
    files |= {config.root / name for name in PROJECT_FILES}
    with suppress(RelibError):  # the store is refused: the next build says so
        files |= set(inputs_of(extension, config))
    return frozenset(files)


def surroundings(module: Module) -> frozenset[Path]:
    """The directories in which a file may be missing that a module's sources ask for."""
    return surroundings_for(module.extension, module.build.config, module.build.inputs)


def surroundings_for(
    extension: Extension, config: Config, inputs: Iterable[Path] = ()
) -> frozenset[Path]:
    """The same for an extension, which need not be loaded.

    What a source that does not build needs, no build knows: the .pxi that is still to be written,
    the header that is to come. So whatever appears here is reason to try again.
    """
    root = config.root
    found = {source.parent for source in extension.sources}
    found |= {path.parent for path in inputs if path.is_relative_to(root)}
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
