"""`relib bench`: measures how long it takes from a save to the new answer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relib.cli import failure
from relib.cli.command import Command, as_json
from relib.cli.exit_codes import FAILED, OK
from relib.cli.progress import progress
from relib.cli.settings import BUILDING, Options, extension_of, project_config, settings
from relib.errors import ConfigError
from relib.extension import Extension
from relib.project import read_project

if TYPE_CHECKING:
    from relib.config import Config

__all__ = ["command"]

_TIERS = ("instant", "optimized", "auto")
_AGAINST = ("setuptools", "magic", "pyximport")

_SAMPLE = '''\
# cython: language_level=3
"""What is measured when there is nothing else."""

cdef class Counter:
    cdef public long count

    def __init__(self, long count=0):
        self.count = count

    cpdef long add(self, long by=1):
        self.count += by
        return self.count


def fib(long n):
    cdef long a = 0, b = 1, i
    for i in range(n):
        a, b = b, a + b
    return a
'''


def _writable(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """A chart that could not be written would be found out after minutes."""
    if path is not None and not path.exists() and not os.access(path.parent, os.W_OK | os.X_OK):
        raise click.BadParameter(f"{path.parent} is no directory that can be written to")
    return path


@click.command(
    "bench",
    cls=Command,
    short_help="Measure the time from a save to the new answer.",
    examples=[
        ("relib bench pkg/fast.pyx", "an extension of the project"),
        ("relib bench --tier instant --against none", "relib alone, in one tier"),
        ("relib bench fast.pyx --plot fast.svg", "a chart of it, too"),
    ],
    exits={OK: "it has been measured", FAILED: "it does not build, or an edit had no answer"},
)
@click.argument("source", required=False)
@click.option(
    "--edits",
    metavar="NUMBER",
    type=click.IntRange(1),
    default=10,
    show_default=False,
    help="How many edits to time in the first tier and of the floor; of all else a fifth of them, "
    "or five. By default 10.",
)
@click.option(
    "--against",
    type=click.Choice([*_AGAINST, "all", "none"]),
    multiple=True,
    help="What to compare with; may be repeated. By default all that is installed.",
)
@click.option(
    "--plot",
    "chart",
    metavar="FILE",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_writable,
    help="Draw a bar chart (SVG).",
)
@as_json
@settings(*BUILDING)
def command(
    source: str | None,
    edits: int,
    against: tuple[str, ...],
    chart: Path | None,
    as_json: bool,
    options: Options,
) -> int:
    """Measure the time from a save to the new answer.

    SOURCE is a source file, or the public name of an extension that the project declares. Without
    it, the only extension that the project declares is measured or, where there is none, a small
    one that is made up.

    A copy of the project is edited: a constant at the end of the source. A program that has
    imported the extension and watches it tells when its answer is the new one. The same edits are
    made with setuptools and a new process, with %%cython in IPython, and with pyximport; the floor
    is what Cython, the quickest compiler and Python's import take in warm processes.

    The first edit of each is not counted; the others are given by their median.
    """
    from relib.bench.measure import machine, measure, rounds
    from relib.bench.plot import plot
    from relib.bench.table import phases_table, table

    given = {"tier": "auto", **options}["tier"]
    with _subject(source, options) as (extension, config):
        tiers = _TIERS if config.tier == "auto" or given == "auto" else (config.tier,)
        wanted = _compared(against)
        with progress("measuring", rounds(edits, len(tiers), len(wanted))) as bar:
            result = measure(
                *(extension, config),
                options={key: value for key, value in options.items() if key != "tier"},
                edits=edits,
                tiers=tiers,
                against=wanted,
                step=bar.advance,
            )
    if as_json:
        failure.print_json({"machine": machine(), **result.as_dict()})
    else:
        click.echo(f"{result}\n\n{table(result)}\n\n{phases_table(result)}")
    if chart is not None:
        try:
            chart.write_text(plot([result]), encoding="utf-8")
        except OSError as error:
            click.echo(f"{chart} cannot be written: {error.strerror}", err=True)
            return FAILED
    return OK


def _compared(against: tuple[str, ...]) -> tuple[str, ...]:
    if "none" in against:
        if len(set(against)) > 1:
            raise click.UsageError("--against none excludes all others")
        return ()
    if not against or "all" in against:
        return _AGAINST
    return tuple(name for name in _AGAINST if name in against)


@contextmanager
def _subject(source: str | None, options: Options) -> Iterator[tuple[Extension, Config]]:
    """The extension that is meant, and its settings."""
    if source is not None:
        yield extension_of(source, options)
        return
    config = project_config(options)
    declared = read_project(config)
    if len(declared) > 1:
        raise ConfigError(
            f"the project at {config.root} declares {len(declared)} extensions; say which to "
            f"measure: {', '.join(declared)}",
            key="extensions",
            origin=str(config.root),
        )
    if declared:
        yield next(iter(declared.values())), config
        return
    with tempfile.TemporaryDirectory(prefix="relib-bench-") as directory:
        sample = Path(directory).resolve() / "sample.pyx"
        sample.write_text(_SAMPLE)
        yield extension_of(str(sample), options)
