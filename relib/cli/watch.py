"""`relib watch`: rebuilds what changes, without a program, and runs a command after each build."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

import click

from relib.building import warm_up
from relib.cli import failure
from relib.cli.after_build import AfterBuild
from relib.cli.command import Command
from relib.cli.progress import progress
from relib.cli.settings import BUILDING, Options, project_config, settings
from relib.cli.watched import Search, Watched, build_all
from relib.cli.watching_options import Reporting, reporting
from relib.duration import duration
from relib.errors import ConfigError, RelibError
from relib.importer import default_directories
from relib.program import environment
from relib.watching import Watcher

__all__ = ["command"]

TERMINATED = 128 + signal.SIGTERM


@click.command(
    "watch",
    cls=Command,
    short_help="Rebuild what changes, and run a command after it.",
    examples=[
        ("relib watch", "all that the project declares"),
        ("relib watch src/pkg", "the extensions whose sources are there"),
        ('relib watch --exec "pytest -x"', "run the tests after each good build"),
    ],
    exits={TERMINATED: "ended by SIGTERM"},
)
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option(
    "--exec",
    "line",
    metavar="COMMAND",
    help="Give this to the shell at first and after each good build; what still runs of it is "
    "ended before. Python programs in it import what has been built.",
)
@reporting
@settings(*BUILDING, "events")
def command(paths: tuple[str, ...], line: str | None, shown: Reporting, options: Options) -> None:
    """Build extensions, and build them again when they change, until Ctrl-C.

    PATH is a source file, a directory, or the public name of an extension that the project
    declares. Without any, all that the project of the current directory declares is watched; if it
    declares nothing, the .pyx files in it.

    One line is printed for each build. COMMAND is run only when everything builds.
    """
    teller = _Teller(shown)
    events = project_config(options).events
    with _ending_at(signal.SIGTERM), Watcher(polling=shown.polling, events=events) as watcher:
        search = Search(paths, options)
        watched = search.find()
        if not watched:
            raise _nothing(options)
        warm_up(watched[0].config)  # also when all is in the store: the first save comes
        after = AfterBuild(line, teller.ended) if line is not None else None

        def built(watched: list[Watched]) -> None:
            if after is not None:
                after.start(_environment(watched, options))

        try:
            _watch(watcher, watched, search, teller, built)
        finally:
            if after is not None:
                after.end()


def _watch(
    watcher: Watcher,
    watched: list[Watched],
    search: Search,
    teller: _Teller,
    built: Callable[[list[Watched]], None],
) -> None:
    waiting = list(watched)
    first = True
    searched: frozenset[Path] = frozenset()
    while True:
        news: list[Watched] = []
        # Until what is watched is what they are made from: what came to be watched after it was
        # read, or looked for, may have changed in between.
        while waiting:
            before = {one: (one.files, one.directories) for one in waiting}
            with progress("building", len(waiting)) if first else nullcontext() as bar:
                new = build_all(waiting, None if bar is None else bar.advance)
            _arm(watcher, watched, search)
            news += [one for one in new if one not in news]
            teller.built(waiting, new)
            waiting = [
                one
                for one in waiting
                if not (one.files <= before[one][0] and one.directories <= before[one][1])
            ]
            if not search.directories <= searched:
                searched = search.directories
                watched = _again(watched, search, teller)
                waiting += [one for one in watched if not one.files]
        if (news or first) and not any(one.error for one in watched):
            built(watched)
            first = False
        batch: frozenset[Path] = frozenset()
        while not batch:
            batch = watcher.batch()
        if search.is_news(batch, watched):
            watched = _again(watched, search, teller)
            waiting = list(watched)
        else:
            waiting = [one for one in watched if one.concerns(batch)]


def _environment(watched: list[Watched], options: Options) -> dict[str, str]:
    """The environment of the command: what is imported there is what has been built here."""
    environ = {}
    if all(one.config.tier == "auto" for one in watched):
        # Nobody waits for an optimized build there, and the next save would overtake it. In the
        # environment, for processes that install the hook themselves: the workers of a test run.
        options = {key: value for key, value in options.items() if key != "tier"}
        environ["RELIB_TIER"] = "instant"
    here = default_directories(None)
    return {**environment(here, options, watch=False, verbosity=-1), **environ}


def _arm(watcher: Watcher, watched: list[Watched], search: Search) -> None:
    watcher.watch(
        frozenset[Path]().union(*(one.files for one in watched)),
        search.directories.union(*(one.directories for one in watched)),
        roots={one.config.root for one in watched},
    )


def _again(watched: list[Watched], search: Search, teller: _Teller) -> list[Watched]:
    """What is to be watched now; as before if a project file has a fault."""
    try:
        found = search.find()
    except RelibError as error:
        teller.not_found(error)
        return watched
    teller.not_found(None)
    known = {one.extension.name: one for one in watched}
    for one in found:
        if (before := known.get(one.extension.name)) is not None:
            before.extension, before.config = one.extension, one.config
    return [known.get(one.extension.name, one) for one in found] or watched


def _nothing(options: Options) -> ConfigError:
    root = project_config(options).root
    return ConfigError(
        f"there is nothing to watch: the project at {root} declares no extension, and has no .pyx "
        "file there",
        key="extensions",
        origin=str(root),
    )


@contextmanager
def _ending_at(number: signal.Signals) -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(number, end)
    try:
        yield
    finally:
        signal.signal(number, before)


class _Teller:
    """Says what happens: builds on stdout, errors on stderr, each once."""

    def __init__(self, shown: Reporting) -> None:
        self._shown = shown
        self._said: dict[str, str] = {}
        self._not_found: str | None = None

    def built(self, looked_at: list[Watched], news: list[Watched]) -> None:
        for one in looked_at:
            name = one.extension.name
            if one.error is not None:
                if self._said.get(name) != str(one.error):
                    self._said[name] = str(one.error)
                    self.failed(one.error, name)
                continue
            mended = self._said.pop(name, None) is not None
            if (one in news or mended) and one.build is not None:
                self._tell_of(one)

    def not_found(self, error: RelibError | None) -> None:
        """Why it is not known what is to be built; None: it is known again."""
        if error is not None and self._not_found != str(error):
            self.failed(error)
        self._not_found = None if error is None else str(error)

    def _tell_of(self, one: Watched) -> None:
        build, name = one.build, one.extension.name
        assert build is not None
        if self._shown.as_json:
            fields = {"kind": "built", "name": name, "number": build.number}
            library = {"cached": build.cached, "library": str(build.library)}
            self._line({**fields, **library, "seconds": dict(build.seconds)})
        elif self._shown.verbosity >= 0:
            how = "in the store" if build.cached else "built"
            click.echo(f"{name} · {duration(build.seconds['total'])} · {how}")
            if self._shown.verbosity > 0:
                phases = [(phase, s) for phase, s in build.seconds.items() if phase != "total"]
                click.echo("  " + " · ".join(f"{phase} {duration(s)}" for phase, s in phases))

    def failed(self, error: RelibError, name: str | None = None) -> None:
        if self._shown.as_json:
            self._line({"kind": "build_failed", "name": name, "error": failure.as_dict(error)})
        elif self._shown.verbosity >= 0:
            failure.show(error)

    def ended(self, status: int) -> None:
        if self._shown.as_json:
            self._line({"kind": "command_ended", "status": status})
        elif self._shown.verbosity >= 0 and status:
            how = f"exit code {status}" if status > 0 else f"signal {-status}"
            click.echo(f"the command failed: {how}", err=True)

    def _line(self, document: dict[str, object]) -> None:
        if self._shown.verbosity >= 0:
            click.echo(json.dumps(document, default=str))
