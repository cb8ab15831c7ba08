"""One attempt at a build: translate, amend, compile; and proof that no input changed meanwhile."""

from __future__ import annotations

import os
import sysconfig
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from relib.building.amend import amend
from relib.building.compile import Compiled, compile_extension
from relib.building.diagnostics import Diagnostic
from relib.building.fallback import Choice, Files, choose
from relib.building.fingerprint import Contents, State, fingerprint, portable
from relib.building.manifest import Manifest
from relib.building.obstacles import Obstacles
from relib.building.tiers import Plan, Plans
from relib.building.translate import cython_version, translate
from relib.config import Config
from relib.errors import BuildError, SourceMissing, SourceUnreadable
from relib.extension import Extension

__all__ = ["InputsChanged", "Made", "Order", "Witness", "attempt"]


class InputsChanged(Exception):  # nothing went wrong
    """Inputs changed while they were being built."""

    def __init__(self, paths: Iterable[str]) -> None:
        super().__init__()
        self.paths = tuple(paths)


class Witness:
    """Tells which files changed since it was made.

    Paths are texts here: there are hundreds, and each Path costs more than looking at the file.

    Args:
        contents: digests.
        known: the files that are known to be inputs; the others turn up during the build.
        now: when it is made, in nanoseconds of the file system's clock.
    """

    def __init__(self, contents: Contents, known: Iterable[str], now: int) -> None:
        self._contents = contents
        self._now = now
        self._before = {path: self._state(path) for path in known}

    def digests(
        self, paths: Iterable[str], root: Path, *, were_there: bool = False
    ) -> dict[str, str | None]:
        """The digests of `paths`, by portable path.

        Args:
            paths: the files.
            root: the project's root.
            were_there: they have been read, so that one which is not there has changed.

        Raises:
            InputsChanged: one of them has changed.
        """
        digests = {}
        changed = []
        for path in paths:
            now = self._state(path)
            before = self._before.get(path)
            if before is None:
                self._before[path] = now
                # It may have been written at the very moment that this witness was made; within
                # one step of the clock there is no telling, so that counts as changed.
                if now.changed >= self._now or (were_there and now.digest is None):
                    changed.append(path)
            elif now != before:
                changed.append(path)
            digests[portable(path, root)] = now.digest
        if changed:
            raise InputsChanged(changed)
        return digests

    def check(self) -> None:
        """Raise InputsChanged if any of the files seen so far has changed."""
        changed = [path for path, before in self._before.items() if self._state(path) != before]
        if changed:
            raise InputsChanged(changed)

    def _state(self, path: str) -> State:
        try:
            return self._contents.state(path)
        except OSError:  # cannot be read, and so was not: as good as absent
            return State(None)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be built, and how."""

    extension: Extension
    config: Config
    plans: Plans
    """Who may compile it, in the order of trying."""
    obstacles: Obstacles
    """What is known to keep them from it."""
    number: int
    """The build's number."""


@dataclass(frozen=True, slots=True)
class Made:
    """A build that is ready for the store."""

    manifest: Manifest
    directory: Path
    """It has the library, and the C that Cython made."""
    notes: tuple[Diagnostic, ...]
    """What is said about this attempt and not about the build."""


@dataclass(frozen=True, slots=True)
class _Translated:
    sources: tuple[Path, ...]
    """What is left to the C compiler."""
    generated: tuple[str, ...]
    read: tuple[str, ...]
    """What Cython read."""
    inputs: tuple[str, ...]
    """What the C depends on besides, there or not."""
    diagnostics: tuple[Diagnostic, ...]


def attempt(order: Order, contents: Contents, known: Iterable[str], directory: Path) -> Made:
    """Build once.

    Args:
        order: what to build.
        contents: digests.
        known: files that are likely to be inputs.
        directory: where to work; not there yet.

    Raises:
        InputsChanged: an input changed meanwhile, so that nobody knows what was built.
        BuildError: the sources do not build.
        SourceMissing, SourceUnreadable: a source, or what it includes, is not there.
        OSError: there is no room, or the directory has been removed.
    """
    directory.mkdir(0o700)
    witness = Witness(contents, known, directory.stat().st_ctime_ns)
    try:
        return _attempt(order, contents, witness, directory)
    except (BuildError, SourceMissing, SourceUnreadable):
        directory.stat()  # else it is that, and no source is to blame
        witness.check()  # half an edit may not build where the whole does
        raise


