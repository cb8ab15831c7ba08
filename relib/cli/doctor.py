"""`relib doctor`: says whether relib can work here, what will be slow, and how to mend it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from shutil import get_terminal_size

import click

import relib
from relib.cli import failure
from relib.cli.check_process import check_process
from relib.cli.check_python import check_python
from relib.cli.check_store import check_project, check_store
from relib.cli.check_toolchain import check_toolchain
from relib.cli.command import Command, as_json
from relib.cli.exit_codes import FAILED, OK
from relib.cli.finding import BAD, GOOD, NOTE, SLOW, Finding
from relib.cli.progress import progress
from relib.cli.settings import Options, project_config, settings
from relib.config import Config

__all__ = ["command"]

_COLOURS = {GOOD: "green", NOTE: "cyan", SLOW: "yellow", BAD: "red"}
_WIDTH = 16


@click.command(
    "doctor",
    cls=Command,
    short_help="Check compilers, Python, store, and what will be slow.",
    examples=[
        ("relib doctor", "the project of the current directory"),
        ("relib doctor --cc tcc", "whether it would work with another compiler"),
    ],
    exits={OK: "nothing essential is missing", FAILED: "something essential is missing"},
)
@as_json
@settings()
def command(as_json: bool, options: Options) -> int:
    """Say whether relib can work here, what will be slow, and how to mend it.

    Looks at Python and its headers, the compilers, relib's own C parts, what a process may see of
    its threads, the project and its store. A few lines of C are built, loaded and unloaded in
    another process to see whether that works; nothing is left behind.
    """
    config = project_config(options)
    findings: list[Finding] = []
    with progress("examining") as bar:
        for section, check in _sections(config):
            found = list(check())
            findings += found
            if not as_json:
                bar.echo("\n".join([click.style(section, bold=True), *_lines(found)]))
    bad = sum(finding.level == BAD for finding in findings)
    if as_json:
        document = {
            "ok": not bad,
            "relib": relib.__version__,
            "root": str(config.root),
            "findings": [finding.as_dict() for finding in findings],
        }
        failure.print_json(document)
    else:
        click.echo(_verdict(findings))
    return FAILED if bad else OK


def _sections(config: Config) -> list[tuple[str, Callable[[], Iterable[Finding]]]]:
    return [
        (f"relib {relib.__version__} and Python", check_python),
        ("Compilers", lambda: check_toolchain(config)),
        ("This process", check_process),
        ("Project", lambda: check_project(config)),
        ("Store", lambda: check_store(config)),
    ]


def _lines(findings: Iterable[Finding]) -> Iterator[str]:
    margin = " " * (8 + _WIDTH)
    for finding in findings:
        level = click.style(finding.level.rjust(6), fg=_COLOURS[finding.level], bold=True)
        first, *rest = _wrapped(finding.text)
        yield f"{level}  {finding.topic.ljust(_WIDTH)}{first}"
        yield from (margin + line for line in rest)
        if finding.advice:
            first, *rest = _wrapped(finding.advice)
            yield f"{margin}→ {first}"
            yield from (f"{margin}  {line}" for line in rest)


def _wrapped(text: str) -> list[str]:
    room = max(get_terminal_size().columns, 60) - 8 - _WIDTH - 2
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]


def _verdict(findings: list[Finding]) -> str:
    bad = [finding.topic for finding in findings if finding.level == BAD]
    slow = sum(finding.level == SLOW for finding in findings)
    if bad:
        return click.style(f"\nrelib does not work here: {', '.join(bad)}", fg="red", bold=True)
    text = "\nrelib works here"
    if slow:
        text += "; what is marked slow could be quicker"
    return click.style(text, fg="green", bold=True)
