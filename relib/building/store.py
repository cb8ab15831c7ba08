"""Where builds live: content-addressed, shared by processes, private to the user.

::

    .relib/
        .gitignore                 "*"
        builds/<fingerprint>/      <unique_name>.so, the C that Cython made, manifest.json, lock
        index/<extension>.json     its builds, by recipe and inputs
        locks/<key>.lock           held by whoever builds one recipe of one extension
        obstacles/<key>.json       why a quick compiler cannot build an extension
        tmp/<key>-<random>/        where that builder works
        tmp/copy-<random>/         a library that is being loaded a second time

A build is made in tmp/ and renamed into place, and never changed after: a library must not be
written to while it is mapped. Nothing is synced to the disk: what a power cut left half-written
does not match its manifest, and is built again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from relib.building import eviction, locks
from relib.building.cimport_path import found_elsewhere
from relib.building.fingerprint import Contents, absolute, fingerprint
from relib.building.index import Index, InputList
from relib.building.manifest import LOCK_NAME, Manifest
from relib.errors import StoreRefused

if TYPE_CHECKING:
    from relib.building.eviction import CleanReport
    from relib.config import Config

__all__ = ["Store"]


class Store:
    """The store of one project. Cheap to make; several may stand for the same directory.

    Args:
        config: says where the store is and how large it may grow.

    Raises:
        StoreRefused: the directory belongs to someone else, or others may write to it.

    >>> import tempfile
    >>> from relib.config import load_config
    >>> with tempfile.TemporaryDirectory() as root:
    ...     Store(load_config(Path(root))).clean().removed
    0
    """

    def __init__(self, config: Config) -> None:
        self.path = config.store
        """The store's directory; it need not exist yet."""
        self.builds = self.path / "builds"
        self.temporary = self.path / "tmp"
        self.locks = self.path / "locks"
        self.indexes = self.path / "index"
        self.obstacles = self.path / "obstacles"
        self._root = config.root
        self._max_bytes = config.store_max_bytes
        self._max_age = config.store_max_age
        _check_private(self.path)

    # --- finding builds --------------------------------------------------------------------------

    def find(self, name: str, recipe: str, contents: Contents) -> tuple[Path, Manifest] | None:
        """The build of the extension `name` by `recipe` from the files as they are now.

        Nothing is started and nothing need be written, so that a read-only store serves as well.

        Returns:
            The build's directory and its manifest; None if there is no such build, or what there
            is of it is not whole.
        """
        for entry in self._index(name).read().recipes.get(recipe, ()):
            wanted = self._fingerprint(recipe, entry, contents)
            directory = entry.builds.get(wanted) if wanted is not None else None
            if directory is None:
                continue
            path = self.builds / directory
            manifest = Manifest.read(path, self._root)
            if (
                manifest is not None
                and manifest.fingerprint == wanted
                and manifest.name == name
                and manifest.matches_library(path, contents)
                and not found_elsewhere(manifest, self._root)
                and _record_use(path)
            ):
                return path, manifest
        return None

    def recipes(self, name: str) -> set[str]:
        """The recipes by which there are builds of the extension `name`."""
        return set(self._index(name).read().recipes)

    def index_state(self, name: str) -> tuple[int, ...]:
        """Another value whenever the builds of the extension `name` are others."""
        return self._index(name).signature()

    def last_used(self, name: str) -> tuple[Path, Manifest] | None:
        """The build of the extension `name` that was made or found last, whatever its recipe.

        If projects share the store, this project's; else one that was made where the project, or
        a copy of it, was before.
        """
        used: list[tuple[int, Path]] = []
        for directory in self._index(name).read().directories():
            path = self.builds / directory
            with suppress(OSError):
                used.append(((path / LOCK_NAME).stat().st_mtime_ns, path))
        elsewhere = None
        for _, path in sorted(used, reverse=True):
            manifest = Manifest.read(path, self._root)
            if manifest is None or manifest.name != name:
                continue
            if manifest.root == str(self._root):
                return path, manifest
            elsewhere = elsewhere or (path, manifest)
        return elsewhere

    def likely_inputs(self, name: str, recipe: str) -> list[str]:
        """The inputs of the build of the extension `name` that was made last, by `recipe` if any.

        Like `last_used`, but without opening any build.
        """
        recipes = self._index(name).read().recipes
        lists = recipes.get(recipe) or next(reversed(recipes.values()), [])
        return [*lists[0].inputs, *lists[0].found] if lists else []

    # --- making builds ---------------------------------------------------------------------------

    @contextmanager
    def building(self, name: str, recipe: str) -> Iterator[Path]:
        """Be the only one, of all processes and threads, to build this recipe of this extension.

        Yields a fresh directory to work in, which is removed at the end. Waits while someone else
        builds the same; then `find` is likely to find it.

        Raises:
            StoreRefused: the store cannot be created or written to.
            OSError: there is no room.
        """
        key = hashlib.sha256(f"{name}\n{recipe}".encode()).hexdigest()[:32]
        with ExitStack() as stack:
            with _refused_unless_full(self.path):
                self._create()
                stack.enter_context(
                    locks.exclusively(self.locks / f"{key}.lock", f"building {name}")
                )
                eviction.sweep(self, own=key)
                # A name of its own: the compiler of a builder that was killed may still write.
                workdir = self.temporary / f"{key}-{os.urandom(4).hex()}"
                workdir.mkdir(0o700)
            stack.callback(shutil.rmtree, workdir, ignore_errors=True)
            yield workdir

    def reserve(self, name: str) -> int:
        """The number for the next build of the extension `name`.

        Raises:
            OSError: the index cannot be written.
        """
        with self._index(name).update() as entries:
            entries.number += 1
        return entries.number

    def give_back(self, name: str, number: int) -> None:
        """Return a reserved number that no build got, so that numbers have no holes."""
        with suppress(OSError), self._index(name).update() as entries:
            if entries.number == number:
                entries.number -= 1

    def put(self, manifest: Manifest, directory: Path) -> Path:
        """Take in a build that was made in `directory`, and return where it is now.

        Raises:
            OSError: it cannot be written; then nothing of it is left in the store.
        """
        manifest.write(directory, self._root)
        (directory / LOCK_NAME).touch(0o600)
        _record_use(directory)
        target = directory
        try:
            with self._index(manifest.name).update() as entries:
                final = self.builds / manifest.fingerprint
                # The same was built before, and this build was forced, or that one is damaged.
                # It may be mapped: it stays until the cleaner finds that it is not.
                if final.exists():
                    final = final.with_name(f"{final.name}-r{manifest.number}")
                target = directory.rename(final)
                entries.keep_only(set(os.listdir(self.builds)))  # noqa: PTH208
                entries.add(manifest, target.name)
        except OSError:
            shutil.rmtree(target, ignore_errors=True)
            raise
        return target

    # --- cleaning --------------------------------------------------------------------------------

    def evict(self, keep: Path) -> None:
        """Remove what is too old or too much, but never `keep`, nor what a process holds."""
        if eviction.is_due(self, self._max_bytes):
            eviction.evict(self, self._max_bytes, self._max_age, keep=keep)

    def clean(self, everything: bool = False) -> CleanReport:
        """Remove what dead builders left, and builds that are too old or too much.

        Args:
            everything: remove all builds, but those that a living process holds.
        """
        return eviction.evict(self, self._max_bytes, self._max_age, everything=everything)

    # --- the directory ---------------------------------------------------------------------------

    def _index(self, name: str) -> Index:
        return Index(self.indexes, self.builds, name, self._root)

    def _fingerprint(self, recipe: str, entry: InputList, contents: Contents) -> str | None:
        try:
            inputs, found = (
                {path: contents.digest(absolute(path, self._root)) for path in paths}
                for paths in (entry.inputs, entry.found)
            )
            return fingerprint(recipe, inputs, found)
        except OSError:  # one cannot be read: whoever builds will say so
            return None

    def _create(self) -> None:
        with _refused_unless_full(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                self.path.mkdir(0o700)
            # someone else may have been faster
            _check_private(self.path)
            ignore = self.path / ".gitignore"
            if not ignore.exists():
                ignore.write_text("# Made by relib; can be removed at any time.\n*\n")
            for directory in (self.builds, self.temporary, self.locks, self.indexes):
                directory.mkdir(0o700, exist_ok=True)


def _check_private(path: Path) -> None:
    """Raise StoreRefused unless nobody else can have put, or can put, anything into the store."""
    me = os.geteuid()
    try:
        link = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        directory = path.stat()
    except OSError as error:
        raise StoreRefused(
            f"the store {path} is a link that leads nowhere ({error.strerror}); remove it",
            path=path,
        ) from error
    if not stat.S_ISDIR(directory.st_mode):
        raise StoreRefused(f"the store {path} is not a directory; remove it", path=path)
    # a link that the administrator made is as good as one's own
    for status, owners in ((link, {me, 0}), (directory, {me})):
        if status.st_uid not in owners:
            raise StoreRefused(
                f"the store {path} belongs to user {status.st_uid}, this is user {me}: its builds "
                "would run as you; remove it, or set `store` to a directory of your own",
                path=path,
            )
    if directory.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StoreRefused(
            f"others may write to the store {path} (mode {stat.S_IMODE(directory.st_mode):04o}): "
            f"its builds would run as you; remove it, or run `chmod go-w {path}` if you know that "
            "nobody has written to it",
            path=path,
        )


def _record_use(directory: Path) -> bool:
    """Set the time of last use; False if the build is being removed."""
    # not "now" as the kernel sees it, which moves in steps of milliseconds: uses are put in order
    now = time.time_ns()
    try:
        os.utime(directory / LOCK_NAME, ns=(now, now))
    except FileNotFoundError:
        return False
    except OSError:
        pass  # a read-only store: nothing will be removed from it either
    return True


@contextmanager
def _refused_unless_full(path: Path) -> Iterator[None]:
    """Turn an OSError into StoreRefused, but for want of room, which the builder reports."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StoreRefused(
            f"the store {path} cannot be written to ({error.strerror}); "
            "set `store` to a directory that can",
            path=path,
        ) from error
