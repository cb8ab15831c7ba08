"""How relib works in a project: options over RELIB_* over [tool.relib] over defaults.

`SETTINGS` is the one table of all of them; the command line and the documentation are made from it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relib.declared.module_name import is_package
from relib.errors import ConfigError
from relib.file_paths import absolute
from relib.pyproject import FILE_NAME, tool_table
from relib.setting_values import (
    age_in_days,
    byte_count,
    choice,
    command_line,
    count,
    directive_pairs,
    file_path,
    flags,
    seconds,
)
from relib.spelling import did_you_mean

__all__ = ["SETTINGS", "Config", "Setting", "cache_directory", "find_root", "load_config"]


@dataclass(frozen=True, slots=True)
class Config:
    """The settings in force for one project. Made by `load_config`."""

    root: Path
    """The project's root, absolute."""
    store: Path
    """Where builds live."""
    store_max_bytes: int
    """The size up to which builds are kept."""
    store_max_age: float
    """Days after its last use that a build is kept."""
    cc: str | None
    """The C compiler's command; None: from CC or Python's own, as setuptools does."""
    cxx: str | None
    cflags: str | None
    cppflags: str | None
    ldflags: str | None
    compile_timeout: float
    """Seconds that one compiler, or a setup.py that is being read, may take."""
    unload_timeout: float
    """Seconds that a module's before_unload() may take."""
    history: int
    """How many versions of each module are remembered."""
    jobs: int
    """How many extensions are built at the same time."""
    directives: tuple[tuple[str, object], ...]
    """Cython compiler directives for all extensions."""
    tier: str = "auto"
    """How a change is built: "instant", "optimized", or "auto"; see relib.building.tiers."""
    events: str = "auto"
    """Who tells of changed files: "inotify", "watchdog", or "auto"; see relib.watching.sources."""


Default = Callable[[Path, Mapping[str, str]], object]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: what it is called, how its value is read, and what it is for."""

    key: str
    """Its name in [tool.relib]; dashes and underscores are the same there."""
    field: str
    """Its name in `Config`."""
    parse: Callable[[object], object]
    """Turns a value from TOML, or a text, into the field's; raises ValueError: what it must be."""
    default: object
    """The default, or a function of the root and the environment that returns it."""
    default_text: str
    """The default in words."""
    metavar: str
    """What stands for the value in a command's help."""
    description: str
    """One line for the documentation and the command line."""
    empty_counts: bool = False
    """Whether an empty environment variable is a value; else it counts as not set."""

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "RELIB_" + self.key.replace("-", "_").upper()

    @property
    def option(self) -> str:
        """The command line option."""
        return "--" + self.key


def _default_store(root: Path, environ: Mapping[str, str]) -> Path:
    local = root / ".relib"
    if os.access(local if local.is_dir() else root, os.W_OK | os.X_OK):
        return local
    import hashlib

    key = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    return cache_directory(environ) / key


