"""The loader behind an import statement: it fails as any import fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from relib.errors import BuildError, ExecError, RelibError
from relib.live.loader import Loader

__all__ = ["ImportLoader"]

_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")
_Step = Callable[[Loader, _Argument], _Result]


def _like_importlib(step: _Step[_Argument, _Result]) -> _Step[_Argument, _Result]:
    """The same step, failing as it does in Python's own loaders.

    An import statement takes importlib's frames out of a traceback, so that it shows the program
    alone. It knows them by file and name (CPython 3.11-3.15, Python/import.c,
    remove_importlib_frames), so this one gets those.
    """

    def load(loader: Loader, argument: _Argument) -> _Result:
        try:
            return step(loader, argument)
        except Exception as error:
            failure = _as_import_error(error, loader.name)
        try:
            raise failure
        finally:
            del failure  # it refers to this frame

    load.__code__ = load.__code__.replace(
        co_filename="<frozen importlib._bootstrap_external>", co_name="_call_with_frames_removed"
    )
    load.__doc__ = step.__doc__
    return load


class ImportLoader(Loader):
    """Raises what the module's own code raised, and an ImportError for all that is relib's."""

    # Themselves, and not called by methods here: those would be frames that are shown.
    create_module = _like_importlib(Loader.create_module)  # type: ignore[assignment]
    exec_module = _like_importlib(Loader.exec_module)  # type: ignore[assignment]


def _as_import_error(error: Exception, name: str) -> Exception:
    if isinstance(error, ExecError) and isinstance(error.__cause__, Exception):
        cause = error.__cause__
        return cause.with_traceback(_without_own_frames(cause.__traceback__))
    if isinstance(error, BuildError):
        return _with_diagnostics(error).with_traceback(None)
    if isinstance(error, ImportError):
        return error.with_traceback(None) if isinstance(error, RelibError) else error
    if isinstance(error, RelibError):
        failure = ImportError(str(error), name=name)
        failure.__cause__ = error.with_traceback(None)
        return failure
    return error


def _with_diagnostics(error: BuildError) -> BuildError:
    """The error with all that the compiler said in its message."""
    from relib.building.diagnostics import show

    shown = show(error.diagnostics, color=False)
    if shown and shown not in str(error):
        error.msg = f"{error}\n{shown}"
        error.args = (error.msg,)
    return error


def _without_own_frames(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and traceback.tb_frame.f_code.co_filename.startswith(_HERE):
        traceback = traceback.tb_next
    return traceback
