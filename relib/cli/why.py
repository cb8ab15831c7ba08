"""`relib why`: says whether an extension would be built again, and which change is the reason."""

from __future__ import annotations

from dataclasses import asdict

import click

from relib.building.why import Why, explain
from relib.cli import failure
from relib.cli.command import Command, as_json
from relib.cli.exit_codes import FAILED, OK
from relib.cli.progress import progress
from relib.cli.settings import BUILDING, Options, extension_of, settings
from relib.config import Config
from relib.extension import Extension
from relib.live.tier import tier_now

__all__ = ["command"]


@click.command(
    "why",
    cls=Command,
    short_help="Say why an extension would be built again.",
    examples=[
        ("relib why pkg.fast", "what changed since pkg.fast was built"),
        ("relib why fast.pyx --cflags=-O0", "what another setting would change"),
    ],
    exits={OK: "it has been said, whatever the answer is", FAILED: "it cannot be told"},
)
@click.argument("name")
@as_json
@settings(*BUILDING)
def command(name: str, as_json: bool, options: Options) -> int:
    """Say whether `relib build` would build an extension again, and which change is the reason.

    NAME is the public name of an extension that the project declares, or a source file. Its sources
    and all that they include, the compiler, the flags and the versions of Python and Cython are
    compared with those of the build that was made or used last. Nothing is built.
    """
    with progress(f"looking at {name}"):
        answer = _explained(*extension_of(name, options))
    if as_json:
        failure.print_json({**asdict(answer), "text": str(answer)})
    else:
        click.echo("\n".join(_lines(answer)))
    return OK


def _explained(extension: Extension, config: Config) -> Why:
    return explain(extension, config, tier_now(config))


def _lines(answer: Why) -> list[str]:
    if not answer.needed:
        return [str(answer)]
    reasons = answer.reasons
    if len(reasons) < 2:
        return [str(answer)]
    return [f"{answer.name}: would rebuild, since {answer.last}:", *(f"  {r}" for r in reasons)]
