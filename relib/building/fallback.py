"""Which compiler of a tier it is to be: the quickest that can be trusted with the code."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relib.building import tinycc
from relib.building.compile import Compiled
from relib.building.diagnostics import Diagnostic
from relib.building.doubts import doubt, doubt_about_gnu, shadow
from relib.building.obstacles import Obstacle, Obstacles, doubted, obstacle
from relib.building.tiers import Plan, Plans
from relib.building.toolchain import Toolchain, python_includes
from relib.errors import BuildError, BuildTimeout, CompilerMissing, DiskFull
from relib.extension import Extension

__all__ = ["Choice", "Files", "choose"]

_logger = logging.getLogger("relib")


@dataclass(frozen=True, slots=True)
class Choice:
    """Who compiled it, and what came of it."""

    plan: Plan
    compiled: Compiled
    notes: tuple[Diagnostic, ...]
    """Why it was not the quickest compiler; only if nobody was told before."""


@dataclass(slots=True)
class Files:
    """What there is to be compiled.

    Args:
        extension: what it belongs to.
        sources: the C and C++ files, the generated ones included.
        root: the project's root.
    """

    extension: Extension
    sources: Sequence[Path]
    root: Path
    _texts: list[str] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """The sources' contents, read when they are first asked for."""
        if not self._texts:
            self._texts = [_text(path) for path in self.sources]
        return self._texts

    def doubt(self, compiled: Compiled) -> tuple[str, str] | None:
        """What tcc may have compiled to something else: what it is, and the line that has it."""
        places = (f"{self.root}/", *(f"{path}/" for path in self.extension.include_dirs))
        # A project may have its environment, with Python in it, below its root.
        others = tuple(f"{path}/" for path in (*python_includes(), tinycc.HEADERS))
        headers = [
            path
            for path in map(os.fspath, compiled.dependencies)
            if path.startswith(places)
            and not path.startswith(others)
            and Path(path) not in self.sources
        ]
        texts = [_text(Path(path)) for path in headers]
        # what is the user's own: Cython's C asks for GNU C, and does without
        own = (*map(_text, self.extension.sources), *texts)
        found = itertools.chain(map(doubt, (*self.texts, *texts)), map(doubt_about_gnu, own))
        return next(filter(None, found), None) or self._shadow(headers)

    def _shadow(self, headers: Sequence[str]) -> tuple[str, str] | None:
        quoted = {os.fspath(source.parent) for source in self.extension.sources}
        name = shadow(headers, quoted, (*self.extension.include_dirs, *python_includes()))
        return None if name is None else (f"a header of the project's called {name}", "")


def choose(
    plans: Plans,
    files: Files,
    obstacles: Obstacles,
    build: Callable[[Plan, Path], Compiled],
    directory: Path,
) -> Choice:
    """Compile by the first plan that works.

    A compiler that failed where a later one does not is not asked again for as long as what stood
    in its way is there. What the last one refuses is wrong with the source.

    Args:
        plans: in the order of trying.
        files: what there is to be compiled.
        obstacles: what is known of earlier failures.
        build: compiles by a plan in a directory of its own.
        directory: where to make these directories.

    Raises:
        BuildError: the sources do not compile.
        SourceMissing, SourceUnreadable: a source is not there.
    """
    found: list[tuple[Toolchain, Obstacle]] = []
    errors: list[BuildError] = []
    doubtful = False
    for number, plan in enumerate(plans):
        toolchain = plan.toolchain
        assert toolchain is not None
        instant = plan.tier == "instant"
        if instant and (doubtful or obstacles.find(toolchain, files.texts) is not None):
            continue
        workdir = directory / str(number)
        workdir.mkdir(0o700)
        try:
            compiled = build(plan, workdir)
        except (BuildTimeout, DiskFull):
            raise
        except BuildError as error:
            # Two that stumble over the same line: the one that decides is asked next.
            doubtful = doubtful or any(_agree(error, other) for other in errors)
            errors.append(error)
            if not isinstance(error, CompilerMissing):
                found.append((toolchain, obstacle(toolchain, error, files.texts)))
            continue
        doubted_for = files.doubt(compiled) if instant and toolchain.family == "tcc" else None
        if doubted_for is None:
            return Choice(plan, compiled, _told(found, obstacles, toolchain, files))
        found.append((toolchain, doubted(toolchain, *doubted_for, files.texts)))
    raise errors[-1]


def _agree(error: BuildError, other: BuildError) -> bool:
    """Whether two compilers complain about the same line."""
    places = [
        {(d.file, d.line) for d in each.diagnostics if d.severity == "error" and d.line}
        for each in (error, other)
    ]
    return bool(places[0] & places[1])


def _told(
    found: Sequence[tuple[Toolchain, Obstacle]],
    obstacles: Obstacles,
    used: Toolchain,
    files: Files,
) -> tuple[Diagnostic, ...]:
    """Remember what stood in the way, and say so if it is the first time."""
    notes = []
    for toolchain, each in found:
        if obstacles.add(each):
            message = (
                f"built with {_name(used)}, since {_name(toolchain)} cannot be used: {each.reason}"
            )
            _logger.info("%s is %s", files.extension.name, message)
            notes.append(Diagnostic(files.extension.main, 0, 0, "note", message))
    return tuple(notes)


def _name(toolchain: Toolchain) -> str:
    return toolchain.family if toolchain.family != "other" else toolchain.command[0]


def _text(path: Path) -> str:
    # bytes of any encoding come through, and nothing is looked at but ASCII
    try:
        return path.read_bytes().decode("latin-1")
    except OSError:
        return ""
