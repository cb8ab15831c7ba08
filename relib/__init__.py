"""Rebuild and reload native Python extensions (Cython, C, C++) in a living process.

>>> import relib
>>> fast = relib.load("fast.pyx")            # doctest: +SKIP
>>> fast.module.fib(90)                      # doctest: +SKIP
2880067194370816120
>>> fast.reload()                            # doctest: +SKIP
fast v2 · 612 ms · v1 unloaded
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from relib.errors import (
    AlreadyLoaded,
    BadName,
    BeforeUnloadFailed,
    BuildError,
    BuildGone,
    BuildMismatch,
    BuildTimeout,
    CompilerMissing,
    ConfigError,
    DiskFull,
    ExecError,
    LoadError,
    ModuleUnloaded,
    NoEarlierBuild,
    NotSupported,
    Pinned,
    ProjectError,
    RelibError,
    SourceMissing,
    SourceUnreadable,
    StillMapped,
    StoreRefused,
    Timeout,
    UnknownExtension,
    UnloadError,
    WorkerDied,
)

if TYPE_CHECKING:
    from relib.building.builder import Build
    from relib.building.diagnostics import Diagnostic
    from relib.config import Config, load_config
    from relib.events import Event
    from relib.extension import Extension
    from relib.importer import install, uninstall
    from relib.live.load import build, get, load, modules
    from relib.live.module import Module
    from relib.live.pins import Pin
    from relib.live.report import Report
    from relib.live.retired import reap, retired
    from relib.live.version import Version
    from relib.session import Session, watch

__version__ = "0.1.0"

__all__ = [
    "AlreadyLoaded",
    "BadName",
    "BeforeUnloadFailed",
    "Build",
    "BuildError",
    "BuildGone",
    "BuildMismatch",
    "BuildTimeout",
    "CompilerMissing",
    "Config",
    "ConfigError",
    "Diagnostic",
    "DiskFull",
    "Event",
    "ExecError",
    "Extension",
    "LoadError",
    "Module",
    "ModuleUnloaded",
    "NoEarlierBuild",
    "NotSupported",
    "Pin",
    "Pinned",
    "ProjectError",
    "RelibError",
    "Report",
    "Session",
    "SourceMissing",
    "SourceUnreadable",
    "StillMapped",
    "StoreRefused",
    "Timeout",
    "UnknownExtension",
    "UnloadError",
    "Version",
    "WorkerDied",
    "build",
    "get",
    "install",
    "load",
    "load_config",
    "modules",
    "reap",
    "retired",
    "uninstall",
    "watch",
]

# Imported when first used: `import relib` must stay cheap in a program that reloads nothing.
_LATER = {
    "Build": "relib.building.builder",
    "Config": "relib.config",
    "Diagnostic": "relib.building.diagnostics",
    "Event": "relib.events",
    "Extension": "relib.extension",
    "Module": "relib.live.module",
    "Pin": "relib.live.pins",
    "Report": "relib.live.report",
    "Session": "relib.session",
    "Version": "relib.live.version",
    "build": "relib.live.load",
    "get": "relib.live.load",
    "install": "relib.importer",
    "load": "relib.live.load",
    "load_config": "relib.config",
    "modules": "relib.live.load",
    "reap": "relib.live.retired",
    "retired": "relib.live.retired",
    "uninstall": "relib.importer",
    "watch": "relib.session",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'relib' has no attribute {name!r}")
    found = getattr(import_module(_LATER[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
