"""`relib run`: runs a program with the import hook and the watcher on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from relib.cli.command import Command
from relib.cli.settings import BUILDING, Options, settings
from relib.cli.watching_options import Reporting, reporting
from relib.config import load_config
from relib.importer import default_directories
from relib.program import environment, python

__all__ = ["command"]


@click.command(
    "run",
    cls=Command,
    short_help="Run a program, and reload its extensions while it runs.",
    context_settings={"allow_interspersed_args": False},
    examples=[
        ("relib run app.py --port 8000", "a script, with an argument of its own"),
        ("relib run -m pkg.app", "a module, as python -m does"),
        ("relib run -v --tier optimized app.py", "the project's own flags, and each phase's time"),
    ],
)
@click.option("-m", "module", is_flag=True, help="PROGRAM is a module's name.")
@click.option("-c", "code", is_flag=True, help="PROGRAM is Python code.")
@click.option("--no-watch", is_flag=True, help="Import through relib, but reload nothing.")
@reporting
@settings(*BUILDING, "unload-timeout", "history", "events")
@click.argument("program", nargs=-1, type=click.UNPROCESSED, required=True)
def command(
    program: tuple[str, ...],
    module: bool,
    code: bool,
    no_watch: bool,
    shown: Reporting,
    options: Options,
) -> int:
    """Run PROGRAM, a Python script, as python does, with all that follows as its arguments.

    Its extensions, .pyx files and what the project declares, are built when they are imported, and
    rebuilt and reloaded when they are saved. Nothing in the program has to know of it. For each
    reload a line is written to stderr, and for an edit that does not build, what is wrong with it.

    PROGRAM may be "-" for standard input. The exit code is the program's.
    """
    if module and code:
        raise click.UsageError("-m and -c exclude each other")
    kind = ["-m"] if module else ["-c"] if code else []
    script = None if kind or program[0] == "-" else Path(program[0])
    directories = default_directories(script)
    for directory in directories:
        load_config(directory, None, **options)  # what is wrong with it is said now
    environ = environment(
        directories,
        options,
        watch=not no_watch,
        polling=shown.polling,
        verbosity=shown.verbosity,
        as_json=shown.as_json,
    )
    if not sys.executable:
        raise click.UsageError("this Python does not know where it is installed (sys.executable)")
    if sys.flags.no_site:
        raise click.UsageError("with -S, Python does not run what installs the import hook")
    sys.stdout.flush()
    os.execve(sys.executable, [*python(), *kind, *program], environ)
