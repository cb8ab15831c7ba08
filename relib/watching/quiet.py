"""When a save is over: how long to wait for more."""

from __future__ import annotations

from collections.abc import Hashable

__all__ = ["Quiet"]

_SHORTEST = 0.002
"""After a file was closed, or renamed into place: a save is one such event, nearly always."""
_EACH = 0.004
"""For every file, where there are several."""
_LONGEST = 0.08
"""While events keep coming."""
_UNFINISHED = 0.05
"""For a file that has been opened for writing, or has gone and is likely to come back."""
_LIMIT = 0.5
"""Then it is passed on whatever still comes."""


class Quiet:
    """Collects what changed until nothing more comes.

    Times are seconds, of any clock that does not go back.

    >>> quiet = Quiet()
    >>> quiet.note("fast.pyx", 10.0)
    >>> round(quiet.due() - 10.0, 3)
    0.002
    """

    def __init__(self) -> None:
        self._changed: dict[Hashable, bool] = {}
        self._first = self._last = 0.0

    def __bool__(self) -> bool:
        return bool(self._changed)

    def note(self, what: Hashable, now: float, *, finished: bool = True) -> None:
        """Something changed.

        Args:
            what: whatever stands for the file.
            now: when.
            finished: False if more is to be expected about this file.
        """
        if not self._changed:
            self._first = now
        self._last = now
        self._changed[what] = finished

    def due(self) -> float:
        """When to pass on what has changed, if nothing more comes until then."""
        # Many files at once, or one in several steps: something larger is going on (a checkout, a
        # formatter), and its pauses are longer.
        several = _EACH * len(self._changed) if len(self._changed) > 1 else 0.0
        pause = max(_SHORTEST, several, (self._last - self._first) / 2)
        pause = min(pause, _LONGEST)
        if not all(self._changed.values()):
            pause = max(pause, _UNFINISHED)
        return min(self._last + pause, self._first + _LIMIT)

    def take(self) -> list[Hashable]:
        """What has changed, in the order of the first events; it begins anew."""
        changed = list(self._changed)
        self._changed.clear()
        return changed
