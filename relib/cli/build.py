"""`relib build`: builds extensions without loading them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import click

from relib.building.builder import Build, build_extension
from relib.building.several import several
from relib.cli import diagnostics, failure
from relib.cli.command import Command, as_json
from relib.cli.exit_codes import FAILED, OK
from relib.cli.progress import progress
from relib.cli.settings import (
    BUILDING,
    Options,
    extension_of,
    once_each,
    project_config,
    settings,
)
from relib.cli.words import count, shown_path
from relib.config import Config
from relib.duration import duration
from relib.errors import ConfigError, RelibError
from relib.extension import Extension
from relib.live.tier import tier_now
from relib.project import read_project

__all__ = ["command"]

Outcome: TypeAlias = Build | RelibError


@click.command(
    "build",
    cls=Command,
    short_help="Build extensions without loading them.",
    examples=[
        ("relib build", "all that the project declares"),
        ("relib build fast.pyx --cc clang", "one file, with clang"),
        ("relib build pkg.fast --force --json", "one extension, anew, for a program to read"),
    ],
    exits={OK: "everything is built", FAILED: "at least one extension did not build"},
)
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("--force", is_flag=True, help="Compile even what the store has.")
@as_json
@settings(*BUILDING)
def command(sources: tuple[str, ...], force: bool, as_json: bool, options: Options) -> int:
    """Build extensions without loading them.

    SOURCE is a .pyx, .py, .c or .cpp file, or the public name of an extension that the project
    declares. Without any, all extensions that the project of the current directory declares are
    built.

    What the store has already is not compiled again. One line is printed for each extension: its
    name, whether it was built or was in the store, the time it took, and the path of its shared
    object. Errors follow in full at the end, on stderr.
    """
    started = time.perf_counter()
    wanted = _wanted(sources, options)
    width = max(len(extension.name) for extension, _ in wanted)
    outcomes: list[Outcome] = []
    with progress("building", len(wanted)) as bar:
        built = _build_all(wanted, force, bar.advance)
        for (extension, _), outcome in zip(wanted, built, strict=True):
            outcomes.append(outcome)
            if not as_json:
                bar.echo(_line(extension, outcome, width))
    failed = sum(isinstance(outcome, RelibError) for outcome in outcomes)
    if as_json:
        failure.print_json(_document(wanted, outcomes))
    else:
        _show_rest(outcomes, failed, time.perf_counter() - started)
    return FAILED if failed else OK


def _wanted(sources: Sequence[str], options: Options) -> list[tuple[Extension, Config]]:
    if sources:
        return once_each(extension_of(source, options) for source in sources)
    config = project_config(options)
    declared = read_project(config)
    if not declared:
        raise ConfigError(
            f"the project at {config.root} declares no extension: give a source file "
            "(relib build fast.pyx), or declare it in [tool.relib.extensions] of pyproject.toml or "
            "in setup.py",
            key="extensions",
            origin=str(config.root),
        )
    return [(extension, config) for extension in declared.values()]


def _build_all(
    wanted: Sequence[tuple[Extension, Config]], force: bool, step: Callable[[], None]
) -> Iterator[Outcome]:
    def build(each: tuple[Extension, Config]) -> Outcome:
        try:
            return build_extension(*each, force=force, tier=tier_now(each[1]))
        except RelibError as error:
            return error
        finally:
            step()

    return several(build, wanted, jobs=wanted[0][1].jobs)


def _line(extension: Extension, outcome: Outcome, width: int) -> str:
    name = extension.name.ljust(width)
    if isinstance(outcome, RelibError):
        return f"{name}  " + click.style("failed", fg="red", bold=True)
    how = click.style("cached", dim=True) if outcome.cached else click.style("built ", fg="green")
    took = duration(outcome.seconds["total"]).rjust(8)
    return f"{name}  {how}  {took}  {shown_path(outcome.library)}"


def _show_rest(outcomes: Sequence[Outcome], failed: int, seconds: float) -> None:
    for outcome in outcomes:
        # The warnings of what was in the store have been shown when it was made.
        if isinstance(outcome, Build) and not outcome.cached:
            diagnostics.show(outcome.diagnostics)
    for outcome in outcomes:
        if isinstance(outcome, RelibError):
            click.echo(err=True)
            failure.show(outcome)
    if len(outcomes) > 1:
        cached = sum(isinstance(outcome, Build) and outcome.cached for outcome in outcomes)
        parts = [f"{len(outcomes) - failed - cached} built", f"{cached} in the store already"]
        if failed:
            parts.append(f"{failed} failed")
        summary = f"{count(len(outcomes), 'extension')}: {', '.join(parts)}"
        click.echo(f"{summary}; {duration(seconds)}", err=True)


def _document(
    wanted: Sequence[tuple[Extension, Config]], outcomes: Sequence[Outcome]
) -> dict[str, object]:
    return {
        "ok": not any(isinstance(outcome, RelibError) for outcome in outcomes),
        "builds": [
            {"name": extension.name, **_as_dict(outcome)}
            for (extension, _), outcome in zip(wanted, outcomes, strict=True)
        ],
    }


def _as_dict(outcome: Outcome) -> dict[str, object]:
    if isinstance(outcome, RelibError):
        return {"ok": False, "error": failure.as_dict(outcome)}
    plain: dict[str, object] = {
        "ok": True,
        "cached": outcome.cached,
        "library": str(outcome.library),
        "unique_name": outcome.unique_name,
        "number": outcome.number,
        "fingerprint": outcome.fingerprint,
        "kind": outcome.kind,
        "source": str(outcome.source),
        "inputs": [str(path) for path in outcome.inputs],
        "seconds": dict(outcome.seconds),
        "diagnostics": diagnostics.as_dicts(outcome.diagnostics),
        "python": outcome.python,
        "cython": outcome.cython,
    }
    return plain
