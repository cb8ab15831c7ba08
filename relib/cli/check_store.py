"""Is the project in order, and its store in a good place?"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from relib.building.store import Store
from relib.cli.finding import BAD, GOOD, NOTE, SLOW, Finding
from relib.cli.words import count, size
from relib.config import SETTINGS, Config
from relib.errors import RelibError, StoreRefused
from relib.project import read_project

__all__ = ["check_project", "check_store", "mount_of"]

_REMOTE = ("nfs", "cifs", "smb", "fuse.sshfs", "9p", "afs", "ceph", "glusterfs", "lustre", "vboxsf")
_LITTLE_ROOM = 200_000_000


def check_project(config: Config) -> Iterator[Finding]:
    """What the project declares, and the settings that are not the default."""
    try:
        declared = read_project(config)
    except RelibError as error:
        yield Finding("project", BAD, str(error))
    else:
        yield Finding("project", GOOD, f"{config.root}: {count(len(declared), 'extension')}")
    changed = [
        f"{setting.key} = {value}"
        for setting in SETTINGS
        if not callable(setting.default)
        and (value := getattr(config, setting.field)) != setting.default
    ]
    if changed:
        yield Finding("settings", NOTE, ", ".join(changed))


def check_store(config: Config) -> Iterator[Finding]:
    """Where builds are kept: whether it is private, bounded, and on a good file system."""
    try:
        store = Store(config)
    except StoreRefused as error:
        yield Finding("store", BAD, str(error))
        return
    place = _existing(config.store)
    if not os.access(place, os.W_OK | os.X_OK):
        advice = "set store to a directory that can be written to"
        yield Finding("store", BAD, f"{place} cannot be written to", advice)
        return
    builds, total = _contents(store)
    bounds = f"at most {_bound(config.store_max_bytes)}, {config.store_max_age:g} days"
    if config.store.is_dir():
        mode = stat.S_IMODE(config.store.stat().st_mode)
        text = f"{config.store} ({mode:04o}): {count(builds, 'build')}, {size(total)}; {bounds}"
    else:
        text = f"{config.store}: not made yet; {bounds}"
    yield Finding("store", GOOD, text)
    yield from _file_system(place)


def _file_system(place: Path) -> Iterator[Finding]:
    kind, options = mount_of(place)
    if "noexec" in options:
        advice = "libraries cannot be mapped from there: set store to another directory"
        yield Finding("file system", BAD, f"{place} is mounted noexec ({kind})", advice)
    elif kind.startswith(_REMOTE):
        advice = "set store to a local directory; edits made elsewhere may be seen late"
        yield Finding("file system", SLOW, f"{place} is on a network ({kind})", advice)
    else:
        yield Finding("file system", GOOD, kind)
    free = shutil.disk_usage(place).free
    if free < _LITTLE_ROOM:
        advice = "make room, or lower store-max-size and run `relib clean`"
        yield Finding("disk", BAD if free < 1_000_000 else NOTE, f"{size(free)} free", advice)


def _contents(store: Store) -> tuple[int, int]:
    builds = total = 0
    for directory, _, files in os.walk(store.builds):
        builds += Path(directory).parent == store.builds
        for name in files:
            try:
                total += (Path(directory) / name).stat().st_size
            except OSError:  # removed meanwhile
                continue
    return builds, total


def _bound(number: int) -> str:
    """A size as it was probably written down."""
    for power, unit in ((30, "GiB"), (20, "MiB")):
        if number and number % (1 << power) == 0:
            return f"{number >> power:,} {unit}"
    return size(number)


def _existing(path: Path) -> Path:
    """`path`, or the nearest directory above it that is there."""
    return next((each for each in (path, *path.parents) if each.exists()), Path("/"))


def mount_of(path: Path, table: str | None = None) -> tuple[str, tuple[str, ...]]:
    """The kind of the file system that `path` is on, and its mount options.

    Args:
        path: where to look.
        table: the text of /proc/self/mounts; it is read by default.

    >>> mount_of(Path("/a/b"), "x / ext4 rw 0 0\\ny /a nfs4 rw,noexec 0 0\\n")
    ('nfs4', ('rw', 'noexec'))
    """
    if table is None:
        try:
            table = Path("/proc/self/mounts").read_text(errors="surrogateescape")
        except OSError:
            table = ""
    target = path.resolve()
    found: tuple[str, tuple[str, ...]] = ("unknown", ())
    longest = -1
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 4:
            continue
        # Blanks in it are written as octal numbers (fstab(5)).
        point = Path(fields[1].encode("latin-1", "replace").decode("unicode_escape"))
        # Of two mounts on one place the later one is on top.
        if target.is_relative_to(point) and len(point.parts) >= longest:
            longest = len(point.parts)
            found = fields[2], tuple(fields[3].split(","))
    return found