def _attempt(order: Order, contents: Contents, witness: Witness, directory: Path) -> Made:
    extension, root = order.extension, order.config.root
    kept, work = directory / "build", directory / "work"
    kept.mkdir(0o700)
    work.mkdir(0o700)

    begun = time.perf_counter()
    translated = _translate(order, kept)
    inputs = witness.digests(translated.read, root, were_there=True)
    inputs |= witness.digests(translated.inputs, root)
    seconds = {"translate": time.perf_counter() - begun}
    adapted = _with_quoted_includes(extension, kept) if translated.generated else extension

    def unique_name(plan: Plan) -> str:
        return f"{extension.stem}__r{order.number}_{fingerprint(plan.recipe, inputs)[:8]}"

    def build(plan: Plan, workdir: Path) -> Compiled:
        assert plan.toolchain is not None
        return compile_extension(
            adapted,
            translated.sources,
            unique_name=unique_name(plan),
            toolchain=plan.toolchain,
            workdir=workdir,
            config=order.config,
        )

    files = Files(extension, translated.sources, root)
    chosen: Choice = choose(order.plans, files, order.obstacles, build, work)
    plan, compiled = chosen.plan, chosen.compiled
    seconds.update(compiled.seconds)
    own = os.path.join(directory, "")  # noqa: PTH118
    read = map(os.fspath, compiled.dependencies)
    headers = [path for path in read if not path.startswith(own)]
    absent = [path for path in map(os.fspath, compiled.absent) if not path.startswith(own)]
    found = witness.digests(headers, root, were_there=True) | witness.digests(absent, root)
    witness.check()

    library = compiled.library.rename(kept / f"{unique_name(plan)}.so")
    manifest = Manifest(
        name=extension.name,
        root=str(root),
        unique_name=unique_name(plan),
        number=order.number,
        fingerprint=fingerprint(
            plan.recipe,
            inputs,
            found := {path: found[path] for path in found if path not in inputs},
        ),
        parts=plan.parts,
        kind=extension.kind,
        source=portable(extension.main, root),
        inputs=inputs,
        found=found,
        size=library.stat().st_size,
        digest=contents.digest(library) or "",
        generated=translated.generated,
        seconds=seconds,
        diagnostics=(*translated.diagnostics, *compiled.diagnostics),
        python=str(sysconfig.get_config_var("SOABI")),
        cython=cython_version() if extension.kind == "cython" else None,
        tier=plan.tier,
    )
    return Made(manifest, kept, chosen.notes)


def _translate(order: Order, kept: Path) -> _Translated:
    extension = order.extension
    sources: list[Path] = []
    generated: list[str] = []
    diagnostics: list[Diagnostic] = []
    inputs = dict.fromkeys(map(os.fspath, (*extension.sources, *extension.depends)))
    read: dict[str, None] = {}
    for source in extension.sources:
        if Extension(extension.name, (source,)).kind != "cython":
            sources.append(source)
            continue
        # C++ beside it makes the linker C++'s, and not this: as for setuptools
        suffix = ".cpp" if extension.language == "c++" else ".c"
        stem = source.stem if f"{source.stem}{suffix}" not in generated else f"{source.stem}_"
        result = translate(extension, source, kept / f"{stem}{suffix}", config=order.config)
        sources.append(result.c_file)
        generated.append(result.c_file.name)
        diagnostics += result.diagnostics
        diagnostics += _amend(result.c_file, source)
        for noted, paths in ((read, result.dependencies), (inputs, result.absent)):
            noted.update(dict.fromkeys(str(path) for path in paths if path.parent != kept))
    rest = (path for path in inputs if path not in read)
    return _Translated(
        tuple(sources), tuple(generated), tuple(read), tuple(rest), tuple(diagnostics)
    )


def _amend(c_file: Path, source: Path) -> list[Diagnostic]:
    # It is ASCII but for comments, which hold paths and may be in any encoding: all bytes come back
    # as they were.
    amended = amend(c_file.read_bytes().decode("latin-1"))
    c_file.write_bytes(amended.text.encode("latin-1"))
    if not amended.missed:
        return []
    message = (
        f"the C of Cython {cython_version()} is not as relib knows it ({', '.join(amended.missed)})"
        ": the module works, but its old versions may stay in memory"
    )
    return [Diagnostic(source, 0, 0, "warning", message)]


def _with_quoted_includes(extension: Extension, kept: Path) -> Extension:
    """Let generated C, which is elsewhere, include what it would find if it lay by its source.

    And let other sources include the headers that Cython makes for public declarations. Not by -I:
    a string.h beside the source is not for ``#include <string.h>``.
    """
    places = dict.fromkeys((*(source.parent for source in extension.sources), kept))
    quoted = [flag for place in places for flag in ("-iquote", str(place))]
    return replace(extension, extra_compile_args=(*quoted, *extension.extra_compile_args))
