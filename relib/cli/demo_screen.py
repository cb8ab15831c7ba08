"""How `relib demo` looks: a live panel on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relib.cli import diagnostics
from relib.cli.demo_project import PROBE
from relib.cli.demo_scenes import Claim, Cycle
from relib.cli.words import count, size
from relib.duration import duration
from relib.errors import BuildError

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

__all__ = ["LiveScreen", "PlainScreen", "show_claims"]

_REPORT_EVERY = 50
_REFRESH = 1 / 15
"""Seconds between two pictures."""


class PlainScreen:
    """One line for each thing that happens; of the many reloads, every fiftieth."""

    def scene(self, title: str) -> None:
        """Write the title."""
        click.echo()
        click.echo(click.style(title, bold=True))

    def edit(self, path: Path, line: int, before: str, after: str) -> None:
        """Write the line as in a diff."""
        click.echo(f"   {path.name}:{line}")
        click.echo(click.style(f"   -   {before}", fg="red"))
        click.echo(click.style(f"   +   {after}", fg="green"))

    def cycle(self, cycle: Cycle) -> None:
        """Write what an edit came to, now and then."""
        if cycle.number % _REPORT_EVERY and cycle.number not in (1, cycle.total):
            return
        click.echo(f"   edit {cycle.number}: {cycle.before}  →  {cycle.after}")
        click.echo(
            f"      v{cycle.version} in {duration(cycle.seconds)}: "
            f"checksum({PROBE!r}) = {cycle.answer}; {_holdings(cycle)}"
        )

    def say(self, text: str) -> None:
        """Write the text."""
        click.echo(f"   {text}")

    def failure(self, error: BuildError) -> None:
        """Show the diagnostics."""
        diagnostics.show(error.diagnostics, err=False)

    def close(self) -> None:
        """Nothing is left open."""


class LiveScreen(PlainScreen):
    """The same, with a panel that follows the many reloads.

    Args:
        source: the file that is edited.
        line: where.
    """

    def __init__(self, source: Path, line: int) -> None:
        """Show nothing yet."""
        self._source = source
        self._line = line
        self._live: Live | None = None
        self._drawn = 0.0

    def cycle(self, cycle: Cycle) -> None:
        """Draw the panel anew, if the last time is long enough ago."""
        from rich.live import Live

        if self._live is None:
            # Without a thread of its own: the demo counts threads.
            self._live = Live(auto_refresh=False)
            self._live.start()
        now = time.monotonic()
        if now - self._drawn >= _REFRESH or not cycle.cached or cycle.number == cycle.total:
            self._drawn = now
            self._live.update(self._picture(cycle), refresh=True)
        if cycle.number == cycle.total:
            self.close()

    def close(self) -> None:
        """Leave the last picture, and write below it from now on."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _picture(self, cycle: Cycle) -> RenderableType:
        from rich.console import Group
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        where = f"{self._line:4} "
        progress = Table.grid(padding=(0, 1))
        progress.add_row(
            f"edit {cycle.number:,} of {cycle.total:,}".ljust(16),
            ProgressBar(total=cycle.total, completed=cycle.number, width=30),
            f"v{cycle.version}",
            duration(cycle.seconds),
            Text("from the store", "dim") if cycle.cached else Text("compiled", "yellow"),
        )
        answer = Text(f"checksum({PROBE!r}) = ")
        answer.append(f"{cycle.answer}", "bold").append("  ✓ as it should be", "green")
        return Panel(
            Group(
                Text(f"{where}-     {cycle.before}", "red"),
                Text(f"{where}+     {cycle.after}", "green"),
                Text(),
                progress,
                answer,
                Text(_holdings(cycle)),
            ),
            title=str(self._source),
            title_align="left",
            width=78,
        )


def _holdings(cycle: Cycle) -> str:
    now = cycle.now
    mapped = f"{count(now.libraries, 'library', 'libraries')} mapped"
    held = f"{count(now.fds, 'open file')}, {count(now.threads, 'thread')}"
    return f"{mapped}, {size(now.rss)} of memory, {held}"


def show_claims(claims: Sequence[Claim], seconds: float) -> None:
    """Write what was shown, and whether all of it held."""
    click.echo()
    for claim in claims:
        mark = click.style("✓", fg="green") if claim.holds else click.style("✗", fg="red")
        figures = click.style(f" ({claim.figures})", dim=True) if claim.figures else ""
        click.echo(f" {mark} {claim.text}{figures}")
    failed = sum(not claim.holds for claim in claims)
    if failed:
        text = click.style(f"{failed} of {len(claims)} claims did not hold", fg="red", bold=True)
    else:
        text = click.style(f"all {len(claims)} claims held", fg="green", bold=True)
    click.echo(f"\n{text}; {duration(seconds)} in all")
