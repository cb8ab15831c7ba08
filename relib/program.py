"""Starts programs with the import hook installed: both sides of it.

The hook is installed by a sitecustomize.py (see relib/startup) that is put before the program's
PYTHONPATH. Python then runs the program itself: arguments, ``__main__``, exit status, tracebacks
and signals are not imitated. The environment is put back before the program sees it, so processes
that it starts are plain Python ones, but for the children of multiprocessing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relib.errors import RelibError

__all__ = ["begin", "environment", "python"]

_VARIABLE = "RELIB__STARTUP"
# They would keep PYTHONPATH from being read, and are about how relib was started, not the program.
_NOT_PASSED_ON = frozenset({"-I", "-E", "-s", "-P"})


def python() -> list[str]:
    """The command that runs this Python, with the options that it was started with."""
    options = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [sys.executable, *(option for option in options if option not in _NOT_PASSED_ON)]


def environment(
    directories: Sequence[Path],
    options: Mapping[str, Any],
    *,
    watch: bool = True,
    polling: bool | None = None,
    verbosity: int = 0,
    as_json: bool = False,
) -> dict[str, str]:
    """The environment in which Python installs the hook before it runs a program.

    Args:
        directories: what is served; see :func:`relib.install`.
        options: settings, as texts or as they are in a Config.
        watch: reload what changes.
        polling: how to watch.
        verbosity: see :class:`relib.reporting.Reporter`.
        as_json: report in JSON.
    """
    here = Path(__file__).parent
    path = os.environ.get("PYTHONPATH")
    told = {
        "relib": str(here.parent),
        "python": sys.implementation.cache_tag,
        "pythonpath": path,
        "directories": [str(directory) for directory in directories],
        "options": dict(options),
        "watch": watch,
        "polling": polling,
        "verbosity": verbosity,
        "json": as_json,
    }
    before = str(here / "startup")
    return {
        **os.environ,
        "PYTHONPATH": before if not path else f"{before}{os.pathsep}{path}",
        _VARIABLE: json.dumps(told, default=str),
    }


def begin(told: Mapping[str, Any]) -> None:
    """In the program's process: install the hook.

    Args:
        told: what `environment` has put there.
    """
    from relib.importer import install
    from relib.reporting import Reporter, error_text

    reporter = Reporter(told["verbosity"], json=told["json"])
    try:
        install(
            directories=told["directories"],
            watch=told["watch"],
            polling=told["polling"],
            report=reporter,
            **told["options"],
        )
    except RelibError as error:
        # Not by an exception: Python only mentions those in a sitecustomize.py, and goes on.
        print(error_text(error, colour=False), file=sys.stderr, flush=True)
        os._exit(2)
