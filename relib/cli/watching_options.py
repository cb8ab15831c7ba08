"""The options of commands that watch: how to look for changes, and what to say of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

__all__ = ["Reporting", "reporting"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Reporting:
    """What was chosen."""

    polling: bool | None
    """How to watch; see :func:`relib.watch`."""
    verbosity: int
    """What to say; see :class:`relib.reporting.Reporter`."""
    as_json: bool


def reporting(function: _Function) -> _Function:
    """Give a command the options; its function gets them as `shown`."""

    @functools.wraps(function)
    def gather(
        *args: Any, polling: bool, verbose: bool, quiet: bool, as_json: bool, **kwargs: Any
    ) -> Any:
        if verbose and quiet:
            raise click.UsageError("-v and -q exclude each other")
        verbosity = 1 if verbose else -1 if quiet else 0
        return function(*args, shown=Reporting(polling or None, verbosity, as_json), **kwargs)

    decorated: Any = gather
    for option in reversed(
        (
            click.option(
                "--polling",
                is_flag=True,
                help="Look at the files from time to time. By default where the file system does "
                "not tell of changes.",
            ),
            click.option(
                "-v", "--verbose", is_flag=True, help="Also say how long each phase took."
            ),
            click.option("-q", "--quiet", is_flag=True, help="Say nothing."),
            click.option(
                "--json", "as_json", is_flag=True, help="Write a line of JSON for each event."
            ),
        )
    ):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]
