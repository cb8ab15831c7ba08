"""One class for each thing that can go wrong, all of them a RelibError.

Each carries the facts as attributes, and its message says what happened, to which file, and what to
do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relib.building.diagnostics import Diagnostic
    from relib.live.pins import Pin

__all__ = [
    "AlreadyLoaded",
    "BadName",
    "BeforeUnloadFailed",
    "BuildError",
    "BuildGone",
    "BuildMismatch",
    "BuildTimeout",
    "CompilerMissing",
    "ConfigError",
    "DiskFull",
    "ExecError",
    "LoadError",
    "ModuleUnloaded",
    "NoEarlierBuild",
    "NotSupported",
    "Pinned",
    "ProjectError",
    "RelibError",
    "SourceMissing",
    "SourceUnreadable",
    "StillMapped",
    "StoreRefused",
    "Timeout",
    "UnknownExtension",
    "UnloadError",
    "WorkerDied",
]


class RelibError(Exception):
    """The base of every error that relib raises itself."""


class NotSupported(RelibError):
    """This Python or platform cannot be served (a free-threaded build, say)."""


# --- what is to be built -------------------------------------------------------------------------


class ConfigError(RelibError):
    """A configuration value is unknown or of the wrong kind."""

    def __init__(self, message: str, *, key: str, origin: str) -> None:
        super().__init__(message)
        self.key = key
        """The configuration key."""
        self.origin = origin
        """Where the value came from: a file, an environment variable, an option."""


class ProjectError(RelibError):
    """A project file (setup.py, pyproject.toml) could not be read, or contradicts another."""

    def __init__(self, message: str, *, path: Path, line: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line = line
        """The line in `path`, counted from 1, where one is known."""


class UnknownExtension(RelibError, ImportError):
    """A name was given that the project does not declare."""

    def __init__(self, message: str, *, name: str, known: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.known = tuple(known)
        """The names that are declared."""


class BadName(RelibError, ImportError):
    """A name that is no dotted Python identifier."""

    def __init__(self, message: str, *, name: str) -> None:
        super().__init__(message)
        self.name = name


class SourceMissing(RelibError, ImportError):
    """A source file is not there."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = str(path)


class SourceUnreadable(RelibError, ImportError):
    """A source file is there but cannot be read."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = str(path)


# --- building ------------------------------------------------------------------------------------


class BuildError(RelibError, ImportError):
    """The sources do not build. What runs goes on running."""

    def __init__(
        self,
        message: str,
        *,
        name: str,
        diagnostics: Sequence[Diagnostic] = (),
        command: Sequence[str] = (),
        output: str = "",
    ) -> None:
        super().__init__(message)
        self.name = name
        self.diagnostics = tuple(diagnostics)
        """What Cython or the compiler said, with file, line, column, severity, message, source."""
        self.command = tuple(command)
        """The command that failed, if one was run."""
        self.output = output
        """All that the command printed."""


class CompilerMissing(BuildError):
    """No C or C++ compiler could be started."""


class BuildTimeout(BuildError):
    """A compiler took longer than it may; it was ended."""


class DiskFull(BuildError):
    """There is no room for the build."""


class WorkerDied(BuildError):
    """The process that translates Cython ended in the middle of a build."""


class StoreRefused(RelibError):
    """The store cannot be used: it belongs to someone else, or others may write to it."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


# --- loading -------------------------------------------------------------------------------------


class LoadError(RelibError, ImportError):
    """A build could not be loaded. What runs goes on running."""

    def __init__(self, message: str, *, name: str, path: Path | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.path = None if path is None else str(path)


class ExecError(LoadError):
    """The module's own code raised while it was being executed; ``__cause__`` is what it raised."""


class AlreadyLoaded(LoadError):
    """The name is taken: by another source, or by a module that relib did not load."""


class BuildMismatch(LoadError):
    """Built for another Python, ABI, Cython or relib, or not a whole shared object at all."""


class BuildGone(LoadError):
    """The build has been removed from the store since it was found; build it again."""


class NoEarlierBuild(LoadError):
    """There is no earlier version to roll back to, or its build is no longer in the store."""


# --- unloading -----------------------------------------------------------------------------------


class ModuleUnloaded(RelibError):
    """The public module was used after it had been unloaded."""

    def __init__(self, message: str, *, name: str) -> None:
        super().__init__(message)
        self.name = name


class UnloadError(RelibError):
    """A version could not be unloaded; it stays as it was and can still be used."""

    def __init__(self, message: str, *, name: str, pins: Sequence[Pin] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.pins = tuple(pins)
        """Why it could not, as data."""


class Pinned(UnloadError):
    """Something still uses the version's code."""


class StillMapped(UnloadError):
    """dlclose returned, but the library is still in the process."""


class BeforeUnloadFailed(UnloadError):
    """The module's before_unload() raised; ``__cause__`` is what it raised."""


class Timeout(UnloadError):
    """The module's before_unload() took longer than it may."""
