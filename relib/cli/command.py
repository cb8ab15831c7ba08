"""A click command whose help has sections for settings, examples and exit codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from relib.cli import failure
from relib.cli.exit_codes import INTERRUPTED, USAGE
from relib.cli.settings import SettingOption
from relib.errors import RelibError

__all__ = ["Command", "as_json"]

as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout instead of text."
)
"""The option of every command whose output a program may want to read."""

_ALWAYS = {
    USAGE: "wrong usage: no such option, setting, source or name",
    INTERRUPTED: "interrupted",
}

_ABOUT_SETTINGS = (
    "Each may also come from the environment (RELIB_...) or from [tool.relib] in pyproject.toml; "
    "what is given here goes before both."
)


class Command(click.Command):
    """One subcommand.

    Args:
        examples: command lines, each with what it is for.
        exits: what its exit codes mean, besides wrong usage and interruption.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[tuple[str, str]] = (),
        exits: Mapping[int, str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take what click takes, and the two that the class says."""
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.exits = {**(exits or {}), **_ALWAYS}

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; an error of relib is shown, and becomes an exit code."""
        try:
            return super().invoke(ctx)
        except RelibError as error:
            failure.show(error, as_json=bool(ctx.params.get("as_json")))
            return failure.exit_code(error)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options: the command's own, then the project's settings."""
        own: list[tuple[str, str]] = []
        settings: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            # newer versions of click list arguments, too, which the text explains
            if record is not None and isinstance(parameter, click.Option):
                (settings if isinstance(parameter, SettingOption) else own).append(record)
        with formatter.section("Options"):
            formatter.write_dl(own)
        if settings:
            with formatter.section("Settings"):
                formatter.write_text(_ABOUT_SETTINGS)
                formatter.write_paragraph()
                formatter.write_dl(settings)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples and the exit codes."""
        if self.examples:
            with formatter.section("Examples"):
                formatter.write_dl(list(self.examples), col_max=40)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), self.exits[code]) for code in sorted(self.exits)])
