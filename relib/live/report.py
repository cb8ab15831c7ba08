"""What a load, reload, rollback or unload did, as data and as one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relib.duration import duration
from relib.errors import Pinned, StillMapped
from relib.live.pins import Pin

__all__ = ["Report"]


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a module, and of the version that it had before.

    >>> report = Report("fast", "reload", version=2, previous=1, seconds={"total": 0.0612})
    >>> print(report)
    fast v2 · 61 ms · v1 unloaded
    """

    name: str
    """The module's public name."""
    action: str
    """``"reload"``, ``"rollback"``, ``"optimize"`` (the optimized build of what an instant one runs
    already) or ``"unload"``."""
    version: int | None
    """The version that is current now; None after an unload."""
    previous: int
    """The version that was current before."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long each phase took, in seconds: check, translate, compile, link, store, load, exec,
    collect, unload, and total."""
    bytes: int = 0
    """The size of the library that was unmapped."""
    tier: str | None = None
    """How the version that is current now was built, ``"instant"`` or ``"optimized"``."""
    pins: tuple[Pin, ...] = ()
    """Why the previous version is still mapped; none when it has been unloaded."""

    @property
    def unloaded(self) -> bool:
        """Whether the previous version's code is gone."""
        return not self.pins

    def require_unloaded(self) -> Report:
        """This report, if the previous version is gone.

        Raises:
            Pinned: something still uses it.
            StillMapped: nothing does, and yet the loader keeps it.
        """
        if self.pins:
            kind = StillMapped if all(pin.kind == "mapped" for pin in self.pins) else Pinned
            raise kind(
                f"{self.name} v{self.previous} is still mapped: {'; '.join(map(str, self.pins))}",
                name=self.name,
                pins=self.pins,
            )
        return self

    def as_dict(self) -> dict[str, object]:
        """The same for JSON."""
        return {
            "name": self.name,
            "action": self.action,
            "version": self.version,
            "previous": self.previous,
            "seconds": dict(self.seconds),
            "bytes": self.bytes,
            "tier": self.tier,
            "unloaded": self.unloaded,
            "pins": [pin.as_dict() for pin in self.pins],
        }

    def __str__(self) -> str:
        parts = [self.name if self.version is None else f"{self.name} v{self.version}"]
        parts.append(duration(self.seconds.get("total", 0.0)))
        if self.tier is not None and (self.tier == "instant" or self.action == "optimize"):
            parts.append(self.tier)
        if self.pins:
            parts.append(f"v{self.previous} retired ({'; '.join(map(str, self.pins))})")
        else:
            parts.append(f"v{self.previous} unloaded")
        return " · ".join(parts)
