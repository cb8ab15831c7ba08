"""The scenes of `relib demo`: each does something, and proves what it says about it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Protocol

from relib.cli.demo_project import KNOWN, PROBE, DemoProject
from relib.cli.measures import Measures, measure
from relib.cli.words import count, size
from relib.duration import duration
from relib.errors import BuildError, ModuleUnloaded
from relib.live.module import Module
from relib.live.report import Report
from relib.live.retired import on_unloaded
from relib.live.version import Version

__all__ = ["Claim", "Cycle", "Screen", "play"]

# A kept library costs over 100 kB for each reload; what the allocators leave unused comes to less
# than this when it is spread over a few hundred.
_FLAT = 4096
_ENOUGH = 100
"""Fewer reloads than this say nothing about memory: the allocators' own pages outweigh them."""

_NEW_EVERY = 25
_TEXT = "one two three"
_PATIENCE = 10.0
"""Seconds that a version may take to go after its last pin did."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that the demo shows, and whether it held."""

    text: str
    holds: bool
    figures: str = ""


@dataclass(frozen=True, slots=True)
class Cycle:
    """One edit and its reload."""

    number: int
    total: int
    before: str
    """The edited line, as it was."""
    after: str
    answer: int
    version: int
    cached: bool
    """The store had the build."""
    seconds: float
    now: Measures


class Screen(Protocol):
    """Where the demo is shown."""

    def scene(self, title: str) -> None:
        """A scene begins."""

    def edit(self, path: Path, line: int, before: str, after: str) -> None:
        """A line of a file has been changed."""

    def cycle(self, cycle: Cycle) -> None:
        """An edit has been reloaded."""

    def say(self, text: str) -> None:
        """What is to be seen."""

    def failure(self, error: BuildError) -> None:
        """A build has failed, as was to be expected."""


class _Played:
    """What the scenes share."""

    def __init__(self, project: DemoProject, module: Module, store: Path, screen: Screen) -> None:
        self.project = project
        self.module = module
        self.store = store
        self.screen = screen

    def reload(self) -> Report | None:
        return self.module.reload()

    def show_edit(self, before: str, after: str) -> None:
        self.screen.edit(self.project.source, self.project.line_number, before, after)


def play(
    project: DemoProject, load: Callable[[Path], Module], store: Path, cycles: int, screen: Screen
) -> list[Claim]:
    """Play all scenes and return what was claimed.

    Args:
        project: what is edited.
        load: loads the source.
        store: where its builds are.
        cycles: how many edits to reload.
        screen: where to show it.
    """
    screen.scene(f"1. {count(cycles, 'edit')} of {project.source.name}, each reloaded in place")
    started = time.perf_counter()
    module = load(project.source)
    took = duration(time.perf_counter() - started)
    screen.say(f"loaded as v1 in {took}: checksum({PROBE!r}) = {module.module.checksum(PROBE)}")
    played = _Played(project, module, store, screen)
    return [
        *_reload_often(played, cycles),
        *_hold_on(played),
        *_break_it(played),
        *_unload_it(played),
    ]


# --- 1 -------------------------------------------------------------------------------------------


