"""The one path from source to build: look it up, else translate, compile, and store."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from relib.building import locks
from relib.building.attempt import InputsChanged, Made, Order, attempt
from relib.building.diagnostics import Diagnostic
from relib.building.fingerprint import Contents, absolute, located
from relib.building.locks import Hold
from relib.building.manifest import LOCK_NAME, Manifest
from relib.building.obstacles import Obstacles
from relib.building.store import Store
from relib.building.tiers import Plans, plans, resolved
from relib.config import Config
from relib.declared.source_check import check_source
from relib.errors import BadName, BuildError, BuildGone, DiskFull, StoreRefused
from relib.extension import Extension

__all__ = ["Build", "build_extension", "inputs_of"]

_ATTEMPTS = 5

contents = Contents()
"""The digests that this process remembers."""


@dataclass(frozen=True, slots=True)
class Build:
    """One compiled, versioned shared object in the store."""

    name: str
    """The public name, as a program imports it."""
    unique_name: str
    """``fast__r7_3f2a91c4``: the library's file stem, and what PyInit_ is followed by."""
    number: int
    """How many builds of this extension there had been, with this one."""
    fingerprint: str
    """Stands for all that it was made from, 64 hexadecimal digits."""
    library: Path
    """The shared object, in the store."""
    kind: str
    """``"cython"``, ``"c"`` or ``"c++"``."""
    source: Path
    """The main source."""
    inputs: tuple[Path, ...]
    """All files it depends on."""
    seconds: Mapping[str, float]
    """What this call took: check, translate, compile, link, store, and total."""
    cached: bool
    """Whether it came from the store; then no compiler was started."""
    diagnostics: tuple[Diagnostic, ...]
    """The warnings that came up when it was made."""
    python: str
    """The ABI (SOABI) of the Python that it was built for."""
    cython: str | None
    """The version of Cython that translated it; None if it is not a Cython module."""
    relib: int
    """relib's build version."""
    extension: Extension
    """What was built."""
    config: Config
    """The settings it was built with."""
    tier: str = "optimized"
    """``"instant"`` or ``"optimized"``; see :mod:`relib.building.tiers`."""

    def hold(self) -> Hold:
        """Keep the build in the store while it is mapped: until Hold.release(), or process end.

        Raises:
            BuildGone: it has been removed from the store since it was found.
        """
        # As a text: this is on the way of every load, and paths cost more than the lock.
        directory = os.path.dirname(self.library)  # noqa: PTH120
        held = locks.hold(f"{directory}{os.sep}{LOCK_NAME}")
        if held is None:
            raise BuildGone(
                f"{self.library} is no longer in the store; build {self.name} again",
                name=self.name,
                path=self.library,
            )
        return held


def build_extension(
    extension: Extension, config: Config, *, force: bool = False, tier: str | None = None
) -> Build:
    """Build `extension`, unless the store has that build already.

    A build is never made from anything but the contents that it claims: if an input changes while
    it is being built, it is built again. Safe to call from several threads and processes; for the
    same build, one makes it and the others wait for it.

    Args:
        extension: what to build.
        config: the settings in force.
        force: build even if the store has the build.
        tier: ``"instant"``: by the quickest compiler that can, without optimisation, unless the
            store has only the optimized build; ``"optimized"``: with the project's own flags;
            ``"auto"``: the optimized build if the store has it, else instant. None: as the settings
            say.

    Raises:
        ConfigError: there is no such tier.
        SourceMissing: a source is not there, or was removed while it was being built.
        SourceUnreadable: a source cannot be read.
        BadName: the name cannot be a C symbol.
        BuildError: the sources do not build, or do not stop changing. Subclasses: CompilerMissing,
            BuildTimeout, WorkerDied, and DiskFull when there is no room.
        StoreRefused: the store is not private, is needed and cannot be written to, or was removed
            meanwhile.
    """
    begun = time.perf_counter()
    _check_name(extension.name)
    _check_sources(extension)
    chosen = resolved(tier, config)
    ways = plans(extension, config, chosen)
    wanted = [ways] if chosen != "auto" else [plans(extension, config, "optimized"), ways]
    store = Store(config)

    def find() -> Build | None:
        if force:
            return None
        known = store.recipes(extension.name)
        for plan in (plan for each in wanted for plan in each):
            if not known:
                break
            if plan.recipe not in known:
                continue
            known -= {plan.recipe}
            found = store.find(extension.name, plan.recipe, contents)
            if found is not None:
                total = time.perf_counter() - begun
                seconds = {"check": total, "total": total}
                return _build(extension, config, *found, seconds, tier=plan.tier, cached=True)
        return None

    known_then = store.index_state(extension.name)
    if (build := find()) is not None:
        return build
    with _writing_to(store.path, extension):
        with store.building(extension.name, ways.first.recipe) as workdir:
            if store.index_state(extension.name) != known_then and (build := find()) is not None:
                return build  # whoever had the lock before has built it
            checked = time.perf_counter() - begun
            directory, made = _make(extension, config, ways, store, workdir)
        with suppress(OSError):  # the build is there, whatever becomes of old ones
            store.evict(keep=directory)
    total = time.perf_counter() - begun
    seconds = {"check": checked, **made.manifest.seconds}
    seconds["store"] = total - sum(seconds.values())
    seconds["total"] = total
    return _build(
        *(extension, config, directory, made.manifest, seconds),
        tier=made.manifest.tier,
        cached=False,
        notes=made.notes,
    )


