"""The library's front door: build, load, and what is loaded."""

from __future__ import annotations

import importlib
import os
import sys
from importlib import _bootstrap
from pathlib import Path
from typing import TYPE_CHECKING

from relib.building.builder import Build, build_extension
from relib.errors import ModuleUnloaded
from relib.live.loaded import get, modules, present
from relib.live.loader import Loader
from relib.live.module import Module
from relib.live.tier import tier_now

if TYPE_CHECKING:
    from relib.config import Config
    from relib.extension import Extension

__all__ = ["build", "get", "load", "modules"]


def build(
    source: str | os.PathLike[str] | Extension,
    *,
    name: str | None = None,
    config: Config | None = None,
    force: bool = False,
    **fields: object,
) -> Build:
    """Build an extension without loading it.

    Args:
        source: a .pyx, .py, .c or .cpp file, an :class:`relib.Extension`, or the public name of an
            extension that the project in the current directory declares.
        name: the public name; by default the file's, with the packages it lies in.
        config: the configuration; by default that of the source's project.
        force: compile even though the store has the result.
        fields: any field of :class:`relib.Extension`, in place of what is declared.

    Returns:
        The build; ``cached`` says whether it came from the store.

    Raises:
        BuildError: it does not build; ``diagnostics`` say why.
        SourceMissing, SourceUnreadable, BadName, UnknownExtension: there is no such thing to build.
    """
    from relib.project import find_extension

    extension, found = find_extension(_source(source), name=name, config=config, **fields)
    return build_extension(extension, found, force=force, tier=tier_now(found))


def load(
    source: str | os.PathLike[str] | Extension | Build,
    *,
    name: str | None = None,
    config: Config | None = None,
    **fields: object,
) -> Module:
    """Build an extension when that is needed, load it, and put it into ``sys.modules``.

    Loading the same source again returns the module that is there, as it is.

    Args:
        source: as for :func:`relib.build`, or a Build.
        name: the public name.
        config: the configuration.
        fields: any field of :class:`relib.Extension`.

    Raises:
        BuildError: it does not build.
        LoadError: it does not load, or its code raises.
        AlreadyLoaded: the name belongs to another source, or to a module that relib did not load.
    """
    made = source if isinstance(source, Build) else None
    wanted = source.extension if isinstance(source, Build) else _source(source)

    def declared() -> tuple[Extension, Config]:
        from relib.project import find_extension

        return find_extension(wanted, name=name, config=config, **fields)

    extension, found = (made.extension, config or made.config) if made else declared()
    there = get(extension.name)
    if there is None:
        _import_parent(extension)
        loader = Loader(extension.name, str(extension.main), declared, (extension, found), made)
        # Under Python's own lock for the name, and marked as being initialised, like an import: a
        # lock of relib's own would be one that Python's search for deadlocks cannot see, when two
        # threads load and import modules that import each other (CPython 3.11-3.15,
        # Lib/importlib/_bootstrap.py, _load and _ModuleLock).
        _bootstrap._load(loader.spec())  # type: ignore[attr-defined]
    return _checked(extension)


def _checked(extension: Extension) -> Module:
    module = present(extension.name, extension.main)
    if module is None:
        raise ModuleUnloaded(
            f"{extension.name} has been unloaded while it was being loaded", name=extension.name
        )
    return module


def _source(source: str | os.PathLike[str] | Extension) -> str | Path | Extension:
    """A path is meant from the directory that is current now, whenever it is looked at again."""
    if isinstance(source, os.PathLike):
        return Path(source).absolute()
    if isinstance(source, str) and (os.sep in source or Path(source).suffix):
        path = Path(source)
        return path.absolute() if path.exists() or os.sep in source else source
    return source


def _import_parent(extension: Extension) -> None:
    """The package that the module lies in is imported first, as any import does."""
    parent = extension.name.rpartition(".")[0]
    if not parent or parent in sys.modules:
        return
    levels = extension.name.count(".") + (extension.main.stem == "__init__")
    top = str(extension.main.parents[levels])
    try:
        importlib.import_module(parent)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{parent}.".startswith(f"{error.name}."):
            raise
        # A file loaded by its path, from outside its project: its package is beside it.
        sys.path.append(top)
        try:
            importlib.invalidate_caches()
            importlib.import_module(parent)
        finally:
            sys.path.remove(top)
