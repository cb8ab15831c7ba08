"""Starts programs with the import hook installed: both sides of it.

The hook is installed by a sitecustomize.py (see relib/startup) that is put before the program's
PYTHONPATH. Python then runs the program itself: arguments, ``__main__``, exit status, tracebacks
and signals are not imitated. The environment is put back before the program sees it, so processes
that it starts are plain Python ones, but for the children of multiprocessing.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relib.errors import RelibError

__all__ = ["begin", "environment", "python"]

_VARIABLE = "RELIB__STARTUP"
# They would keep PYTHONPATH from being read, and with it the hook from being installed.
_NOT_PASSED_ON = frozenset("IE")
# A script's first line may have them, for the script's sake (Fedora's have).
_OF_SCRIPTS = frozenset("sP")


def python(arguments: Sequence[str] | None = None) -> list[str]:
    """The command that runs this Python, with the options that it was started with.

    Args:
        arguments: Python's own, sys.orig_argv by default.

    >>> python(["python", "-uIOm", "relib", "run"])[1:]
    ['-u', '-O']
    >>> python(["python", "-sX", "dev", "-W", "error", "/usr/bin/relib", "run"])[1:]
    ['-X', 'dev', '-W', 'error']
    """
    rest = list(sys.orig_argv[1:] if arguments is None else arguments[1:])
    options: list[tuple[str, ...]] = []
    as_module = False
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--") and not as_module:
        word = rest.pop(0)
        if word.startswith("--"):  # --check-hash-based-pycs; all others say something and end
            options.append((word, rest.pop(0)))
            continue
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter == "m":
                as_module = True
                break
            if letter in "WX":
                options.append((f"-{letter}", letters or rest.pop(0)))
                break
            options.append((f"-{letter}",))
    dropped = _NOT_PASSED_ON if as_module else _NOT_PASSED_ON | _OF_SCRIPTS
    kept = [each for each in options if each[0][1:] not in dropped]
    return [sys.executable, *(word for each in kept for word in each)]


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
