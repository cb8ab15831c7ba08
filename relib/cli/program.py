"""The `relib` program: finds the subcommand, runs it, and turns its end into an exit code."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

import relib
from relib.cli.exit_codes import INTERRUPTED, OK
from relib.spelling import did_you_mean

__all__ = ["COMMANDS", "run"]

COMMANDS = ("run", "watch", "build", "why", "clean", "doctor", "bench", "demo")
"""The subcommands, in the order of the help; each is imported when it is first needed."""


class _Program(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = import_module(f"relib.cli.{cmd_name}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}{did_you_mean(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Program,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`relib COMMAND --help` says more about each.",
)
@click.version_option(relib.__version__, prog_name="relib", message="%(prog)s %(version)s")
def program() -> None:
    """Rebuild and reload native Python extensions in a living process."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    _show_log()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A terminal without a tick mark, or a file's odd name, is no reason to fail.
        sys.stdout.reconfigure(errors="replace")
    try:
        status = program.main(
            None if arguments is None else list(arguments),
            prog_name="relib",
            standalone_mode=False,
            color=_colour(),
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    return status if isinstance(status, int) else OK


def _colour() -> bool | None:
    """Whether to write in colour; None: where it goes to a terminal (https://no-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def _show_log() -> None:
    """What the library says while it works: that it waits for another process, say."""
    logger = logging.getLogger("relib")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("relib: %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
