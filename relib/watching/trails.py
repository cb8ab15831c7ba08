"""What has to be watched to learn that the file at a path is another one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Step", "Trails"]

_MOST_LINKS = 40  # as the kernel: include/linux/namei.h, MAXSYMLINKS


class Step(NamedTuple):
    """An entry of a directory that a path leads through."""

    directory: str
    """Without symbolic links."""
    name: str


class Trails:
    """Follows paths from the root directory down, remembering directories that many share.

    Args:
        roots: below these, every directory on the way counts, as it may be renamed and made again;
            elsewhere the last one alone does.

    >>> Trails().of("/proc/nothing/of/that/name")
    (Step(directory='/proc', name='nothing'),)
    """

    def __init__(self, roots: Iterable[str] = ()) -> None:
        self._roots = tuple(os.path.realpath(root) for root in roots)
        self._known: dict[str, tuple[tuple[Step, ...], str | None]] = {}

    def of(self, path: str) -> tuple[Step, ...]:
        """The steps to the file at an absolute path.

        They are: the entry of the file itself, every symbolic link on the way (of a directory or of
        the file), and where something on the way is missing, the first entry that is.
        """
        directory, name = os.path.split(path)
        steps, real = self._directory(directory)
        return steps if real is None else (*steps, *self._last(real, name)[0])

    def directory(self, path: str) -> tuple[tuple[Step, ...], str | None]:
        """The steps to a directory, and where it is without links; None if it is not there."""
        return self._directory(path)

    def _directory(self, path: str) -> tuple[tuple[Step, ...], str | None]:
        known = self._known.get(path)
        if known is None:
            known = self._known[path] = self._walk(path, 0)
        return known

    def _walk(self, path: str, links: int) -> tuple[tuple[Step, ...], str | None]:
        parent, name = os.path.split(path)
        if not name:
            return ((), parent) if parent == path else self._walk(parent, links)
        steps, real = self._directory(parent) if links == 0 else self._walk(parent, links)
        if real is None:
            return steps, None
        more, found = self._last(real, name, links)
        if found is None:
            return (*steps, *more), None
        inside = any(real == root or real.startswith(root + "/") for root in self._roots)
        if len(more) == 1 and not inside:
            more = ()
        return (*steps, *more), found

    def _last(self, real: str, name: str, links: int = 0) -> tuple[tuple[Step, ...], str | None]:
        """The steps from a directory without links to its entry, and where that leads."""
        if name in (".", ".."):
            return (), os.path.normpath(f"{real}/{name}")
        step = Step(real, name)
        path = f"{real.rstrip('/')}/{name}"
        try:
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode):
                return (step,), path
            target = os.readlink(path)  # noqa: PTH115
        except OSError:
            return (step,), None
        if links >= _MOST_LINKS:
            return (step,), None
        # "..", after a link, is above the link's target: so no normpath here
        steps, found = self._walk(os.path.join(real, target), links + 1)  # noqa: PTH118
        if found is not None:
            directory, last = os.path.split(found)
            steps = (*steps, Step(directory, last))
        return (step, *steps), found
