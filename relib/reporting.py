"""Tells of reloads: a line for each on stderr, the whole error once, nothing else."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from relib.duration import duration
from relib.errors import BuildError, RelibError, UnloadError
from relib.free_in_child import free_in_child

if TYPE_CHECKING:
    from relib.building.diagnostics import Diagnostic
    from relib.events import Event
    from relib.live.module import Module
    from relib.live.report import Report

__all__ = ["Reporter", "diagnostics_as_dicts", "error_as_dict", "in_colour"]

_BOLD, _DIM, _RED, _YELLOW, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[1;31m", "\x1b[33m", "\x1b[0m"
_PHASES = ("check", "translate", "compile", "link", "store", "load", "exec", "collect", "unload")
_FACTS = ("name", "path", "line", "key", "origin", "known", "command", "output")
# A compiler that crashes may print pages; its last lines say what happened.
_LAST_LINES = 20

_writing = free_in_child(threading.Lock())


class Reporter:
    """Writes what happens in a session; call it with the session's events.

    What cannot be written (stderr is closed) is dropped: the program is not disturbed.

    Args:
        verbosity: 0: a line for each reload, and errors. 1: also how long each phase took, first
            loads, and retired versions that went. -1: nothing.
        json: a JSON object for each event, one a line, instead of text.
        colour: whether to write in colour; None: on a terminal (https://no-color.org).
        stream: where to; stderr, as it is at the time, unless given.

    >>> from relib.events import Event
    >>> from relib.live.report import Report
    >>> report = Report("fast", "reload", version=2, previous=1, seconds={"total": 0.0612})
    >>> Reporter(stream=sys.stdout)(Event("reloaded", ("fast",), report=report, version=2))
    fast v2 · 61 ms · v1 unloaded
    """

    def __init__(
        self,
        verbosity: int = 0,
        *,
        json: bool = False,
        colour: bool | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self.verbosity = verbosity
        self.json = json
        self.colour = colour
        self._stream = stream
        self._gone: set[tuple[str, int]] = set()

    def __reduce__(self) -> tuple[object, ...]:
        """A child gets one with the same options."""
        return _make, (self.verbosity, self.json, self.colour)

    def __call__(self, event: Event) -> None:
        """Tell of an event, if there is something to tell."""
        if self.verbosity < 0:
            return
        if self.json:
            self._write(json.dumps(event.as_dict(), default=str))
        elif event.kind == "reloaded" and event.report is not None:
            if event.report.unloaded:
                self._gone.add((event.report.name, event.report.previous))
            self._write(self._reloaded(event.report))
        elif event.kind == "build_failed" and event.error is not None:
            text = error_text(event.error, colour=self._has_colour())
            self._write(f"{text}\n{self._still(event.modules)}")
        elif event.kind == "unloaded" and event.version is not None:
            gone = (event.name, event.version)
            if gone in self._gone:  # the line of the reload has said so
                self._gone.remove(gone)
            elif self.verbosity > 0:
                self._write(self._paint(_DIM, str(event)))

    def loaded(self, module: Module) -> None:
        """Tell of a module's first version."""
        if self.verbosity < 1:
            return
        seconds = {**module.build.seconds, **module.current.seconds}
        total = sum(seconds.get(phase, 0.0) for phase in ("total", "load", "exec"))
        if self.json:
            fields = {"kind": "loaded", "modules": [module.name], "name": module.name}
            self._write(json.dumps({**fields, "version": module.version, "seconds": seconds}))
            return
        how = "from the store" if module.build.cached else "built"
        name = self._paint(_BOLD, f"{module.name} v{module.version}")
        line = f"{name} · {duration(total)} · {how}"
        self._write(line + self._phases(seconds))

    # --- text ------------------------------------------------------------------------------------

    def _reloaded(self, report: Report) -> str:
        name, *facts = str(report).split(" · ")
        rest = " · ".join(facts[:-1])
        last = self._paint(_YELLOW if report.pins else _DIM, facts[-1])
        line = f"{self._paint(_BOLD, name)} · {rest} · {last}"
        return line + self._phases(report.seconds) if self.verbosity > 0 else line

    def _phases(self, seconds: Mapping[str, float]) -> str:
        told = [f"{phase} {duration(seconds[phase])}" for phase in _PHASES if phase in seconds]
        return "\n  " + self._paint(_DIM, " · ".join(told)) if told else ""

    def _still(self, names: Iterable[str]) -> str:
        from relib.live.loaded import get

        modules = [module for name in names if (module := get(name)) is not None]
        running = ", ".join(f"{module.name} v{module.version}" for module in modules)
        failed = self._paint(_RED, "not reloaded")
        return f"{failed} · {running} still running" if running else failed

    # --- the terminal ----------------------------------------------------------------------------

    def _has_colour(self) -> bool:
        if self.colour is not None:
            return self.colour
        return in_colour(self._stream or sys.stderr)

    def _paint(self, escape: str, text: str) -> str:
        return f"{escape}{text}{_RESET}" if self._has_colour() else text

    def _write(self, text: str) -> None:
        stream = self._stream or sys.stderr
        try:
            # In one piece: the program writes there, too.
            with _writing:
                stream.write(text + "\n")
                stream.flush()
        except (AttributeError, OSError, ValueError):
            pass


def _make(verbosity: int, json: bool, colour: bool | None) -> Reporter:
    return Reporter(verbosity, json=json, colour=colour)


def in_colour(stream: object) -> bool:
    """Whether to write in colour there (https://no-color.org)."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    try:
        return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"  # type: ignore[attr-defined]
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


# --- errors --------------------------------------------------------------------------------------


def error_text(error: Exception, *, colour: bool) -> str:
    """All that is known about an error, for a person to read.

    Diagnostics come as compilers write them; the error's message only if they do not say it.

    >>> print(error_text(ValueError("no such thing"), colour=False))
    Error: no such thing
    """
    lines: list[str] = []
    diagnostics = error.diagnostics if isinstance(error, BuildError) else ()
    if diagnostics:
        from relib.building.diagnostics import show

        lines.append(show(diagnostics, color=colour))
        if any(diagnostic.message in str(error) for diagnostic in diagnostics):
            return lines[0]
    label = f"{_RED}Error:{_RESET}" if colour else "Error:"
    lines.append(f"{label} {error}")
    if isinstance(error, BuildError) and error.output.strip() and not diagnostics:
        output = error.output.strip().splitlines()
        if len(output) > _LAST_LINES:
            lines.append(f"  (the last {_LAST_LINES} of {len(output)} lines of its output)")
        lines += [f"  {line}" for line in output[-_LAST_LINES:]]
    return "\n".join(lines)


def error_as_dict(error: Exception) -> dict[str, object]:
    """An error's class, message and facts, for JSON."""
    found: dict[str, object] = {"type": type(error).__name__, "message": str(error)}
    for fact in _FACTS if isinstance(error, RelibError) else ():
        value = getattr(error, fact, None)
        if value is not None:
            found[fact] = _plain(value)
    if isinstance(error, BuildError):
        found["diagnostics"] = diagnostics_as_dicts(error.diagnostics)
    if isinstance(error, UnloadError):
        found["pins"] = [pin.as_dict() for pin in error.pins]
    return found


def diagnostics_as_dicts(diagnostics: Iterable[Diagnostic]) -> list[dict[str, object]]:
    """Diagnostics for JSON, each once."""
    from dataclasses import asdict

    return [{**asdict(each), "file": str(each.file)} for each in dict.fromkeys(diagnostics)]


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value if isinstance(value, (str, int, float, bool)) else str(value)
