"""Progress on stderr: on a terminal alone, and only for what takes over half a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Bar", "progress"]

PATIENCE = 0.5
"""Seconds of silence."""


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Bar]:
    """Show that work is going on.

    Args:
        what: what is being done: "building".
        total: the number of steps; None: not known.
    """
    bar = Bar(what, total)
    timer = threading.Timer(PATIENCE, bar.show)
    timer.daemon = True
    if sys.stderr.isatty():
        timer.start()
    try:
        yield bar
    finally:
        timer.cancel()
        bar.end()


class Bar:
    """What `progress` shows."""

    def __init__(self, what: str, total: int | None) -> None:
        """Show nothing yet."""
        self._what = what
        self._total = total
        self._steps = 0
        self._lock = threading.Lock()
        self._shown: tuple[Progress, TaskID] | None = None
        self._ended = False

    def show(self) -> None:
        """Appear, unless the work has ended."""
        with self._lock:
            if self._ended:
                return
            progress = _new_progress(counting=(self._total or 0) > 1)
            task = progress.add_task(self._what, total=self._total, completed=self._steps)
            progress.start()
            self._shown = progress, task

    def advance(self) -> None:
        """A step has been done. May be called in any thread."""
        with self._lock:
            self._steps += 1
            if self._shown is not None:
                progress, task = self._shown
                progress.advance(task)

    def echo(self, text: str) -> None:
        """Print a line on stdout, above."""
        with self._lock:
            if self._shown is not None:
                self._shown[0].stop()
            click.echo(text)
            if self._shown is not None:
                self._shown[0].start()

    def end(self) -> None:
        """Disappear."""
        with self._lock:
            self._ended = True
            if self._shown is not None:
                self._shown[0].stop()


def _new_progress(*, counting: bool) -> Progress:
    # Imported here: most commands end before they would need it.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
    if counting:
        columns += [BarColumn(bar_width=24), MofNCompleteColumn()]
    columns.append(TimeElapsedColumn())
    return Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        # Bar.echo() keeps the two apart; rich would break long lines, and colour them.
        redirect_stdout=False,
        redirect_stderr=False,
    )
