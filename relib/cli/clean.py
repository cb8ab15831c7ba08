"""`relib clean`: removes builds from the store."""

from __future__ import annotations

from dataclasses import asdict

import click

from relib.building.eviction import CleanReport
from relib.building.store import Store
from relib.cli import failure
from relib.cli.command import Command, as_json
from relib.cli.exit_codes import FAILED, OK
from relib.cli.progress import progress
from relib.cli.settings import STORING, Options, project_config, settings
from relib.cli.words import count, shown_path, size

__all__ = ["command"]


@click.command(
    "clean",
    cls=Command,
    short_help="Remove builds from the store.",
    examples=[
        ("relib clean", "what is too old or too much"),
        ("relib clean --store-max-age 7", "what was not used for a week"),
        ("relib clean --all", "everything that no process uses"),
    ],
    exits={OK: "done, also if there was nothing to remove", FAILED: "the store cannot be used"},
)
@click.option("--all", "everything", is_flag=True, help="Remove all builds, whatever their age.")
@as_json
@settings(*STORING)
def command(everything: bool, as_json: bool, options: Options) -> int:
    """Remove builds from the store of the project that the current directory is in.

    Without --all, those go that were not used for longer than store-max-age and, the longest
    unused first, as many as it takes to come under store-max-size; every build does that by
    itself, too. A build that a living process has mapped stays in any case. Nothing is asked:
    what is removed is built again when it is needed.
    """
    config = project_config(options)
    with progress("cleaning"):
        report = Store(config).clean(everything=everything)
    if as_json:
        failure.print_json({"store": str(config.store), **asdict(report)})
    else:
        click.echo(f"{shown_path(config.store)}: {_in_words(report)}")
    return OK


def _in_words(report: CleanReport) -> str:
    parts = [
        f"{count(report.removed, 'build')} removed ({size(report.freed)})",
        f"{report.kept:,} kept ({size(report.kept_bytes)})",
    ]
    if report.held:
        parts.append(f"{report.held:,} of them because a process uses them")
    if report.swept:
        parts.append(f"{count(report.swept, 'unfinished build')} swept")
    return ", ".join(parts)