def cache_directory(environ: Mapping[str, str] | None = None) -> Path:
    """Where relib keeps what belongs to the user rather than to a project.

    >>> cache_directory({"XDG_CACHE_HOME": "/var/cache/me"})
    PosixPath('/var/cache/me/relib')
    """
    environ = os.environ if environ is None else environ
    # a relative path in XDG_CACHE_HOME must be ignored, says the XDG base directory specification
    cache = Path(environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():
        home = Path(environ.get("HOME", ""))
        cache = (home if home.is_absolute() else Path.home()) / ".cache"
    return cache / "relib"


def _default_jobs(root: Path, environ: Mapping[str, str]) -> int:
    # not os.cpu_count(): a container is often given fewer processors than the machine has
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


_FROM_ENVIRONMENT = "{}, else what this Python was built with"

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "store",
        "store",
        file_path,
        _default_store,
        ".relib in the project's root; a private directory of the user's cache if that "
        "is not writable",
        "DIRECTORY",
        "Where builds are kept; a relative path starts at the project's root.",
    ),
    Setting(
        "store-max-size",
        "store_max_bytes",
        byte_count,
        1 << 30,
        "1 GiB",
        "SIZE",
        "Builds are dropped, the longest unused first, when the store grows over this "
        "(bytes, or 500MB, 2GiB).",
    ),
    Setting(
        "store-max-age",
        "store_max_age",
        age_in_days,
        30.0,
        "30 days",
        "DAYS",
        "Builds that were not used for so long are dropped (days, or 12h, 2w, inf).",
    ),
    Setting(
        "cc",
        "cc",
        command_line,
        None,
        _FROM_ENVIRONMENT.format("$CC"),
        "COMMAND",
        "The C compiler, with launchers such as ccache or distcc.",
    ),
    Setting(
        "cxx",
        "cxx",
        command_line,
        None,
        _FROM_ENVIRONMENT.format("$CXX"),
        "COMMAND",
        "The C++ compiler, with launchers such as ccache or distcc.",
    ),
    Setting(
        "cflags",
        "cflags",
        flags,
        None,
        _FROM_ENVIRONMENT.format("$CFLAGS"),
        "FLAGS",
        "Flags for the compilers.",
        empty_counts=True,
    ),
    Setting(
        "cppflags",
        "cppflags",
        flags,
        None,
        _FROM_ENVIRONMENT.format("$CPPFLAGS"),
        "FLAGS",
        "Flags for the preprocessor.",
        empty_counts=True,
    ),
    Setting(
        "ldflags",
        "ldflags",
        flags,
        None,
        _FROM_ENVIRONMENT.format("$LDFLAGS"),
        "FLAGS",
        "Flags for the linker.",
        empty_counts=True,
    ),
    Setting(
        "compile-timeout",
        "compile_timeout",
        seconds,
        600.0,
        "600 s",
        "SECONDS",
        "A compiler, or a setup.py that is being read, is ended after this (seconds, or 500ms, "
        "10m).",
    ),
    Setting(
        "unload-timeout",
        "unload_timeout",
        seconds,
        10.0,
        "10 s",
        "SECONDS",
        "How long a module's before_unload() may take (seconds, or 500ms, 10m).",
    ),
    Setting(
        "history",
        "history",
        count(least=0),
        20,
        "20",
        "NUMBER",
        "How many versions of each module are remembered, to roll back to.",
    ),
    Setting(
        "jobs",
        "jobs",
        count(least=1),
        _default_jobs,
        "the number of processors this process may use",
        "NUMBER",
        "How many extensions are built at the same time.",
    ),
    Setting(
        "directives",
        "directives",
        directive_pairs,
        (),
        "none",
        "NAME=VALUE,...",
        "Cython compiler directives for all extensions: a table, JSON, or NAME=VALUE,... .",
    ),
    Setting(
        "tier",
        "tier",
        choice("auto", "instant", "optimized"),
        "auto",
        "auto",
        "TIER",
        "How extensions are built: instant (by the quickest compiler, without optimisation), "
        "optimized (with the project's own flags), or auto: instant while changes are watched, "
        "with the optimized build to follow, and else optimized.",
    ),
    Setting(
        "events",
        "events",
        choice("auto", "inotify", "watchdog"),
        "auto",
        "auto",
        "SOURCE",
        "Who tells of changed files: inotify (the kernel itself), watchdog (its observer), or "
        "auto: inotify, and watchdog where the system has none.",
    ),
)
"""Every setting. `Config` has one field for each, and `root`."""

# What [tool.relib] may hold besides the settings: see relib.declared.declaration.
_NOT_SETTINGS = ("extensions",)

_BY_NAME: dict[str, Setting] = {
    name: setting for setting in SETTINGS for name in (setting.key.replace("-", "_"), setting.field)
}


def find_root(source: Path) -> Path:
    """Return the root of the project that `source`, a file or a directory, belongs to.

    It is the nearest directory above that has a pyproject.toml or a setup.py; without one, the
    directory above the topmost package (a directory with an `__init__.py`) that `source` is in;
    else the directory of `source`. Project files are not believed when they belong to neither this
    user, root, nor the owner of `source`: setup.py is code that will be run, and anyone may put one
    into /tmp.

    >>> find_root(Path("/nowhere/at/all/fast.pyx"))
    PosixPath('/nowhere/at/all')
    """
    source = absolute(source)
    directory = source if source.is_dir() else source.parent
    believed = {0, os.geteuid()}
    with contextlib.suppress(OSError):  # a missing source is reported by whoever reads it
        believed.add(source.stat().st_uid)
    for candidate in (directory, *directory.parents):
        for name in (FILE_NAME, "setup.py"):
            path = candidate / name
            try:
                if path.is_file() and path.stat().st_uid in believed:
                    return candidate
            except OSError:
                continue
    while is_package(directory):
        directory = directory.parent
    return directory


