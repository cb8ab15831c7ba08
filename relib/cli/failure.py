"""Errors of relib on the command line: as text, as JSON, and as exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import click

from relib.building.diagnostics import Diagnostic
from relib.cli import diagnostics
from relib.cli.exit_codes import FAILED, USAGE
from relib.errors import (
    BadName,
    BuildError,
    ConfigError,
    RelibError,
    SourceMissing,
    UnknownExtension,
    UnloadError,
)

__all__ = ["as_dict", "exit_code", "print_json", "show"]

# What the one who typed the command can mend by typing another.
_USAGE = (BadName, ConfigError, SourceMissing, UnknownExtension)

_FACTS = ("name", "path", "line", "key", "origin", "known", "command", "output")

# A compiler that crashes may print pages; its last lines say what happened.
_LAST_LINES = 20


def exit_code(error: RelibError) -> int:
    """The exit code of a command that this error ended."""
    return USAGE if isinstance(error, _USAGE) else FAILED


def show(error: RelibError, *, as_json: bool = False) -> None:
    """Write an error to stderr or, as the one JSON document, to stdout."""
    if as_json:
        print_json({"error": as_dict(error)})
        return
    if isinstance(error, BuildError) and error.diagnostics:
        diagnostics.show(error.diagnostics)
        if any(diagnostic.message in str(error) for diagnostic in error.diagnostics):
            return  # the message would say it once more
    click.echo(click.style("Error:", fg="red", bold=True) + f" {error}", err=True)
    if isinstance(error, BuildError) and error.output.strip() and not error.diagnostics:
        lines = error.output.strip().splitlines()
        if len(lines) > _LAST_LINES:
            click.echo(f"  (the last {_LAST_LINES} of {len(lines)} lines of its output)", err=True)
        for line in lines[-_LAST_LINES:]:
            click.echo(f"  {line}", err=True)


def as_dict(error: RelibError) -> dict[str, object]:
    """An error's class, message and facts, for JSON."""
    found: dict[str, object] = {"type": type(error).__name__, "message": str(error)}
    for fact in _FACTS:
        value = getattr(error, fact, None)
        if value is not None:
            found[fact] = _plain(value)
    if isinstance(error, BuildError):
        found["diagnostics"] = diagnostics.as_dicts(error.diagnostics)
    if isinstance(error, UnloadError):
        found["pins"] = [pin.as_dict() for pin in error.pins]
    return found


def print_json(document: object) -> None:
    """Write the one JSON document of a command."""
    click.echo(json.dumps(document, indent=2, default=_plain))


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Diagnostic):
        return diagnostics.as_dicts([value])[0]
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool)) else str(value)
