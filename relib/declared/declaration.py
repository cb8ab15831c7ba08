"""Turns what a project, or a caller, says about an extension into an `Extension`.

Fields arrive as they were written (in TOML, by a setup.py, as arguments), are checked by
`read_fields`, and joined with the source's header and defaults by `make_extension`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from relib.config import Config
from relib.declared.cimports import Survey, package_include_dirs, survey
from relib.declared.source_header import Header
from relib.errors import ConfigError
from relib.extension import CPLUSPLUS_SUFFIXES, CYTHON_SUFFIXES, Extension
from relib.file_paths import resolve_path
from relib.setting_values import directive_pairs
from relib.spelling import did_you_mean

__all__ = ["FIELDS", "make_extension", "override", "read_fields"]

Fields = dict[str, Any]
"""Fields of an Extension; those that are lists are tuples, paths are texts."""


def _strings(value: object) -> tuple[str, ...]:
    items = [value] if isinstance(value, (str, os.PathLike)) else value
    if isinstance(items, Iterable) and not isinstance(items, Mapping):
        texts = [os.fspath(item) if isinstance(item, os.PathLike) else item for item in items]
        if all(isinstance(text, str) and "\0" not in text for text in texts):
            return tuple(texts)
    raise ValueError("a list of texts")


def _macros(value: object) -> tuple[tuple[str, str | None], ...]:
    if isinstance(value, Mapping):
        value = list(value.items())
    elif isinstance(value, str):
        value = [value]
    macros: list[tuple[str, str | None]] = []
    for item in value if isinstance(value, Iterable) else [None]:
        if isinstance(item, str):
            before, equals, after = item.partition("=")
            pair: Sequence[object] = (before, after if equals else None)
        else:
            pair = item if isinstance(item, (list, tuple)) else ()
        if len(pair) == 2:
            name, content = pair
            if isinstance(content, (int, float)):
                content = None if content is True else str(content)
            if isinstance(name, str) and name and isinstance(content, (str, type(None))):
                macros.append((name, content))
                continue
        raise ValueError("macros: a list of 'NAME', 'NAME=value' or ['NAME', 'value'], or a table")
    return tuple(macros)


def _language(value: object) -> str:
    if value in ("c", "c++"):
        return str(value)
    raise ValueError("'c' or 'c++'")


_PATH_FIELDS = (
    "sources",
    "depends",
    "include_dirs",
    "library_dirs",
    "runtime_library_dirs",
    "extra_objects",
    "cython_include_path",
)
_TEXT_FIELDS = ("libraries", "undef_macros", "extra_compile_args", "extra_link_args")

FIELDS: Mapping[str, Callable[[object], object]] = {
    **dict.fromkeys((*_PATH_FIELDS, *_TEXT_FIELDS), _strings),
    "define_macros": _macros,
    "language": _language,
    "directives": directive_pairs,
}
"""The fields that can be said of an extension, each with the function that reads its value."""


def read_fields(
    raw: Mapping[str, object],
    *,
    place: str,
    origin: str,
    bases: Sequence[Path],
    ignored: Iterable[str] = (),
) -> Fields:
    """Check fields as they were written, and return them with absolute paths.

    Args:
        raw: by name, with dashes or underscores. A value of None is as good as no field.
        place: what a message about one of them starts with.
        origin: the ConfigError's `origin`.
        bases: the directories where relative paths may start; see `relib.file_paths`.
        ignored: more names that are known, and have no meaning for relib.

    Raises:
        ConfigError: a field is unknown, or of the wrong kind.
    """
    fields: Fields = {}
    for written, value in raw.items():
        name = written.replace("-", "_")
        if value is None or name in ignored:
            continue
        if name not in FIELDS:
            message = f"{place}: there is no field {written!r}{did_you_mean(name, FIELDS)}"
            raise ConfigError(message, key=written, origin=origin)
        try:
            content = FIELDS[name](value)
        except ValueError as error:
            message = f"{place}: {written} must be {error}, not {value!r}"
            raise ConfigError(message, key=written, origin=origin) from None
        if name in _PATH_FIELDS:
            assert isinstance(content, tuple)
            content = tuple(resolve_path(item, bases) for item in content)
        fields[name] = content
    return fields


def make_extension(
    name: str,
    fields: Fields,
    *,
    config: Config,
    overrides: Fields | None = None,
    header_first: bool = False,
    header_joined: bool = False,
) -> Extension:
    """Join what is declared with the source's header, what overrides both, and the defaults.

    Args:
        name: the public name.
        fields: what is declared, `sources` at least; from `read_fields`.
        config: the project's. Its directives are for all extensions and are joined with this one's
            where it is translated.
        overrides: take the place of what is declared and of what the header says, field by field;
            only directives are joined one by one, and sources are added to the main one.
        header_first: whether relative paths in a header start at the header's own file and not, as
            for cythonize, at the project's root. Where it is not in one, it is looked for in the
            other.
        header_joined: whether `fields` has what the header says already.

    Raises:
        ProjectError: a header cannot be made sense of.
    """
    fields = dict(fields)
    overrides = dict(overrides or {})
    sources: tuple[str, ...] = fields["sources"]
    cython_path: tuple[str, ...] = {**fields, **overrides}.get("cython_include_path", ())

    def resolve(file: Path, key: str, item: str) -> str:
        if key not in _PATH_FIELDS:
            return item
        bases = (file.parent, config.root) if header_first else (config.root, file.parent)
        return resolve_path(item, bases)

    surveys: dict[str, Survey] = {}

    def look_into(source: str) -> Survey | None:
        # A source that is not there does not keep the project's other extensions from being read:
        # check_source() says so when it is wanted.
        if source not in surveys:
            with contextlib.suppress(OSError):
                surveys[source] = survey(Path(source), cython_path, resolve)
        return surveys.get(source)

    leading = next((s for s in sources if s.endswith(CYTHON_SUFFIXES)), sources[0])
    found = look_into(leading)
    if found is not None and not header_joined:
        fields.update(_from_header(found.header.over(_as_header(fields))))
    if "sources" in overrides:
        overrides["sources"] = (sources[0], *overrides["sources"])
    if "directives" in overrides:
        overrides["directives"] = (*fields.get("directives", ()), *overrides["directives"])
    fields.update(overrides)

    sources = tuple(dict.fromkeys(fields["sources"]))
    for source in sources:
        look_into(source)
    include_dirs = list(fields.get("include_dirs", ()))
    for seen in surveys.values():
        for directory in (
            *seen.extern_dirs,
            *(d for package in seen.packages for d in package_include_dirs(package)),
        ):
            if directory not in include_dirs:
                include_dirs.append(directory)
    fields["include_dirs"] = tuple(include_dirs)
    fields["sources"] = tuple(Path(source) for source in sources)
    fields["depends"] = tuple(Path(path) for path in fields.get("depends", ()))
    fields["directives"] = tuple(dict(fields.get("directives", ())).items())
    fields.setdefault("language", _language_of(sources))
    return Extension(name, **fields)


def override(extension: Extension, overrides: Fields) -> Extension:
    """Return an extension that was given whole, with absolute paths and some fields overridden.

    Relative paths start at the current directory. Overrides are those of `make_extension`.
    """
    fields = dict(overrides)
    if "sources" in fields:
        fields["sources"] = (extension.main, *fields["sources"])
    if "directives" in fields:
        fields["directives"] = tuple(dict((*extension.directives, *fields["directives"])).items())
    here = (Path.cwd(),)
    for name in _PATH_FIELDS:
        items = fields.get(name, getattr(extension, name))
        paths = dict.fromkeys(resolve_path(os.fspath(item), here) for item in items)
        fields[name] = tuple(map(Path, paths)) if name in ("sources", "depends") else tuple(paths)
    return replace(extension, **fields)


def _language_of(sources: Sequence[str]) -> str:
    # A .pyx with a .cpp beside it stays C, as in setuptools: only the linker is C++'s then.
    if any(source.endswith(CYTHON_SUFFIXES) for source in sources):
        return "c"
    return "c++" if any(source.endswith(CPLUSPLUS_SUFFIXES) for source in sources) else "c"


_HEADER_FIELDS = (*_PATH_FIELDS[:-1], *_TEXT_FIELDS)  # all but cython_include_path


def _as_header(fields: Fields) -> Header:
    lists = {name: fields[name] for name in _HEADER_FIELDS if fields.get(name)}
    if macros := fields.get("define_macros"):
        lists["define_macros"] = tuple(n if v is None else f"{n}={v}" for n, v in macros)
    return Header(fields.get("language"), lists)


def _from_header(header: Header) -> Fields:
    fields: Fields = dict(header.lists)
    if "define_macros" in fields:
        fields["define_macros"] = _macros(fields["define_macros"])
    if header.language is not None:
        fields["language"] = header.language
    return fields
