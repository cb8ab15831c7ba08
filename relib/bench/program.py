"""A program under relib: it has imported the extension, watches it, and says when it changes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relib.bench.conversation import serve
from relib.errors import RelibError

if TYPE_CHECKING:
    from relib.live.module import Module
    from relib.live.report import Report
    from relib.session import Session

__all__ = ["main"]

_PAUSE = 0.0005
"""Seconds between two looks at the answer: what a program does that calls it now and then."""

_session: Session
_module: Module
_seen: int
"""The version that gave the last answer. It is not asked for when the next one begins: the new one
may be there by then."""


def begin(source: str, name: str, root: str, options: dict[str, Any]) -> str:
    """Import the extension and watch; the tier it was built in."""
    global _session, _module, _seen
    import relib
    from relib.config import load_config

    # Pairs have become lists on their way here.
    if "directives" in options:
        options["directives"] = dict(options["directives"])
    config = load_config(Path(root), os.environ, **options)
    _module = relib.load(source, name=name, config=config)
    _seen = _module.version
    _session = relib.watch()
    return _module.build.tier


def answer(attribute: str | None, edition: int, timeout: float) -> dict[str, Any]:
    """Wait for the answer of an edit.

    Args:
        attribute: what gives the answer; None: that there is another version will do.
        edition: the answer that is waited for.
        timeout: seconds.

    Returns:
        at: when it was there, in the time of `time.monotonic`; seconds: of the report; cached:
        whether the store had it; unloaded: whether the version before is gone.
    """
    global _seen
    failures: list[RelibError] = []
    unsubscribe = _session.on("build_failed", lambda event: failures.append(event.error))  # type: ignore[arg-type]
    end = time.monotonic() + timeout
    while not _is_there(attribute, edition):
        time.sleep(_PAUSE)
        if failures:
            raise failures[0]
        if time.monotonic() > end:
            raise TimeoutError(f"no answer in {timeout:g} s")
    at = time.monotonic()
    report = _next_report(timeout)
    answered = {
        "at": at,
        "seconds": dict(report.seconds),
        "cached": _module.build.cached,
        "unloaded": report.unloaded,
    }
    if _module.config.tier == "auto":
        while report.tier == "instant":
            report = _next_report(timeout)
    unsubscribe()
    _seen = _module.version
    return answered


def _next_report(timeout: float) -> Report:
    """Of the next reload. What cimports the module is reloaded with it, and is passed over."""
    while (event := _session.wait(timeout, "reloaded")) is not None:
        if event.name == _module.name and event.report is not None:
            return event.report
    raise TimeoutError(f"no reload in {timeout:g} s")


def _is_there(attribute: str | None, edition: int) -> bool:
    if attribute is None:
        return _module.version > _seen
    found: object = getattr(_module.module, attribute, None)
    return found == edition


def main() -> None:
    """Serve."""
    serve(begin, answer)
