"""Measures one extension, all ways in the same run."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import relib
from relib.bench.alternatives import Magic, Pyximport, Setuptools
from relib.bench.conversation import NotMeasured
from relib.bench.least import Floor
from relib.bench.subject import copy_of
from relib.bench.ways import AGAINST, Relib, Sample, Way
from relib.building.builder import build_extension
from relib.building.toolchain import find_toolchain
from relib.building.translate import cython_version
from relib.config import Config
from relib.errors import RelibError
from relib.extension import Extension

__all__ = ["Result", "Row", "machine", "measure", "rounds"]

TIERS = ("instant", "optimized", "auto")

_SLOW = 5
"""What takes long has one edit where the rest has so many, but at least as many as this itself: of
fewer, a median says little."""

_NAMES = {
    "setuptools": "setuptools + restart",
    "magic": "%%cython",
    "pyximport": "pyximport + restart",
}


@dataclass(slots=True)
class Row:
    """One way."""

    name: str
    samples: list[Sample] = field(default_factory=list)
    reason: str | None = None
    """Why there are no samples."""

    @property
    def seconds(self) -> float | None:
        """From the save to the answer: the median."""
        return statistics.median(each.seconds for each in self.samples) if self.samples else None

    @property
    def phases(self) -> dict[str, float]:
        """The median of each phase, in seconds."""
        names = dict.fromkeys(name for sample in self.samples for name in sample.phases)
        return {
            name: statistics.median(sample.phases.get(name, 0.0) for sample in self.samples)
            for name in names
        }

    def as_dict(self, floor: float | None) -> dict[str, Any]:
        """The same for JSON."""
        seconds = self.seconds
        gone = [sample.unloaded for sample in self.samples if sample.unloaded is not None]
        return {
            "name": self.name,
            "seconds": seconds,
            "edits": [sample.seconds for sample in self.samples],
            "to_floor": seconds / floor if seconds is not None and floor else None,
            "phases": self.phases,
            "unloaded": all(gone) if gone else None,
            "reason": self.reason,
        }


@dataclass(slots=True)
class Result:
    """What was measured of one extension."""

    name: str
    source: str
    kind: str
    lines: int
    compiler: str
    """The quickest compiler, which the floor uses."""
    rows: list[Row]

    def __str__(self) -> str:
        compiler = f"; the quickest compiler is {self.compiler}" if self.compiler else ""
        return f"{self.name}: {self.kind}, {self.lines} lines{compiler}"

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        floor = next((row.seconds for row in self.rows if row.name == "floor"), None)
        about = {"name": self.name, "source": self.source, "kind": self.kind}
        return {
            "extension": {**about, "lines": self.lines, "instant_compiler": self.compiler},
            "rows": [row.as_dict(floor) for row in self.rows],
        }


def measure(
    extension: Extension,
    config: Config,
    *,
    options: Mapping[str, Any] | None = None,
    edits: int = 10,
    tiers: Sequence[str] = TIERS,
    against: Collection[str] = AGAINST,
    step: Callable[[], None] = lambda: None,
) -> Result:
    """Edit a copy of an extension again and again, and time the answers.

    The ways take turns, so that whatever else the machine does meets all of them alike. The first
    edit of each is not counted: it starts processes and imports Cython.

    Args:
        extension: what to measure. Its files are not changed.
        config: the settings of its project.
        options: settings that were given besides those of the project.
        edits: how many edits count, of the first tier and the floor; all others have a fifth, but
            no fewer than five if there are as many.
        tiers: of ``"instant"``, ``"optimized"`` and ``"auto"``.
        against: what to compare with: of ``"setuptools"``, ``"magic"`` and ``"pyximport"``.
        step: called after each edit of any way.

    Raises:
        BuildError: it does not build as it is.
        NotMeasured: an edit did not lead to an answer.
    """
    build = build_extension(extension, config, tier=tiers[0])
    timeout = config.compile_timeout + 60
    place = Path(tempfile.mkdtemp(prefix="relib-bench-")).resolve()
    ways: dict[str, Way] = {}
    try:
        subject = copy_of(extension, config, build.inputs, place / "original")
        for tier in tiers:
            ways[f"relib, {tier}"] = Relib(
                *(subject.copy(place / tier), tier, options or {}),
                reverting=tier == tiers[0],
                timeout=timeout,
            )
        floor = Floor(subject.copy(place / "floor"), extension, config, timeout)
        ways["floor"] = floor
        for name in against:
            copy = subject.copy(place / name)
            ways[_NAMES[name]] = (
                Setuptools(copy, extension, config, timeout)
                if name == "setuptools"
                else Magic(copy, timeout)
                if name == "magic"
                else Pyximport(copy, extension, config, timeout)
            )
        rows = _measured(ways, {f"relib, {tiers[0]}", "floor"}, edits, step)
    finally:
        for way in ways.values():
            way.end()
        shutil.rmtree(place, ignore_errors=True)
    lines = subject.text.count("\n")
    source = str(extension.main)
    return Result(extension.name, source, extension.kind, lines, floor.compiler, rows)


def rounds(edits: int, tiers: int, against: int) -> int:
    """How many times `measure` calls `step`."""
    return (edits + 1) * 2 + (_few(edits) + 1) * (tiers - 1 + against)


def _few(edits: int) -> int:
    return min(edits, max(_SLOW, edits // _SLOW))


def _measured(
    ways: Mapping[str, Way], quick: Collection[str], edits: int, step: Callable[[], None]
) -> list[Row]:
    rows: dict[str, Row] = {}
    failed: set[str] = set()
    # The edits of the slow ways are spread over all of the time.
    turns = {round((number + 1) * edits / _few(edits)) for number in range(_few(edits))} | {0}
    for number in range(edits + 1):
        for name, way in ways.items():
            if name in failed or (name not in quick and number not in turns):
                continue
            try:
                if number == 0:
                    way.begin()
                samples = way.edit(number + 1)
            except RelibError as error:
                if isinstance(way, Relib):
                    raise
                failed.add(name)
                reason = str(error) if isinstance(error, NotMeasured) else repr(error)
                rows[name] = Row(name, reason=reason)
                continue
            for row, sample in samples.items():
                found = rows.setdefault(row, Row(row))
                if number:
                    found.samples.append(sample)
            step()
    order = [*(f"relib, {tier}" for tier in TIERS), "relib, back to earlier", "floor"]
    return sorted(rows.values(), key=lambda row: (*order, row.name).index(row.name))


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "relib": relib.__version__,
        "python": platform.python_version(),
        "libc": "-".join(platform.libc_ver()),
        "cython": cython_version(),
        "compiler": find_toolchain("c", relib.load_config(Path.cwd())).version,
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "cflags": os.environ.get("CFLAGS", ""),
        "date": time.strftime("%Y-%m-%d"),
    }