def _reload_often(played: _Played, cycles: int) -> list[Claim]:
    project, module = played.project, played.module
    public = module.module
    known: list[float] = []
    compiled: list[float] = []
    new_answers = gone = most = 0
    settled = min(50, cycles // 2)
    at_first = measure(played.store, collect=True)
    for number in range(1, cycles + 1):
        last = project.answer
        before, after = project.edit(_multiplier(number))
        report = played.reload()
        if report is None:
            break
        new_answers += _exercise(public, project) and project.answer != last
        gone += report.unloaded
        now = measure(played.store)
        most = max(most, now.libraries)
        cached = module.build.cached
        (known if cached else compiled).append(report.seconds["total"])
        played.screen.cycle(
            Cycle(
                *(number, cycles, before, after, project.answer, module.version, cached),
                *(report.seconds["total"], now),
            )
        )
        if number == settled:
            at_first = measure(played.store, collect=True)
    at_end = measure(played.store, collect=True)
    if known:
        what = f"{count(len(known), 'edit')} whose build the store had: {duration(median(known))}"
        played.screen.say(f"{what} each (median), from the saved file to the new answer")
    if compiled:
        what = f"{count(len(compiled), 'edit')} never seen before: {duration(median(compiled))}"
        played.screen.say(f"{what} each, nearly all of it Cython and the compiler")
    return [
        Claim(
            "every edit gave the new answer, and the class, the generator and the closure worked",
            new_answers == cycles,
            f"{new_answers:,} of {cycles:,}",
        ),
        Claim(
            "the old code was unmapped each time",
            gone == cycles and most == at_end.libraries == 1,
            f"{count(at_end.libraries, 'library', 'libraries')} mapped",
        ),
        _memory_claim(at_first, at_end, cycles, cycles - settled),
        Claim(
            "no open file and no thread was left behind",
            at_end.fds <= at_first.fds and at_end.threads <= at_first.threads,
            f"{count(at_end.fds, 'open file')}, {count(at_end.threads, 'thread')}",
        ),
    ]


def _multiplier(number: int) -> int:
    """The edit of a cycle: one of a few, whose builds the store has, and at times a new one."""
    if number % _NEW_EVERY == 0:
        return 2 * number + 100_001
    return KNOWN[number % len(KNOWN)]


def _exercise(public: ModuleType, project: DemoProject) -> bool:
    """Use all that the module has, also with an exception; whether it answers as it should."""
    meter = public.Meter()
    try:
        meter.feed("not bytes")
    except TypeError:
        refused = True
    else:
        refused = False
    return bool(
        refused
        and public.checksum(PROBE) == project.answer
        and meter.feed(PROBE) == project.answer
        and list(public.words(_TEXT)) == [project.checksum(w.encode()) for w in _TEXT.split()]
        and public.largest(_TEXT)
        == max(_TEXT.split(), key=lambda word: project.checksum(b"!" + word.encode()))
    )


def _memory_claim(at_first: Measures, at_end: Measures, cycles: int, between: int) -> Claim:
    text = "memory is flat"
    growth = (at_end.rss - at_first.rss) / max(between, 1)
    figures = f"{size(at_end.rss)}, {growth:+,.0f} bytes per reload over {between:,}"
    if cycles < _ENOUGH:
        return Claim(f"{text} (not judged on fewer than {_ENOUGH} reloads)", True, figures)
    return Claim(text, growth < _FLAT, figures)


# --- 2 -------------------------------------------------------------------------------------------


def _hold_on(played: _Played) -> list[Claim]:
    project, module, screen = played.project, played.module, played.screen
    screen.scene("2. the program holds a function, and a generator that is halfway through")
    held = module.current
    gone = threading.Event()

    def listen(version: Version) -> None:
        if version is held:
            gone.set()

    on_unloaded(listen)
    callbacks = [module.module.checksum]
    generator = module.module.words(_TEXT)
    old = [project.checksum(word.encode()) for word in _TEXT.split()]
    begun = next(generator) == old[0]
    before, after = project.edit(KNOWN[0] if project.multiplier != KNOWN[0] else KNOWN[1])
    played.show_edit(before, after)
    report = played.reload()
    screen.say(str(report))
    follows = callbacks[0](PROBE) == module.module.checksum(PROBE) == project.answer
    screen.say(f"the function that was held answers {callbacks[0](PROBE)}: it runs the new code")
    pins = () if report is None else report.pins
    named = any("words" in pin.what for pin in pins)
    mapped = measure(played.store).libraries
    safe = begun and list(generator) == old[1:]
    screen.say(f"the generator goes on where it was, on the old code: {old[1]}, {old[2]}")
    del generator
    started = time.perf_counter()
    went = gone.wait(_PATIENCE)
    took = duration(time.perf_counter() - started)
    left = measure(played.store).libraries
    if went:
        screen.say(f"it is done: v{held.number} is unmapped {took} later, without being asked")
    return [
        Claim("a function that the program holds runs the new code", follows),
        Claim("code in use stays, works, and says who holds it", named and safe and mapped == 2),
        Claim("and goes by itself when nobody does", went and left == 1),
    ]


# --- 3 -------------------------------------------------------------------------------------------


def _break_it(played: _Played) -> list[Claim]:
    project, module, screen = played.project, played.module, played.screen
    screen.scene("3. an edit that does not compile")
    version = module.version
    before, broken = project.spoil()
    played.show_edit(before, broken)
    shown = False
    try:
        played.reload()
    except BuildError as error:
        shown = any(each.line == project.line_number for each in error.diagnostics)
        screen.failure(error)
    runs = module.version == version and _exercise(module.module, project)
    screen.say(f"v{version} goes on: checksum({PROBE!r}) = {module.module.checksum(PROBE)}")
    _, after = project.edit(KNOWN[2])
    played.show_edit(broken, after)
    report = played.reload()
    screen.say(str(report))
    mended = report is not None and _exercise(module.module, project)
    return [
        Claim("a failed build is shown with its line, and what ran goes on", shown and runs),
        Claim("and the next good save works", mended),
    ]


# --- 4 -------------------------------------------------------------------------------------------


def _unload_it(played: _Played) -> list[Claim]:
    module, screen = played.module, played.screen
    screen.scene("4. the module is unloaded")
    public = module.module
    report = module.unload()
    screen.say(str(report))
    refused = False
    try:
        public.checksum(PROBE)
    except ModuleUnloaded as error:
        refused = True
        screen.say(f"ModuleUnloaded: {error}")
    left = measure(played.store).libraries
    figures = f"{count(left, 'library', 'libraries')} mapped"
    return [Claim("nothing stays mapped", report.unloaded and refused and left == 0, figures)]