def load_config(root: Path, environ: Mapping[str, str] | None = None, **options: object) -> Config:
    """Return the settings in force in the project at `root`.

    Args:
        root: the project's root directory; see `find_root`.
        environ: the environment variables; those of the process unless given.
        options: any setting, by its key (with underscores) or by its field in `Config`. None means
            that the option was not given.

    Raises:
        ConfigError: a setting is unknown or its value is of the wrong kind. Its `key` is the
            setting's, its `origin` the file, the environment variable or the option.
        ProjectError: pyproject.toml cannot be read.

    >>> config = load_config(Path("/nowhere"), {"RELIB_JOBS": "3"}, store_max_size="500MB")
    >>> config.jobs, config.store_max_bytes, config.history
    (3, 500000000, 20)
    """
    root = absolute(root)
    if environ is None:
        environ = os.environ
    values: dict[str, Any] = {}
    for source in (_from_pyproject(root), _from_environment(environ), _from_options(options)):
        values.update(source)
    for setting in SETTINGS:
        if setting.field not in values:
            default = setting.default
            values[setting.field] = default(root, environ) if callable(default) else default
    values["store"] = absolute(root / values["store"])
    return Config(root=root, **values)


def _from_pyproject(root: Path) -> dict[str, object]:
    path = root / FILE_NAME
    values: dict[str, object] = {}
    for key, value in tool_table(root, "relib").items():
        if key in _NOT_SETTINGS:
            continue
        place = f"{path}: [tool.relib] {key}"
        setting = _BY_NAME.get(key.replace("-", "_"))
        if setting is None or key.replace("_", "-") != setting.key:
            known = [*(setting.key for setting in SETTINGS), *_NOT_SETTINGS]
            raise _unknown(key, place, str(path), key, known)
        values[setting.field] = _parse(setting, value, place, str(path))
    return values


def _from_environment(environ: Mapping[str, str]) -> dict[str, object]:
    known = {setting.variable: setting for setting in SETTINGS}
    values: dict[str, object] = {}
    for variable, value in environ.items():
        # RELIB__ (two underscores) is how relib's own processes talk to each other
        if not variable.startswith("RELIB_") or variable.startswith("RELIB__"):
            continue
        setting = known.get(variable)
        if setting is None:
            key = variable.removeprefix("RELIB_").lower().replace("_", "-")
            raise _unknown(variable, f"environment variable {variable}", variable, key, known)
        if value or setting.empty_counts:
            place = f"environment variable {variable}"
            values[setting.field] = _parse(setting, value, place, variable)
    return values


def _from_options(options: Mapping[str, object]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, value in options.items():
        setting = _BY_NAME.get(name.replace("-", "_"))
        origin = f"option {name}"
        if setting is None:
            known = [setting.key.replace("-", "_") for setting in SETTINGS]
            raise _unknown(name, origin, origin, name, known)
        if value is not None:
            values[setting.field] = _parse(setting, value, origin, origin)
    return values


def _parse(setting: Setting, value: object, place: str, origin: str) -> object:
    try:
        return setting.parse(value)
    except ValueError as error:
        message = f"{place}: must be {error}, not {value!r}"
        raise ConfigError(message, key=setting.key, origin=origin) from None


def _unknown(name: str, place: str, origin: str, key: str, known: Iterable[str]) -> ConfigError:
    of_field = _BY_NAME.get(key.replace("-", "_"))  # store_max_bytes, as Config calls it
    hint = f"; it is called {of_field.key!r}" if of_field else did_you_mean(name, known)
    message = f"{place}: there is no such setting{hint}"
    return ConfigError(message, key=key, origin=origin)
