"""What a session tells the program."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relib.building.diagnostics import Diagnostic
    from relib.live.report import Report

__all__ = ["KINDS", "Event", "check_kinds"]

KINDS = ("about_to_reload", "reloaded", "build_failed", "retired", "unloaded")
"""Every kind of event, in the order in which they come."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a session.

    >>> event = Event("unloaded", ("fast",), version=6)
    >>> print(event)
    fast v6 unloaded
    >>> event.name, event.as_dict()["version"]
    ('fast', 6)
    """

    kind: str
    """``"about_to_reload"``, ``"reloaded"``, ``"build_failed"``, ``"retired"`` or
    ``"unloaded"``."""
    modules: tuple[str, ...]
    """The public names of the modules that it is about; when modules are reloaded in one step, or
    cannot be, all of them."""
    report: Report | None = None
    """Of "reloaded" and "retired": what was done."""
    error: Exception | None = None
    """Of "build_failed": why the sources could not be built, or the result not be loaded. What ran
    goes on running."""
    version: int | None = None
    """Of "reloaded": the version that runs now. Of "retired" and "unloaded": the one that it is
    about."""
    at: float = field(default_factory=time.time)
    """When, in seconds since the epoch."""

    @property
    def name(self) -> str:
        """The first of `modules`, or the one whose fault it was."""
        name = getattr(self.error, "name", None)
        return name if name in self.modules else self.modules[0]

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Of "build_failed": what Cython or the compiler said."""
        found: tuple[Diagnostic, ...] = getattr(self.error, "diagnostics", ())
        return found

    def as_dict(self) -> dict[str, object]:
        """The same for JSON."""
        from relib.reporting import error_as_dict

        return {
            "kind": self.kind,
            "modules": list(self.modules),
            "name": self.name,
            "version": self.version,
            "at": self.at,
            "report": None if self.report is None else self.report.as_dict(),
            "error": None if self.error is None else error_as_dict(self.error),
        }

    def __str__(self) -> str:
        if self.kind == "reloaded":
            return str(self.report)
        if self.error is not None:
            return f"{self.name}: {self.error}"
        if self.kind == "retired" and self.report is not None:
            return f"{self.name} v{self.version} retired ({'; '.join(map(str, self.report.pins))})"
        if self.kind == "about_to_reload":
            return f"about to reload {', '.join(self.modules)}"
        return f"{self.name} v{self.version} {self.kind}"


def check_kinds(kinds: str | Collection[str] | None) -> frozenset[str]:
    """The kinds that are meant; None means all.

    Raises:
        ValueError: there is no such kind.

    >>> sorted(check_kinds("reloaded"))
    ['reloaded']
    """
    wanted = KINDS if kinds is None else (kinds,) if isinstance(kinds, str) else tuple(kinds)
    for kind in wanted:
        if kind not in KINDS:
            raise ValueError(f"there is no kind of event {kind!r}; there are {', '.join(KINDS)}")
    return frozenset(wanted)
