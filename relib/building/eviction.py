"""Keeps the store within its bounds: what was not used for longest goes first."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relib.building import locks
from relib.building.manifest import LOCK_NAME

if TYPE_CHECKING:
    from relib.building.store import Store

__all__ = ["COPY_PREFIX", "CleanReport", "evict", "is_due", "sweep"]

_SECONDS_PER_DAY = 86_400
_DOOMED = "removed-"
COPY_PREFIX = "copy-"
"""What the directories are called in which a library is copied to be loaded a second time."""
_COPY_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class CleanReport:
    """What was removed from a store, and what is left."""

    removed: int
    """Builds removed."""
    freed: int
    """Their size, in bytes."""
    kept: int
    """Builds left."""
    kept_bytes: int
    """Their size, in bytes."""
    held: int
    """Builds that should have gone, but are in use by a living process."""
    swept: int
    """Working directories of dead builders removed."""


@dataclass(frozen=True, slots=True)
class _Stored:
    path: Path
    size: int
    used: float
    """When it was last used, in seconds since the epoch; 0 for what is no build at all."""


# The sizes of builds by directory; a build does not change once it is in the store.
_sizes: dict[str, int] = {}

# When this process last looked at the ages of the builds in a store (time.monotonic).
_looked: dict[Path, float] = {}
_LOOK_SECONDS = 3600.0


def is_due(store: Store, max_bytes: int) -> bool:
    """Whether there is reason for `evict`: too much, or an hour since the last look at ages.

    A look at each of a thousand builds takes longer than to load a new one.
    """
    looked = _looked.get(store.builds)
    if looked is None or time.monotonic() - looked > _LOOK_SECONDS:
        return True
    total = 0
    for name in _names(store.builds):
        with suppress(FileNotFoundError):
            total += _size(f"{store.builds}/{name}")
    return total > max_bytes


def evict(
    store: Store,
    max_bytes: int,
    max_age: float,
    *,
    everything: bool = False,
    keep: Path | None = None,
) -> CleanReport:
    """Remove builds that are too old or, the longest unused first, too much; and dead builders'.

    Args:
        store: the store.
        max_bytes: how large all builds together may be.
        max_age: days after its last use that a build is kept.
        everything: remove all builds, whatever their size or age, and what only they need.
        keep: a build that stays in any case.
    """
    swept = sweep(store)
    _looked[store.builds] = time.monotonic()
    stored = sorted(_stored(store.builds), key=lambda each: each.used)
    total = sum(each.size for each in stored)
    oldest = time.time() - max_age * _SECONDS_PER_DAY
    removed = freed = held = 0
    for each in stored:
        if not everything and total - freed <= max_bytes and each.used >= oldest:
            break  # those that follow were used later
        if each.path == keep:
            continue
        if _remove(each.path, store.temporary):
            removed += 1
            freed += each.size
        else:
            held += 1
    if everything:
        _remove_indexes_and_locks(store)
    return CleanReport(removed, freed, len(stored) - removed, total - freed, held, swept)


def sweep(store: Store, *, own: str = "") -> int:
    """Remove the working directories of dead builders, and return how many there were.

    Args:
        store: the store.
        own: the key whose lock the caller holds.
    """
    swept = 0
    for name in _names(store.temporary):
        path = store.temporary / name
        key = name.partition("-")[0]
        if name.startswith(_DOOMED) or (name.startswith(COPY_PREFIX) and _is_forgotten(path)):
            shutil.rmtree(path, ignore_errors=True)
            continue
        if name.startswith(COPY_PREFIX):
            continue
        # Only who has the lock works in the directory, so that having it proves the builder dead.
        with (
            nullcontext(True)
            if key == own
            else locks.try_exclusively(store.locks / f"{key}.lock") as mine
        ):
            if mine:
                shutil.rmtree(path, ignore_errors=True)
                swept += 1
    return swept


def _is_forgotten(copy: Path) -> bool:
    """Whether whoever made a copy has been killed: it is there for as long as it takes to load."""
    try:
        return time.time() - copy.stat().st_mtime > _COPY_SECONDS
    except OSError:
        return False


def _stored(builds: Path) -> list[_Stored]:
    stored = []
    for name in _names(builds):
        path = builds / name
        with suppress(FileNotFoundError):  # another process removed it meanwhile
            stored.append(_Stored(path, _size(str(path)), _last_use(path)))
    return stored


def _size(path: str) -> int:
    size = _sizes.get(path)
    if size is None:
        with os.scandir(path) as files:
            size = sum(file.stat(follow_symlinks=False).st_size for file in files)
        _sizes[path] = size
    return size


def _last_use(path: Path) -> float:
    try:
        return os.stat(os.path.join(path, LOCK_NAME)).st_mtime  # noqa: PTH116, PTH118
    except FileNotFoundError:
        return 0.0


def _remove(path: Path, temporary: Path) -> bool:
    """Remove a build unless somebody holds it; returns whether it is gone."""
    try:
        fd = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        fd = -1  # nobody can hold it
    except OSError:
        return False
    try:
        if fd >= 0:
            # Whoever comes for a hold now waits, and then finds that the build has gone.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        doomed = temporary / f"{_DOOMED}{os.urandom(8).hex()}"
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        _sizes.pop(str(path), None)
        return True
    except FileNotFoundError:
        return True  # by another process
    except OSError:
        return False
    finally:
        if fd >= 0:
            os.close(fd)


def _remove_indexes_and_locks(store: Store) -> None:
    # Safe at any time: an index that is missing is made anew from the manifests there are.
    for name in _names(store.indexes):
        if name.endswith(".lock"):
            with locks.try_exclusively(store.indexes / name) as mine:
                if mine:
                    (store.indexes / name).with_suffix(".json").unlink(missing_ok=True)
                    (store.indexes / name).unlink(missing_ok=True)
    for name in _names(store.locks):
        with locks.try_exclusively(store.locks / name) as mine:
            if mine:
                (store.locks / name).unlink(missing_ok=True)


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208  # half the cost of iterdir, and never half
    except (FileNotFoundError, NotADirectoryError):
        return []
