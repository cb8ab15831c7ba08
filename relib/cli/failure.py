"""Errors of relib on the command line: as text, as JSON, and as exit codes."""

from __future__ import annotations

import json

import click

from relib.building.diagnostics import Diagnostic
from relib.cli import diagnostics
from relib.cli.exit_codes import FAILED, USAGE
from relib.errors import BadName, ConfigError, RelibError, SourceMissing, UnknownExtension
from relib.reporting import error_as_dict, error_text

__all__ = ["as_dict", "exit_code", "print_json", "show"]

# What the one who typed the command can mend by typing another.
_USAGE = (BadName, ConfigError, SourceMissing, UnknownExtension)


def exit_code(error: RelibError) -> int:
    """The exit code of a command that this error ended."""
    return USAGE if isinstance(error, _USAGE) else FAILED


def show(error: RelibError, *, as_json: bool = False) -> None:
    """Write an error to stderr or, as the one JSON document, to stdout."""
    if as_json:
        print_json({"error": as_dict(error)})
        return
    click.echo(
        error_text(error, colour=True), err=True
    )  # which takes it out where it is not wanted


as_dict = error_as_dict


def print_json(document: object) -> None:
    """Write the one JSON document of a command."""
    click.echo(json.dumps(document, indent=2, default=_plain))


def _plain(value: object) -> object:
    return diagnostics.as_dicts([value])[0] if isinstance(value, Diagnostic) else str(value)
