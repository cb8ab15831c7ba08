"""Collects what the files of a project declare: pyproject.toml and setup.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relib.config import Config
from relib.declared.build_ext_options import read_build_ext_options
from relib.declared.declaration import FIELDS, make_extension, read_fields
from relib.declared.module_name import check_name
from relib.declared.setup_script import read_setup_script
from relib.errors import ConfigError, ProjectError
from relib.extension import C_SUFFIXES, CPLUSPLUS_SUFFIXES, CYTHON_SUFFIXES, Extension
from relib.pyproject import FILE_NAME, tool_table

__all__ = ["Declaration", "read_declarations"]

# An Extension's fields that mean nothing here: PyInit_ is all that is exported, there is no SWIG,
# and a build is for the Python that runs.
_WITHOUT_MEANING = ("export_symbols", "swig_opts", "optional", "py_limited_api")


@dataclass(frozen=True, slots=True)
class Declaration:
    """An extension as a project file declares it; its sources have not been looked into."""

    name: str
    fields: dict[str, Any]
    place: str
    """The file, and where in it."""
    file: Path
    header_joined: bool = False
    """Whether the source's header is in the fields already."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources' absolute paths, the main one first."""
        sources: tuple[str, ...] = self.fields["sources"]
        return sources

    def extension(self, config: Config, overrides: dict[str, Any] | None = None) -> Extension:
        """Return the whole extension, with its sources' headers."""
        return make_extension(
            self.name,
            self.fields,
            config=config,
            overrides=overrides,
            header_joined=self.header_joined,
        )


def read_declarations(config: Config) -> dict[str, Declaration]:
    """Return what the project declares, by name.

    Raises:
        BadName: a name is no dotted identifier.
        ConfigError: a field is unknown, or of the wrong kind.
        ProjectError: a file cannot be read, or two declare one name with different sources.
    """
    declarations: dict[str, Declaration] = {}
    # The first is taken when the sources are the same: what is said to relib before what is said to
    # setuptools.
    for read in (_from_relib, _from_setup_script, _from_setuptools):
        for declaration in read(config):
            other = declarations.setdefault(declaration.name, declaration)
            if other.sources != declaration.sources:
                message = (
                    f"{declaration.file}: two sources have the name {declaration.name!r}: "
                    f"{_quote(other.sources)} ({other.place}) and "
                    f"{_quote(declaration.sources)} ({declaration.place}); rename or remove one"
                )
                raise ProjectError(message, path=declaration.file)
    return declarations


def _quote(sources: tuple[str, ...]) -> str:
    return " with ".join(sources)


def _from_relib(config: Config) -> Iterator[Declaration]:
    path = config.root / FILE_NAME
    table = tool_table(config.root, "relib", "extensions")
    for name, value in _by_dotted_name(table, ""):
        place = f"{path}: [tool.relib.extensions] {name!r}"
        fields = value if isinstance(value, Mapping) else {"sources": value}
        yield _declare(name, fields, place, path, config)


def _by_dotted_name(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the extensions of a table; TOML makes of a dotted key a table in a table."""
    for key, value in table.items():
        if isinstance(value, Mapping) and not any(k.replace("-", "_") in FIELDS for k in value):
            yield from _by_dotted_name(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _from_setuptools(config: Config) -> Iterator[Declaration]:
    path = config.root / FILE_NAME
    modules = tool_table(config.root, "setuptools").get("ext-modules", [])
    if not isinstance(modules, list):
        message = f"{path}: [tool.setuptools] ext-modules must be an array, not {modules!r}"
        raise ConfigError(message, key="ext-modules", origin=str(path))
    for_all = _for_all(config) if modules else {}
    for index, module in enumerate(modules):
        place = f"{path}: [tool.setuptools] ext-modules"
        if not isinstance(module, dict) or not isinstance(module.get("name"), str):
            message = f"{place}: number {index + 1} must be a table with a name, not {module!r}"
            raise ConfigError(message, key="name", origin=str(path))
        fields = {key: value for key, value in module.items() if key != "name"}
        macros = fields.get("define-macros")
        if isinstance(macros, list):
            # an array of one is a macro to undefine: distutils' ccompiler.py,
            # gen_preprocess_options
            alone = [m[0] for m in macros if isinstance(m, list) and len(m) == 1]
            fields["define-macros"] = [m for m in macros if m not in ([one] for one in alone)]
            if alone:
                fields["undef-macros"] = [*fields.get("undef-macros", []), *alone]
        place = f"{place} {module['name']!r}"
        yield _with(_declare(module["name"], fields, place, path, config), for_all)


def _from_setup_script(config: Config) -> Iterator[Declaration]:
    declared = read_setup_script(config.root, config.compile_timeout)
    if declared is None:
        return
    path = config.root / "setup.py"
    for_all = _for_all(config) if declared.extensions else {}
    for extension in declared.extensions:
        if not extension["fields"]["sources"] or extension["fields"]["language"] == "other":
            continue  # CMake's, say: a command of the project's own builds it
        # what the header says may also be meant to start at the source
        beside = (declared.directory / extension["fields"]["sources"][0]).parent
        fields = read_fields(
            extension["fields"],
            place=f"{path}: {extension['name']!r}",
            origin=str(path),
            bases=(declared.directory, beside),
        )
        declaration = _declare(extension["name"], fields, str(path), path, config)
        # a source that was replaced is not the one whose header was joined
        joined = extension["header_joined"] and declaration.sources == fields["sources"]
        yield _with(replace(declaration, place=str(path), header_joined=joined), for_all)


def _declare(
    name: str, written: Mapping[str, Any], place: str, path: Path, config: Config
) -> Declaration:
    check_name(name, f"{place}: ")
    fields = read_fields(
        written, place=place, origin=str(path), bases=(config.root,), ignored=_WITHOUT_MEANING
    )
    if not fields.get("sources"):
        message = f"{place}: has no sources"
        raise ConfigError(message, key="sources", origin=str(path))
    fields["sources"] = tuple(_original(Path(source)) for source in fields["sources"])
    return Declaration(name, fields, place, path)


def _original(source: Path) -> str:
    """Return the Cython source that a declared C file is made from, if it is.

    Projects that are to be installed without Cython declare the C file that Cython made; what a
    developer edits is the .pyx beside it.
    """
    if source.suffix in (*C_SUFFIXES, *CPLUSPLUS_SUFFIXES):
        for suffix in CYTHON_SUFFIXES:
            cython_source = source.with_suffix(suffix)
            if cython_source.is_file() and _is_made_by_cython(source):
                return str(cython_source)
    return str(source)


def _is_made_by_cython(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.readline().startswith(b"/* Generated by Cython")
    except OSError:
        return True  # not made yet


def _for_all(config: Config) -> dict[str, Any]:
    """Return the fields that setup.cfg sets for all that setuptools builds."""
    path = str(config.root / "setup.cfg")
    options = read_build_ext_options(config.root)
    return read_fields(options, place=path, origin=path, bases=(config.root,))


def _with(declaration: Declaration, for_all: Mapping[str, Any]) -> Declaration:
    """Return the declaration with the items of some fields added to its own."""
    fields = dict(declaration.fields)
    for name, items in for_all.items():
        fields[name] = (*fields.get(name, ()), *items)
    return replace(declaration, fields=fields)