def inputs_of(extension: Extension, config: Config) -> tuple[Path, ...]:
    """All files whose change, appearance or removal may call for a new build of `extension`.

    They are those of its last used build, files that are not there but would be read if they were
    included; and its sources, which are all that is known when it was never built.

    Raises:
        StoreRefused: the store is not private.
    """
    known = dict.fromkeys((*extension.sources, *extension.depends))
    last = Store(config).last_used(extension.name)
    if last is not None:
        texts = (*last[1].inputs, *last[1].found)
        known.update(dict.fromkeys(located(text, config.root) for text in texts))
    return tuple(known)


def _make(
    extension: Extension,
    config: Config,
    ways: Plans,
    store: Store,
    workdir: Path,
) -> tuple[Path, Made]:
    likely = store.likely_inputs(extension.name, ways.first.recipe)
    known = dict.fromkeys(map(os.fspath, (*extension.sources, *extension.depends)))
    known.update((absolute(text, config.root), None) for text in likely)
    number = store.reserve(extension.name)
    stored = False
    try:
        obstacles = Obstacles(store.obstacles, extension.name)
        order = Order(extension, config, ways, obstacles, number)
        for turn in range(_ATTEMPTS):
            try:
                made = attempt(order, contents, known, workdir / str(turn))
            except InputsChanged as change:
                _check_sources(extension)
                known.update(dict.fromkeys(change.paths))
                changed = change.paths
            else:
                directory = store.put(made.manifest, made.directory)
                stored = True
                return directory, made
    except BuildError:
        _check_sources(extension)
        raise
    finally:
        if not stored:
            shutil.rmtree(workdir, ignore_errors=True)  # it may be what fills the disk
            store.give_back(extension.name, number)
    files = ", ".join(changed)
    raise BuildError(
        f"{extension.name} cannot be built: {files} changed each of the {_ATTEMPTS} times that it "
        "was tried; build it when that is finished",
        name=extension.name,
    )


def _build(
    extension: Extension,
    config: Config,
    directory: Path,
    manifest: Manifest,
    seconds: Mapping[str, float],
    *,
    tier: str,
    cached: bool,
    notes: tuple[Diagnostic, ...] = (),
) -> Build:
    return Build(
        name=manifest.name,
        unique_name=manifest.unique_name,
        number=manifest.number,
        fingerprint=manifest.fingerprint,
        library=directory / manifest.library,
        kind=manifest.kind,
        source=located(manifest.source, config.root),
        inputs=_located(
            tuple(
                path
                for digests in (manifest.inputs, manifest.found)
                for path, digest in digests.items()
                if digest is not None
            ),
            config.root,
        ),
        seconds=seconds,
        cached=cached,
        diagnostics=(*manifest.diagnostics, *notes),
        python=manifest.python,
        cython=manifest.cython,
        relib=manifest.relib,
        extension=extension,
        config=config,
        tier=tier,
    )


@functools.lru_cache(maxsize=256)
def _located(paths: tuple[str, ...], root: Path) -> tuple[Path, ...]:
    # Remembered, as making a few hundred Paths is half of what finding a build takes.
    return tuple(located(path, root) for path in paths)


def _check_name(name: str) -> None:
    # CPython's rule for names that are not ASCII (PEP 489: PyInitU_ and punycode) would need
    # another macro than Cython's; nobody has missed it.
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts) or not parts[-1].isascii():
        raise BadName(
            f"{name!r} cannot be the name of an extension: its parts must be identifiers, and the "
            "last one, which is part of a C symbol, of ASCII letters, digits and underscores",
            name=name,
        )


def _check_sources(extension: Extension) -> None:
    for path in extension.sources:
        check_source(path)


@contextmanager
def _writing_to(store: Path, extension: Extension) -> Iterator[None]:
    """Say what is wrong with the store."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(extension, store) from error
        raise StoreRefused(
            f"{extension.name} cannot be built in the store {store}: {error}; build it again if "
            "the store was removed meanwhile, or else set `store` to a directory that can be "
            "written to",
            path=store,
        ) from error


def _disk_full(extension: Extension, store: Path) -> DiskFull:
    return DiskFull(
        f"there is no room to build {extension.name} in {store}: make some, or remove old builds "
        "with `relib clean`",
        name=extension.name,
    )
