"""Finds what is to be built: from a file, or from what the project declares."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from relib.config import Config, find_root, load_config
from relib.declared.declaration import make_extension, override, read_fields
from relib.declared.module_name import check_name, name_from_path
from relib.declared.project_files import Declaration, read_declarations
from relib.declared.source_check import check_source
from relib.declared.source_facts import header_language
from relib.errors import ProjectError, SourceMissing, UnknownExtension
from relib.extension import SOURCE_SUFFIXES, Extension
from relib.file_paths import absolute
from relib.spelling import did_you_mean

__all__ = ["extension_from_file", "find_extension", "read_project"]

_SHOWN_NAMES = 20


def extension_from_file(
    source: Path, *, name: str | None = None, config: Config, **fields: object
) -> Extension:
    """Return the extension that a single source file is, without any declaration.

    Its name comes from the `__init__.py` files above it, and its settings from the
    "distutils:" comments at its top, as for cythonize; relative paths there start at the file's own
    directory or, where that has no such path, at the project's root. The include directories of
    numpy and pybind11 are added when the source uses them.

    Args:
        source: a .pyx, .py, .c or .cpp file.
        name: the public dotted name, instead of the one from the file's place.
        config: the project's settings.
        fields: fields of `Extension`, instead of what the header says. Sources are added to
            `source`, and directives are joined one by one. Relative paths start at the current
            directory.

    Raises:
        BadName: the module can have no such name.
        ConfigError: a field is unknown, or of the wrong kind.
        ProjectError: the header cannot be made sense of.
        SourceMissing: a source is not there.
        SourceUnreadable: a source cannot be read, or is of a kind that is not built.
    """
    source = absolute(source)
    check_source(source)
    overrides = _overrides(fields)
    name = name_from_path(source) if name is None else check_name(name)
    extension = make_extension(
        name, {"sources": (str(source),)}, config=config, overrides=overrides, header_first=True
    )
    return _checked(extension)


def read_project(config: Config) -> dict[str, Extension]:
    """Return the extensions that the project at `config.root` declares, by their public names.

    They are declared in `[tool.relib.extensions]`, in setup.py and in `[tool.setuptools]
    ext-modules`. setup.py is run for that, in a process of its own and without building anything;
    it is run again only when something that it read has changed. Whether the sources are there is
    not checked.

    Raises:
        BadName: a declared name is no dotted identifier.
        ConfigError: a declared field is unknown, or of the wrong kind.
        ProjectError: a project file cannot be read, or two sources have one name.
    """
    return {
        name: declaration.extension(config)
        for name, declaration in read_declarations(config).items()
    }


def find_extension(
    source: str | os.PathLike[str] | Extension,
    *,
    name: str | None = None,
    config: Config | None = None,
    **fields: object,
) -> tuple[Extension, Config]:
    """Return the extension that `source` means, and the settings of its project.

    Args:
        source: the path of a source file, the public name of an extension that the project
            declares, or an `Extension`. A file that the project declares as a source is the
            extension declared there; any other is one by itself, see `extension_from_file`. A text
            without a slash that ends like a source file is a path if that file is there.
        name: the public name, instead of the declared one or the one from the file's place.
        config: the project's settings; if not given, those of the project that the file is in or,
            for a public name, of the one that the current directory is in.
        fields: fields of `Extension`, as for `extension_from_file`.

    Raises:
        BadName: the module can have no such name.
        ConfigError: a setting or a field is unknown, or of the wrong kind.
        ProjectError: a project file cannot be read, or contradicts another.
        SourceMissing: a source is not there.
        SourceUnreadable: a source cannot be read, or is of a kind that is not built.
        UnknownExtension: the project declares no such name.
    """
    if name is not None:
        check_name(name)
    if isinstance(source, Extension):
        return _given(source, name, config, fields)
    if not isinstance(source, (str, os.PathLike)) or not source:
        message = f"a path, a public name or an Extension is expected, not {source!r}"
        raise TypeError(message)
    if isinstance(source, str):
        of_name = config or load_config(find_root(Path.cwd()))
        declaration = _declared_by_name(source, of_name)
        if declaration is not None:
            return _whole(declaration, name, of_name, fields), of_name
    path = absolute(source)
    check_source(path)
    if config is None:
        config = load_config(find_root(path))
    declaration = _declared_by_source(path, name, config)
    if declaration is None:
        return extension_from_file(path, name=name, config=config, **fields), config
    return _whole(declaration, name, config, fields), config


def _whole(
    declaration: Declaration, name: str | None, config: Config, fields: Mapping[str, object]
) -> Extension:
    for path in declaration.sources:
        check_source(Path(path))
    extension = declaration.extension(config, _overrides(fields))
    return _checked(extension if name is None else replace(extension, name=name))


def _given(
    extension: Extension, name: str | None, config: Config | None, fields: Mapping[str, object]
) -> tuple[Extension, Config]:
    if not extension.sources:
        raise SourceMissing(f"{extension.name!r} has no sources", path=Path())
    name = check_name(extension.name if name is None else name)
    overrides = _overrides(fields)
    extension = _checked(override(replace(extension, name=name), overrides))
    if "language" not in overrides and (language := header_language(extension.main)) is not None:
        extension = replace(extension, language=language)
    return extension, config or load_config(find_root(extension.main))


def _overrides(fields: Mapping[str, object]) -> dict[str, Any]:
    return read_fields(fields, place="argument", origin="argument", bases=(Path.cwd(),))


def _checked(extension: Extension) -> Extension:
    for path in extension.sources:
        check_source(path)
    return extension


def _declared_by_name(text: str, config: Config) -> Declaration | None:
    """Return the declaration that `text` names, or None if `text` must be a path.

    Raises:
        UnknownExtension: it is neither.
    """
    looks_like_file = text.endswith(SOURCE_SUFFIXES)  # as the name "pkg.c" does, too
    if os.sep in text or not all(part.isidentifier() for part in text.split(".")):
        return None
    if looks_like_file and Path(text).exists():
        return None
    try:
        declarations = read_declarations(config)
    except ProjectError:
        if looks_like_file:
            return None  # and it will be reported as a file that is not there
        raise
    if text in declarations:
        return declarations[text]
    if looks_like_file or Path(text).exists():
        return None
    known = sorted(declarations)
    message = f"{config.root}: no extension {text!r} is declared"
    message += did_you_mean(text, known) or "."
    if not known:
        message += " The project declares none."
    elif len(known) <= _SHOWN_NAMES:
        message += f" Declared are {', '.join(known)}."
    if (file := _file_of(text, config.root)) is not None:
        message += f" To load {file}, give its path."
    raise UnknownExtension(message, name=text, known=known)


def _file_of(name: str, root: Path) -> Path | None:
    """Return the file that has this name by its place in the project."""
    for directory in (root, root / "src"):
        for suffix in SOURCE_SUFFIXES:
            path = directory / (name.replace(".", os.sep) + suffix)
            if path.is_file():
                return path
    return None


def _declared_by_source(path: Path, name: str | None, config: Config) -> Declaration | None:
    """Return the declaration that has the file at `path` as a source, or None."""
    real = os.path.realpath(path)
    main: list[Declaration] = []
    other: list[Declaration] = []
    for declaration in read_declarations(config).values():
        first, *rest = map(os.path.realpath, declaration.sources)
        if first == real:
            main.append(declaration)
        elif real in rest:
            other.append(declaration)
    found = main or other
    if len(found) > 1:
        found = [declaration for declaration in found if declaration.name == name] or found
    if len(found) > 1:
        names = ", ".join(repr(declaration.name) for declaration in found)
        message = f"{path}: is a source of {names}; load the one that is meant by its name"
        raise ProjectError(message, path=found[0].file)
    return found[0] if found else None
