"""What `relib doctor` finds: one fact, how good it is, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["BAD", "GOOD", "NOTE", "SLOW", "Finding"]

GOOD = "ok"
"""As it should be."""
NOTE = "note"
"""Not a fault, but good to know."""
SLOW = "slow"
"""It works, and could be quicker."""
BAD = "bad"
"""Something essential is missing: relib does not work like this."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    >>> Finding("C compiler", GOOD, "gcc 12.2").as_dict()["level"]
    'ok'
    """

    topic: str
    """What was looked at."""
    level: str
    """GOOD, NOTE, SLOW or BAD."""
    text: str
    """What was found."""
    advice: str = ""
    """What to do about it."""

    def as_dict(self) -> dict[str, object]:
        """The same for JSON."""
        return asdict(self)
