"""relib.reporting: what is said of reloads, and where."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import pytest
from conftest import Project

from relib.building.diagnostics import Diagnostic
from relib.errors import BuildError
from relib.events import Event
from relib.live.pins import Pin
from relib.live.report import Report
from relib.reporting import Reporter

SECONDS = {"translate": 0.036, "compile": 0.02, "total": 0.0612}
REPORT = Report("fast", "reload", version=7, previous=6, seconds=SECONDS)
RELOADED = Event("reloaded", ("fast",), report=REPORT, version=7)
ERROR = BuildError(
    "fast does not translate: expected ')'",
    name="fast",
    diagnostics=[Diagnostic(Path("/p/fast.pyx"), 3, 5, "error", "expected ')'", "    f(")],
)
FAILED = Event("build_failed", ("fast",), error=ERROR)


def said(*events: Event, **options: object) -> str:
    stream = io.StringIO()
    reporter = Reporter(stream=stream, **options)  # type: ignore[arg-type]
    for event in events:
        reporter(event)
    return stream.getvalue()


@pytest.fixture(autouse=True)
def _no_wishes_about_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


def test_a_reload_is_one_line() -> None:
    assert said(RELOADED) == f"{REPORT}\n"


def test_a_failure_is_told_in_full() -> None:
    text = said(FAILED)
    assert text.count("/p/fast.pyx:3:5: error: expected ')'\n    f(\n    ^\n") == 1
    assert text.count("not reloaded") == 1


def test_every_failure_that_the_session_tells_of_is_told() -> None:
    """Which repeat another one is for the session to say, which knows the contents."""
    assert said(FAILED, FAILED).count("error: expected") == 2


def test_a_forked_child_reports_though_another_thread_was_reporting(project: Project) -> None:
    outcome = project.run(
        """
        from relib.events import Event
        from relib.reporting import Reporter

        class Slow:
            def write(self, text):
                if os.getpid() == parent:
                    writing.set()
                    go_on.wait()
                else:
                    sys.stderr.write(text)
            def flush(self):
                pass

        event = Event("unloaded", ("fast",), version=6)
        writing, go_on = threading.Event(), threading.Event()
        parent, reporter = os.getpid(), Reporter(1, stream=Slow())
        threading.Thread(target=reporter, args=(event,)).start()
        writing.wait()
        child = os.fork()
        if not child:
            signal.alarm(30)
            reporter(event)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        go_on.set()
        say(status)
        """
    )
    assert outcome.value == 0
    assert "fast v6 unloaded" in outcome.errors


def test_a_failure_without_diagnostics_shows_the_end_of_the_output() -> None:
    output = "\n".join(f"line {number}" for number in range(100))
    error = BuildError("fast does not compile: gcc crashed", name="fast", output=output)
    text = said(Event("build_failed", ("fast",), error=error))
    assert "Error: fast does not compile: gcc crashed" in text
    assert "line 99" in text
    assert "line 12\n" not in text


@pytest.mark.parametrize("kind", ["about_to_reload", "retired", "unloaded"])
def test_other_events_are_not_told(kind: str) -> None:
    assert said(Event(kind, ("fast",), version=6)) == ""


def test_verbose_says_how_long_each_phase_took_and_what_went_later() -> None:
    gone = [Event("unloaded", ("fast",), version=version) for version in (6, 5)]
    text = said(RELOADED, *gone, verbosity=1)
    assert text.splitlines() == [
        f"{REPORT}",  # which says what became of v6
        "  translate 36 ms · compile 20 ms",
        "fast v5 unloaded",
    ]


def test_quiet_says_nothing() -> None:
    assert said(RELOADED, FAILED, verbosity=-1) == ""
    assert said(RELOADED, FAILED, verbosity=-1, json=True) == ""


def test_json_is_a_line_for_each_event() -> None:
    lines = [json.loads(line) for line in said(RELOADED, FAILED, json=True).splitlines()]
    assert [(line["kind"], line["name"]) for line in lines] == [
        ("reloaded", "fast"),
        ("build_failed", "fast"),
    ]
    assert lines[0]["report"]["version"] == 7
    assert lines[1]["error"]["diagnostics"][0]["line"] == 3


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def colours(stream: io.StringIO, **options: object) -> bool:
        Reporter(stream=stream, **options)(RELOADED)  # type: ignore[arg-type]
        return "\x1b[" in stream.getvalue()

    monkeypatch.setenv("TERM", "xterm")
    assert colours(Terminal())
    assert not colours(io.StringIO())
    assert colours(io.StringIO(), colour=True)
    monkeypatch.setenv("TERM", "dumb")
    assert not colours(Terminal())
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert colours(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours(Terminal())


def test_the_text_is_the_same_in_colour() -> None:
    pins = (Pin("thread", "thread 7 is in its code", 1),)
    report = Report("fast", "reload", version=7, previous=6, seconds=SECONDS, pins=pins)
    coloured = said(Event("reloaded", ("fast",), report=report), colour=True)
    for escape in ("\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[33m"):
        coloured = coloured.replace(escape, "")
    assert coloured == f"{report}\n"


def test_what_cannot_be_written_is_dropped() -> None:
    stream = io.StringIO()
    stream.close()
    Reporter(stream=stream)(RELOADED)


def test_a_child_gets_one_with_the_same_options() -> None:
    copy = pickle.loads(pickle.dumps(Reporter(1, json=True, colour=False)))
    assert (copy.verbosity, copy.json, copy.colour) == (1, True, False)


def test_it_reports_a_session(project: Project) -> None:
    project.write("fast.pyx", "def answer(): return 1")
    outcome = project.run(
        """
        from pathlib import Path
        from relib.reporting import Reporter
        fast = relib.load("fast.pyx")
        with relib.watch() as session:
            session.on("*", Reporter())
            for text in ("def answer(): return 2", "def answer(): return +", "def answer(): pass"):
                Path("fast.pyx").write_text(text)
                kind = session.wait(60, ("reloaded", "build_failed")).kind
        say([fast.version])
        """,
        RELIB_TIER="instant",  # optimized builds that follow would be told of too
    )
    assert outcome.value == [3]
    lines = outcome.errors.splitlines()
    assert lines[0].startswith("fast v2 · ")
    assert lines[1].startswith("fast.pyx:1:")
    assert lines[-2] == "not reloaded · fast v2 still running"
    assert lines[-1].startswith("fast v3 · ")
