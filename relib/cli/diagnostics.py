"""Diagnostics on the command line: as text, in colour on a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable

import click

from relib.building import diagnostics as building
from relib.building.diagnostics import Diagnostic
from relib.reporting import diagnostics_as_dicts

__all__ = ["as_dicts", "show"]


def show(diagnostics: Iterable[Diagnostic], *, err: bool = True) -> None:
    """Write diagnostics to stderr, each once; to stdout if not `err`."""
    text = building.show(diagnostics, color=True)
    if text:
        click.echo(text, err=err)  # which takes the colour out where it is not wanted


as_dicts = diagnostics_as_dicts
