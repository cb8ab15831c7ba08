"""The ways from a save to the new answer. Each works in a copy of the project of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from relib.bench.conversation import Child
from relib.bench.subject import Subject

__all__ = ["AGAINST", "PHASES", "PHASES_AFTER", "Relib", "Sample", "Way", "WithChild"]

PHASES = ("watch", "check", "translate", "compile", "link", "store", "load", "exec")
"""From the save to the answer. "watch" is what no other phase accounts for: until the change is
noticed and its turn comes, and until the program looks at the answer."""

PHASES_AFTER = ("collect", "unload")
"""What follows, while the new code runs already."""

AGAINST = ("setuptools", "magic", "pyximport")
"""What relib is compared with."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One edit."""

    seconds: float
    """From the save to the answer."""
    phases: Mapping[str, float] = field(default_factory=dict)
    """The parts of it, in seconds."""
    unloaded: bool | None = None
    """Whether the code before is gone."""


class Way(Protocol):
    """How to get at the new answer."""

    def begin(self) -> None:
        """Start what is warm later. Raises NotMeasured."""

    def edit(self, edition: int) -> dict[str, Sample]:
        """Save, and wait for the answer; samples by what to call them. Raises NotMeasured."""

    def end(self) -> None:
        """Stop what was started."""


class WithChild:
    """A way that has a process which goes on."""

    _child: Child | None = None

    def end(self) -> None:
        """Stop the process."""
        if self._child is not None:
            self._child.__exit__()
            self._child = None

    @property
    def child(self) -> Child:
        """The process, once it has been started."""
        assert self._child is not None
        return self._child


class Relib(WithChild):
    """A program under `relib.watch()`.

    Args:
        subject: the copy.
        tier: ``"instant"``, ``"optimized"`` or ``"auto"``. With the last, the optimized build that
            follows is waited for as well: it would slow down what is measured next.
        options: other settings.
        reverting: also go back to the earlier content after each edit.
        timeout: seconds that an answer may take.
    """

    def __init__(
        self,
        subject: Subject,
        tier: str,
        options: Mapping[str, Any],
        *,
        reverting: bool,
        timeout: float,
    ) -> None:
        self._subject = subject
        self._tier = tier
        self._options = {**options, "tier": tier, "store": str(subject.root / ".relib")}
        self._reverting = reverting
        self._timeout = timeout
        self._before: int | None = None

    def begin(self) -> None:
        """Start the program."""
        subject = self._subject
        self._child = Child(
            *("relib.bench.program", subject.root),
            paths=(subject.importable_from,),
            timeout=2 * self._timeout,
        )
        place = {"source": str(subject.source), "name": subject.name, "root": str(subject.root)}
        self.child.ask("begin", **place, options=self._options)

    def edit(self, edition: int) -> dict[str, Sample]:
        """Save; then, if it is to revert, save what was there before."""
        samples = {f"relib, {self._tier}": self._saved(edition)}
        if self._reverting and self._before is not None:
            samples["relib, back to earlier"] = self._saved(self._before)
        self._before = edition
        return samples

    def _saved(self, edition: int) -> Sample:
        attribute = self._subject.answer
        self.child.send("answer", attribute=attribute, edition=edition, timeout=self._timeout)
        saved = self._subject.save(edition)
        told = self.child.receive()
        found: dict[str, float] = told["seconds"]
        seconds = told["at"] - saved
        phases = {phase: found[phase] for phase in PHASES if phase in found}
        phases["watch"] = seconds - sum(phases.values())
        phases |= {phase: found[phase] for phase in PHASES_AFTER if phase in found}
        return Sample(seconds, phases, told["unloaded"])
