"""Makes the children that multiprocessing starts anew ("spawn", "forkserver") import like us.

A forked child has the hook already. Others begin with an empty interpreter, and import the main
module before anything else; what they are told about it (multiprocessing/spawn.py,
get_preparation_data) is the one thing that comes before. So the hook travels in there.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["NAME", "find_spec", "follow", "unfollow"]

NAME = "multiprocessing.spawn"
"""The module that `find_spec` is for."""

_FORK_SERVER = "multiprocessing.forkserver"

_arguments: Callable[[], dict[str, Any]] | None = None

# Runs in the child, where relib may not be found yet, on the path that the parent had.
_BEGIN = """
import sys
if directory not in sys.path:
    sys.path.append(directory)
import pickle
from relib.importer import install
install(**pickle.loads(arguments))
"""


def follow(arguments: Callable[[], dict[str, Any]]) -> None:
    """From now on children get the hook.

    Args:
        arguments: says with what they are to call relib.install().
    """
    global _arguments
    _arguments = arguments
    if (spawn := sys.modules.get(NAME)) is not None:
        _extend(spawn)


def unfollow() -> None:
    """From now on they do not."""
    global _arguments
    _arguments = None


def find_spec(fullname: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """For multiprocessing.spawn itself, which few programs import: it is extended when they do."""
    spec = PathFinder.find_spec(fullname, path)
    if spec is not None and type(spec.loader) is SourceFileLoader:
        spec.loader = _Extending(spec.loader.name, spec.loader.path)
    return spec


class _Extending(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _extend(module)


def _extend(spawn: ModuleType) -> None:
    original = spawn.get_preparation_data
    if getattr(original, "__module__", None) == __name__:
        return

    def get_preparation_data(name: str) -> dict[str, object]:
        told: dict[str, object] = original(name)
        if _arguments is not None:
            told["relib"] = _Beginning(pickle.dumps(_arguments()))
            if sys._getframe(1).f_globals.get("__name__") == _FORK_SERVER:
                # The server imports the main module before it unpickles anything, and takes no
                # error but one of the file (CPython 3.11-3.14, Lib/multiprocessing/forkserver.py,
                # main()). Its children have the hook, and import the module then.
                told.pop("init_main_from_path", None)
        return told

    spawn.get_preparation_data = get_preparation_data  # type: ignore[attr-defined]


class _Beginning:
    """Unpickled, it installs the hook."""

    def __init__(self, arguments: bytes) -> None:
        self._arguments = arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        directory = str(Path(__file__).parents[1])
        return exec, (_BEGIN, {"directory": directory, "arguments": self._arguments})
