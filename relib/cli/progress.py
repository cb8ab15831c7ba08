"""Progress on stderr: on a terminal alone, and only for what takes over half a second."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["progress"]

PATIENCE = 0.5
"""Seconds of silence."""


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """Show that work is going on.

    Yields a function to call after each of the `total` steps. What is printed meanwhile appears
    above.

    Args:
        what: what is being done: "building".
        total: the number of steps; None: not known.
    """
    if not sys.stderr.isatty():
        yield lambda: None
        return
    bar = _Bar(what, total)
    timer = threading.Timer(PATIENCE, bar.show)
    timer.daemon = True
    timer.start()
    try:
        yield bar.advance
    finally:
        timer.cancel()
        bar.end()


class _Bar:
    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._total = total
        self._steps = 0
        self._lock = threading.Lock()
        self._shown: tuple[Progress, TaskID] | None = None
        self._ended = False

    def show(self) -> None:
        with self._lock:
            if self._ended:
                return
            progress = _new_progress(counting=(self._total or 0) > 1)
            task = progress.add_task(self._what, total=self._total, completed=self._steps)
            progress.start()
            self._shown = progress, task

    def advance(self) -> None:
        with self._lock:
            self._steps += 1
            if self._shown is not None:
                progress, task = self._shown
                progress.advance(task)

    def end(self) -> None:
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
        # Only if it ends up on the same terminal: a redirected stdout must get what is printed.
        redirect_stdout=sys.stdout.isatty(),
    )
