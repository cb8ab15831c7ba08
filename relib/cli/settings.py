"""Options for the settings of a project, made from the one table of them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import click

from relib.config import SETTINGS, Config, Setting, find_root, load_config
from relib.errors import ProjectError
from relib.extension import Extension
from relib.project import find_extension

__all__ = [
    "BUILDING",
    "STORING",
    "Options",
    "SettingOption",
    "extension_of",
    "once_each",
    "project_config",
    "settings",
]

STORING = ("store", "store-max-size", "store-max-age")
"""The settings that say where builds are kept, and for how long."""

BUILDING = (
    *STORING,
    *("cc", "cxx", "cflags", "cppflags", "ldflags", "compile-timeout", "jobs", "directives"),
    "tier",
)
"""The settings that matter to a build."""

Options: TypeAlias = Mapping[str, Any]
"""Settings that were given as options, by their field in Config."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


class SettingOption(click.Option):
    """An option that stands for a setting."""


def _read(setting: Setting) -> Callable[[click.Context, click.Parameter, str | None], object]:
    """Read an option's value as the setting itself is read, so that a wrong one is wrong usage."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> object:
        if value is None:
            return None
        try:
            return setting.parse(value)
        except ValueError as error:
            raise click.BadParameter(f"must be {error}, not {value!r}", ctx, param) from None

    return read


def settings(*keys: str) -> Callable[[_Function], _Function]:
    """Give a command the options for some settings, by default for all.

    The command's function gets those that were given as `options`, to pass to `project_config`.
    """
    chosen = [setting for setting in SETTINGS if not keys or setting.key in keys]

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def gather(*args: Any, **kwargs: Any) -> Any:
            given = {setting.field: kwargs.pop(setting.field) for setting in chosen}
            options = {field: value for field, value in given.items() if value is not None}
            return function(*args, options=options, **kwargs)

        decorated: Any = gather
        for setting in reversed(chosen):
            decorated = click.option(
                setting.option,
                setting.field,
                cls=SettingOption,
                callback=_read(setting),
                metavar=setting.metavar,
                help=f"{setting.description} By default {setting.default_text}.",
            )(decorated)
        return decorated  # type: ignore[no-any-return]

    return decorate


def project_config(options: Options) -> Config:
    """The settings of the project that the current directory is in."""
    return load_config(find_root(Path.cwd()), **options)


def extension_of(source: str, options: Options) -> tuple[Extension, Config]:
    """What `source`, a path or a public name, means, and the settings of its project."""
    extension, config = find_extension(source)
    if not options:
        return extension, config
    config = load_config(config.root, os.environ, **options)
    # Once more: the settings have a say in what an extension is.
    return find_extension(source, config=config)


def once_each(
    found: Iterable[tuple[Extension, Config]],
) -> list[tuple[Extension, Config]]:
    """Each of these extensions once, however often it was named.

    Raises:
        ProjectError: two of them have one name.
    """
    kept: dict[str, tuple[Extension, Config]] = {}
    for extension, config in found:
        other = kept.setdefault(extension.name, (extension, config))[0]
        if other.main != extension.main:
            raise ProjectError(
                f"{other.main} and {extension.main} would both be {extension.name}; build one at a "
                "time, put one of them into a package (a directory with an __init__.py), or give "
                "it another name in [tool.relib.extensions]",
                path=extension.main,
            )
    return list(kept.values())
