"""`relib demo`: edits a real Cython file and reloads it in this process, hundreds of times."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from relib.cli.command import Command
from relib.cli.demo_project import DemoProject
from relib.cli.demo_scenes import play
from relib.cli.demo_screen import LiveScreen, PlainScreen, show_claims
from relib.cli.exit_codes import FAILED, OK
from relib.cli.settings import Options, settings
from relib.config import load_config
from relib.live.load import load
from relib.live.module import Module

__all__ = ["command"]

# The demo waits for the compiler alone; what it shows is the same for optimised code.
_QUICK = "-O0 -g0"


@click.command(
    "demo",
    cls=Command,
    short_help="See it work: edit and reload a real file, hundreds of times.",
    examples=[
        ("relib demo", "the whole of it"),
        ("relib demo --cycles 1000 --keep", "more edits, and the files to look at"),
    ],
    exits={OK: "all that was claimed held", FAILED: "a claim did not hold, or it could not run"},
)
@click.option(
    "--cycles",
    type=click.IntRange(min=1),
    default=300,
    metavar="NUMBER",
    help="How many edits to make. By default 300.",
)
@click.option("--keep", is_flag=True, help="Keep the project that was edited.")
@settings("cc", "cflags", "cppflags", "ldflags", "compile-timeout", "unload-timeout", "history")
def command(cycles: int, keep: bool, options: Options) -> int:
    """Edit a real Cython file and reload it in this process, a few hundred times.

    Everything happens in a temporary project, and is checked: that each edit gives the new answer,
    that the old code is unmapped, that memory, open files and threads stay as they are; that code
    in use is kept, says who holds it, and goes when nobody does; that an edit which does not
    compile leaves the program as it was.

    The code is compiled with -O0 -g0 unless --cflags says otherwise, since the compiler is what
    one would wait for.
    """
    started = time.perf_counter()
    # Without links in it: mapped libraries are recognised by their path.
    root = Path(tempfile.mkdtemp(prefix="relib-demo-")).resolve()
    try:
        project = DemoProject(root)
        config = load_config(
            root, **{"cflags": _QUICK, **options, "store": root / ".relib", "directives": ()}
        )

        def load_source(source: Path) -> Module:
            return load(source, config=config)

        screen = _screen(project)
        try:
            claims = play(project, load_source, config.store, cycles, screen)
        finally:
            screen.close()
        show_claims(claims, time.perf_counter() - started)
    finally:
        if keep:
            click.echo(f"the project is in {root}", err=True)
        else:
            shutil.rmtree(root, ignore_errors=True)
    return OK if all(claim.holds for claim in claims) else FAILED


def _screen(project: DemoProject) -> PlainScreen:
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        return LiveScreen(project.source, project.line_number)
    return PlainScreen()
