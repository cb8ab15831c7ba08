"""Sessions: a save becomes running code, once, in order, when the program allows it."""

from __future__ import annotations

import stat
import subprocess
import textwrap
from pathlib import Path

import pytest
from conftest import Project

HELPERS = """
    import logging
    LONG = 60.0
    def save(name, text):
        with open(name, "w") as file: file.write(text)
    def expect(session, kind, seconds=LONG):
        event = session.wait(seconds, kind)
        assert event is not None, f"no {kind}"
        return event
    def looked(session):
        '''Wait until the session has looked at all that has been done before.'''
        global marks
        marks = globals().get("marks", 0) + 1
        save("marker.pyx", f"def f(): return {marks}")
        if "marker" not in relib.modules():
            relib.load("marker.pyx")
            return
        marker = relib.modules()["marker"]
        until(lambda: marker.module.f() == marks, LONG)
        session_idle(session)
    def session_idle(session):
        until(lambda: session.idle, LONG)
"""


@pytest.fixture
def watched(project: Project) -> Project:
    """A project whose processes have what a scenario about sessions needs."""
    project.environ["RELIB_TIER"] = "instant"
    support = project.root / "support"
    support.mkdir()
    lines = HELPERS.replace("\n    ", "\n")
    (support / "sessions.py").write_text("import relib\nfrom observe import *\n" + lines)
    project.environ["PYTHONPATH"] += f":{support}"
    project.write("fast.pyx", "def f(): return 1")
    return project


BEGIN = """
from sessions import *
fast = relib.load("fast.pyx")
"""


def scenario(script: str) -> str:
    return BEGIN + textwrap.dedent(script)


def run(project: Project, script: str) -> None:
    assert project.run(scenario(script) + "\nsay(True)\n").value is True


# --- one round -----------------------------------------------------------------------------------


def test_a_save_becomes_running_code_and_the_old_code_goes(watched: Project) -> None:
    run(
        watched,
        """
        with relib.watch() as session:
            assert session.modules == ("fast",) and session.running
            f = fast.module.f
            save("fast.pyx", "def f(): return 2")
            about = expect(session, "about_to_reload")
            assert about.modules == ("fast",) == (about.name,)
            event = expect(session, "reloaded")
            assert (event.name, event.version, fast.module.f(), f()) == ("fast", 2, 2, 2)
            assert event.report.previous == 1 and str(event) == str(event.report)
            gone = expect(session, "unloaded")
            assert (gone.name, gone.version) == ("fast", 1)
            assert mapped("fast") == 1
            json.dumps([about.as_dict(), event.as_dict(), gone.as_dict()])
        assert not session.running and session.wait() is None
        assert not any("relib-session" in thread.name for thread in threading.enumerate())
        save("fast.pyx", "def f(): return 3")
        assert fast.module.f() == 2
        """,
    )


def test_saving_without_a_change_does_nothing_at_all(watched: Project) -> None:
    run(
        watched,
        """
        marker = looked(None)
        events = []
        with relib.watch() as session:
            session.on("*", events.append)
            for _ in range(3):
                save("fast.pyx", "def f(): return 1")
                os.utime("fast.pyx")
            looked(session)
            assert {event.name for event in events} <= {"marker"}, events
            assert fast.version == 1
        """,
    )


def test_a_change_made_before_the_session_begins_is_applied(watched: Project) -> None:
    run(
        watched,
        """
        save("fast.pyx", "def f(): return 2")
        with relib.watch() as session:
            assert expect(session, "reloaded").name == "fast" and fast.module.f() == 2
        """,
    )


def test_the_version_in_use_is_told_to_be_retired_and_then_unloaded(watched: Project) -> None:
    watched.write("fast.pyx", "cdef class C:\n    pass")
    run(
        watched,
        """
        with relib.watch() as session:
            thing = fast.module.C()
            save("fast.pyx", "cdef class C:\\n    cdef public int x")
            event = expect(session, "retired")
            assert (event.name, event.version) == ("fast", 1) and "C" in str(event)
            del thing
            assert expect(session, "unloaded").version == 1
        """,
    )


def test_modules_loaded_later_are_watched_too(watched: Project) -> None:
    watched.write("late.pyx", "def f(): return 1")
    run(
        watched,
        """
        with relib.watch() as session:
            late = relib.load("late.pyx")
            save("late.pyx", "def f(): return 2")
            assert expect(session, "reloaded").name == "late" and late.module.f() == 2
            late.unload()
            until(lambda: session.modules == ("fast",))
            until(lambda: not any(path.name == "late.pyx" for path in session.watched))
        """,
    )


def test_what_is_watched_follows_each_build(watched: Project) -> None:
    watched.write("one.pxi", "x = 1")
    watched.write("two.pxi", "x = 2")
    watched.write("fast.pyx", 'include "one.pxi"\ndef f(): return x')
    run(
        watched,
        """
        with relib.watch() as session:
            save("one.pxi", "x = 10")
            expect(session, "reloaded")
            assert fast.module.f() == 10
            save("fast.pyx", 'include "two.pxi"\\ndef f(): return x')
            expect(session, "reloaded")
            assert fast.module.f() == 2
            save("two.pxi", "x = 20")
            expect(session, "reloaded")
            assert fast.module.f() == 20
            fast.rollback()                        # by the program, not by the session
            save("two.pxi", "x = 30")
            expect(session, "reloaded")
            assert fast.module.f() == 30
        """,
    )


def test_a_file_that_would_be_read_if_it_were_there_is_watched(watched: Project) -> None:
    watched.write("fast.pyx", "def f(int x): return g(x)\ncdef g(x): return x")
    run(
        watched,
        """
        with relib.watch() as session:
            save("fast.pxd", "cdef g(x)")
            assert expect(session, "reloaded").name == "fast"
            os.unlink("fast.pxd")
            assert expect(session, "reloaded").name == "fast"
        """,
    )


def test_headers_of_a_c_file_are_watched(watched: Project) -> None:
    watched.write("include/answer.h", "#define ANSWER 1")
    watched.write("native.c", C_MODULE)
    run(
        watched,
        """
        native = relib.load("native.c", include_dirs=["include"])
        with relib.watch() as session:
            save("include/answer.h", "#define ANSWER 42")
            assert expect(session, "reloaded").name == "native"
            assert native.module.answer == 42
        """,
    )


C_MODULE = """
    #include <Python.h>
    #include "answer.h"
    static int fill(PyObject *module) {
        return PyModule_AddIntConstant(module, "answer", ANSWER);
    }
    static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, 0}};
    static struct PyModuleDef def = {PyModuleDef_HEAD_INIT, "native", 0, 0, 0, slots};
    PyMODINIT_FUNC PyInit_native(void) { return PyModuleDef_Init(&def); }
"""


# --- what fails ----------------------------------------------------------------------------------


def test_a_failed_build_is_told_once_for_the_same_content(watched: Project) -> None:
    run(
        watched,
        """
        looked(None)
        failures = []
        with relib.watch() as session:
            session.on("build_failed", failures.append)
            save("fast.pyx", "def f(: return 2")
            event = expect(session, "build_failed")
            assert event.name == "fast" and isinstance(event.error, relib.BuildError)
            [diagnostic] = event.diagnostics
            assert diagnostic.line == 1 and "fast.pyx" in str(event)
            json.dumps(event.as_dict())
            for _ in range(3):
                save("fast.pyx", "def f(: return 2")
                looked(session)
            assert len(failures) == 1 and fast.module.f() == 1
            save("fast.pyx", "def f(: return 3")     # other content, same mistake
            expect(session, "build_failed")
            save("fast.pyx", "def f(): return 1")    # what runs
            looked(session)
            assert fast.version == 1 and len(failures) == 2
            save("fast.pyx", "def f(: return 3")     # it was good in between
            expect(session, "build_failed")
            save("fast.pyx", "def f(): return 4")
            while expect(session, "reloaded").name != "fast": pass
            assert fast.module.f() == 4
        """,
    )


def test_a_directory_may_be_given_from_where_the_program_is(watched: Project) -> None:
    run(
        watched,
        """
        os.makedirs("elsewhere")
        os.chdir("elsewhere")
        with relib.watch("../") as session:
            assert "fast" in session.modules
        """,
    )


def test_typing_with_every_keystroke_saved_ends_in_what_was_meant(watched: Project) -> None:
    run(
        watched,
        """
        with relib.watch() as session:
            text = "def f(): return 'typed'"
            for end in range(len(text) + 1):
                save("fast.pyx", text[:end])
            def now():
                try: return fast.module.f()
                except AttributeError: return None      # a prefix that is a module without f
            until(lambda: now() == "typed", LONG)
        """,
    )


def test_an_empty_file_is_an_empty_module(watched: Project) -> None:
    run(
        watched,
        """
        with relib.watch() as session:
            save("fast.pyx", "")
            expect(session, "reloaded")
            assert not hasattr(fast.module, "f")
            save("fast.pyx", "def f(): return 2")
            expect(session, "reloaded")
            assert fast.module.f() == 2
        """,
    )


def test_a_module_that_raises_while_loading_is_told_of_and_the_old_one_runs(
    watched: Project,
) -> None:
    run(
        watched,
        """
        with relib.watch() as session:
            save("fast.pyx", "raise OSError('at import')")
            event = expect(session, "build_failed")
            assert isinstance(event.error, relib.ExecError) and fast.module.f() == 1
            save("fast.pyx", "def f(): return 2")
            expect(session, "reloaded")
            assert fast.module.f() == 2
        """,
    )


def test_what_a_broken_source_asks_for_is_waited_for(watched: Project) -> None:
    run(
        watched,
        """
        with relib.watch() as session:
            save("fast.pyx", 'include "sub/later.pxi"\\ndef f(): return x')
            assert "later.pxi" in str(expect(session, "build_failed"))
            os.mkdir("sub")
            save("sub/later.pxi", "x = 7")
            expect(session, "reloaded")
            assert fast.module.f() == 7
        """,
    )


def test_a_deleted_source_is_told_of_once_and_its_code_stays(watched: Project) -> None:
    run(
        watched,
        """
        looked(None)
        failures = []
        with relib.watch() as session:
            session.on("build_failed", failures.append)
            os.unlink("fast.pyx")
            event = expect(session, "build_failed")
            assert isinstance(event.error, relib.SourceMissing) and event.name == "fast"
            looked(session)
            assert len(failures) == 1 and fast.module.f() == 1
            save("fast.pyx", "def f(): return 2")
            while expect(session, "reloaded").name != "fast": pass
            assert fast.module.f() == 2
        """,
    )


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("pyproject.toml", "[tool.relib]\nhistory = 5\n", "[tool.relib\n"),
        ("setup.py", "from setuptools import setup\nsetup()\n", "from setuptools import\n"),
    ],
)
def test_a_project_file_that_no_longer_parses_is_told_of_once(
    watched: Project, name: str, good: str, bad: str
) -> None:
    watched.write(name, good)
    watched.write("other.pyx", "def f(): return 1")
    run(
        watched,
        f"""
        other = relib.load("other.pyx")
        failures = []
        with relib.watch() as session:
            session.on("build_failed", failures.append)
            save({name!r}, {bad!r})
            event = expect(session, "build_failed")
            assert isinstance(event.error, relib.ProjectError)
            assert event.modules == ("fast", "other")
            save({name!r}, {bad!r})
            save("fast.pyx", "def f(): return 2")
            save({name!r}, {good!r})
            expect(session, "reloaded")
            assert fast.module.f() == 2 and other.version == 1
            assert len(failures) == 1
        """,
    )


def test_a_new_project_file_counts(watched: Project) -> None:
    run(
        watched,
        """
        with relib.watch() as session:
            save("pyproject.toml", '[tool.relib]\\ndirectives = {binding = false}\\n')
            assert expect(session, "reloaded").name == "fast"
        """,
    )


# --- modules that belong together ----------------------------------------------------------------


def write_chain(project: Project) -> None:
    project.write("base.pxd", "cdef int g(int x)")
    project.write("base.pyx", "cdef int g(int x): return x + 1")
    project.write("top.pyx", "from base cimport g\ndef f(): return g(0)")


def test_dependents_are_reloaded_in_the_same_step(watched: Project) -> None:
    write_chain(watched)
    run(
        watched,
        """
        base, top = relib.load("base.pyx"), relib.load("top.pyx")
        with relib.watch() as session:
            save("base.pyx", "cdef int g(int x): return x + 100")
            about = expect(session, "about_to_reload")
            assert about.modules == ("base", "top")
            names = [expect(session, "reloaded").name, expect(session, "reloaded").name]
            assert names == ["base", "top"] and top.module.f() == 100 and fast.version == 1
            until(lambda: mapped("base") == 1 == mapped("top"))
        """,
    )


def test_if_one_does_not_build_none_is_reloaded(watched: Project) -> None:
    write_chain(watched)
    run(
        watched,
        """
        base, top = relib.load("base.pyx"), relib.load("top.pyx")
        with relib.watch() as session:
            session.pause()
            save("base.pxd", "cdef long g(int x, int y)")
            save("base.pyx", "cdef long g(int x, int y): return x + y")
            save("fast.pyx", "def f(): return 2")
            session.resume()
            event = expect(session, "build_failed")
            assert event.name == "top" and "base" in event.modules, event
            until(lambda: fast.module.f() == 2)           # it has nothing to do with them
            assert (base.version, top.version, top.module.f()) == (1, 1, 1)
            save("top.pyx", "from base cimport g\\ndef f(): return g(3, 4)")
            until(lambda: top.module.f() == 7)
            assert (base.version, top.version) == (2, 2)
        """,
    )


def test_a_checkout_of_many_files_is_one_round(watched: Project) -> None:
    for number in range(4):
        watched.write(f"m{number}.pyx", f"from shared cimport C\ndef f(): return {number}")
    watched.write("shared.pxd", "ctypedef int C")
    watched.write("shared.pyx", "def f(): return 0")
    run(
        watched,
        """
        loaded = [relib.load(f"{name}.pyx") for name in ("shared", "m0", "m1", "m2", "m3")]
        steps = []
        with relib.watch() as session:
            session.on("about_to_reload", lambda event: steps.append(event.modules))
            session.pause()                  # so that nobody depends on how fast this is
            for n in range(200):
                save(f"noise{n}.pyx", "def f(): pass")
            save("shared.pxd", "ctypedef long C")
            for n in range(4):
                save(f"m{n}.pyx", f"from shared cimport C\\ndef f(): return {n + 10}")
            session.resume()
            until(lambda: [module.version for module in loaded] == [2] * 5, LONG)
            assert [module.module.f() for module in loaded] == [0, 10, 11, 12, 13]
            assert steps == [("m0", "m1", "m2", "m3", "shared")]
        """,
    )


# --- when ----------------------------------------------------------------------------------------


def test_with_poll_nothing_changes_until_the_program_says_so(watched: Project) -> None:
    run(
        watched,
        """
        with relib.watch(apply="poll") as session:
            assert session.poll() == []
            threads = []
            session.on("reloaded", lambda event: threads.append(threading.current_thread()))
            save("fast.pyx", "def f(): return 2")
            until(lambda: session.ready == ("fast",), LONG)   # it is built
            assert fast.module.f() == 1
            kinds = [event.kind for event in session.poll()]
            assert kinds[:2] == ["about_to_reload", "reloaded"] and fast.module.f() == 2
            assert threads == [threading.main_thread()]
            save("fast.pyx", "def f(: return 2")
            def polled(): return [event.kind for event in session.poll() if "fail" in event.kind]
            until(lambda: polled() == ["build_failed"])
            save("fast.pyx", "def f(): return 3")
            assert expect(session, "reloaded").version == 2   # wait() is a safe point as well,
            assert expect(session, "reloaded").version == 3   # and has its own place in the row
            assert fast.module.f() == 3
        """,
    )


def test_with_poll_only_the_newest_is_applied(watched: Project) -> None:
    for number in (2, 3, 4):
        watched.write(f"mark{number}.pyx", "x = 1")
    run(
        watched,
        """
        with relib.watch(apply="poll") as session:
            marks = [relib.load(f"mark{number}.pyx").name for number in (2, 3, 4)]
            for number, mark in zip((2, 3, 4), marks):
                save("fast.pyx", f"def f(): return {number}")
                save(f"{mark}.pyx", "x = 2")               # noticed not before the other
                until(lambda: mark in session.ready, LONG)
            assert session.ready == ("fast", *marks)
            reloaded = [event.name for event in session.poll() if event.kind == "reloaded"]
            assert reloaded.count("fast") == 1 and fast.module.f() == 4 and fast.version == 2
        """,
    )


def test_with_asyncio_it_happens_in_the_loop(watched: Project) -> None:
    run(
        watched,
        """
        import asyncio
        async def main():
            where = []
            with relib.watch(apply="asyncio") as session:
                session.on("reloaded", lambda event: where.append(asyncio.get_running_loop()))
                events = aiter(session)
                save("fast.pyx", "def f(): return 2")
                kinds = []
                async with asyncio.timeout(LONG):
                    async for event in events:
                        kinds.append(event.kind)
                        if event.kind == "unloaded": break
                assert kinds == ["about_to_reload", "reloaded", "unloaded"], kinds
                assert fast.module.f() == 2 and where == [asyncio.get_running_loop()]
                try: session.wait()
                except RuntimeError: pass
                else: raise AssertionError
                left = asyncio.ensure_future(anext(events, None))
                await asyncio.sleep(0)
            assert await left is None                 # the session has been stopped
            save("fast.pyx", "def f(): return 3")
        asyncio.run(main())
        try: relib.watch(apply="asyncio")
        except RuntimeError: pass
        else: raise AssertionError
        """,
    )


def test_events_come_to_a_loop_from_a_session_with_a_thread(watched: Project) -> None:
    run(
        watched,
        """
        import asyncio
        async def main():
            with relib.watch() as session:
                events = aiter(session)
                save("fast.pyx", "def f(): return 2")
                async with asyncio.timeout(LONG):
                    async for event in events:
                        if event.kind == "reloaded": return event.version
        assert asyncio.run(main()) == 2
        """,
    )


def test_what_changes_during_a_pause_is_applied_afterwards(watched: Project) -> None:
    run(
        watched,
        """
        with relib.watch() as session:
            session.pause()
            assert session.paused
            save("fast.pyx", "def f(): return 2")
            until(lambda: not session.idle)
            assert fast.module.f() == 1
            save("fast.pyx", "def f(): return 3")
            session.resume()
            until(lambda: fast.module.f() == 3)
        """,
    )


def test_fifty_saves_in_a_second_end_in_the_last(watched: Project) -> None:
    run(
        watched,
        """
        with relib.watch() as session:
            tick = threading.Event()
            for number in range(2, 52):
                save("fast.pyx", f"def f(): return {number}")
                tick.wait(0.02)
            until(lambda: fast.module.f() == 51, LONG)
            session_idle(session)
            assert fast.module.f() == 51 and fast.version <= 51
        """,
    )


def test_a_save_in_the_middle_of_a_round_makes_another_round(watched: Project) -> None:
    run(
        watched,
        """
        with relib.watch() as session:
            def again(event):
                if fast.version == 1:
                    save("fast.pyx", "def f(): return 3")
            session.on("about_to_reload", again)
            save("fast.pyx", "def f(): return 2")
            until(lambda: fast.module.f() == 3)
        """,
    )


# --- callbacks and waiting -----------------------------------------------------------------------


def test_a_callback_that_raises_is_logged_and_the_session_goes_on(watched: Project) -> None:
    run(
        watched,
        """
        records = []
        class Keep(logging.Handler):
            def emit(self, record): records.append(record)
        logging.getLogger("relib.session").addHandler(Keep())
        calls = []
        with relib.watch() as session:
            @session.on("reloaded")
            def broken(event): raise ZeroDivisionError
            end = session.on("reloaded", calls.append)
            for number in (2, 3):
                save("fast.pyx", f"def f(): return {number}")
                expect(session, "unloaded")
            assert [event.version for event in calls] == [2, 3] and len(records) == 2
            assert records[0].exc_info[0] is ZeroDivisionError
            assert "broken" in records[0].getMessage()
            end(); end()
            save("fast.pyx", "def f(): return 4")
            expect(session, "unloaded")
            assert len(calls) == 2
            for kind in ("reload", "", None):
                try: session.on(kind)
                except ValueError as error: assert "build_failed" in str(error)
                else: raise AssertionError
        """,
    )


def test_waiting_ends_with_the_time_and_with_the_session(watched: Project) -> None:
    run(
        watched,
        """
        session = relib.watch()
        assert session.wait(0.01) is None
        said = []
        session.on("reloaded", lambda event: said.append(session_waits()))
        def session_waits():
            try: session.wait()
            except RuntimeError: return "refused"
        save("fast.pyx", "def f(): return 2")
        expect(session, "unloaded")
        assert said == ["refused"]
        waiting = threading.Thread(target=lambda: said.append(session.wait()))
        waiting.start()
        session.stop()
        waiting.join()
        assert said == ["refused", None]
        session.stop()
        session.start()                                   # once more
        save("fast.pyx", "def f(): return 3")
        expect(session, "reloaded")
        assert fast.module.f() == 3
        """,  # and the program ends with the session running
    )


def test_a_callback_may_stop_the_session(watched: Project) -> None:
    run(
        watched,
        """
        session = relib.watch()
        session.on("reloaded", lambda event: session.stop())
        save("fast.pyx", "def f(): return 2")
        until(lambda: not session.running)
        assert fast.module.f() == 2
        """,
    )


def test_only_some_modules_are_looked_after(watched: Project) -> None:
    watched.write("sub/other.pyx", "def f(): return 1")
    run(
        watched,
        """
        other = relib.load("sub/other.pyx")
        for chosen in ({"modules": ["other"]}, {"modules": [other]}, {"paths": "sub"},
                       {"paths": ["sub/other.pyx"]}):
            with relib.watch(**chosen) as session:
                assert session.modules == ("other",)
        with relib.watch("sub") as session:
            save("fast.pyx", "def f(): return 2")
            save("sub/other.pyx", "def f(): return 2")
            assert expect(session, "reloaded").name == "other"
            assert fast.module.f() == 1
        for wrong in ({"apply": "later"}, {"events": "fanotify"}):
            try: relib.watch(**wrong)
            except ValueError: pass
            else: raise AssertionError
        """,
    )


def test_polling_serves_as_well(watched: Project) -> None:
    run(
        watched,
        """
        with relib.watch(polling=0.02) as session:
            save("fast.pyx", "def f(): return 2")
            expect(session, "reloaded")
            assert fast.module.f() == 2
        """,
    )


def test_watchdog_serves_as_well(watched: Project) -> None:
    run(
        watched,
        """
        before = set(threading.enumerate())
        with relib.watch() as session:
            assert "watchdog" not in sys.modules    # nobody has asked for it
        os.environ["RELIB_EVENTS"] = "watchdog"
        for chosen in ({"events": "watchdog"}, {"config": relib.load_config(os.getcwd())}):
            with relib.watch(**chosen) as session:
                assert "watchdog" in sys.modules
                assert len(set(threading.enumerate()) - before) > 2
                number = fast.version + 1
                save("fast.pyx", f"def f(): return {number}")
                event = expect(session, "reloaded")
                assert fast.module.f() == number == event.version
                while expect(session, "unloaded").version != number - 1: pass
                assert not relib.retired()
        until(lambda: set(threading.enumerate()) <= before, LONG)
        """,
    )


def test_the_setting_of_a_modules_project_says_who_tells(watched: Project) -> None:
    watched.write("pyproject.toml", '[tool.relib]\nevents = "watchdog"')
    run(
        watched,
        """
        with relib.watch(polling=False) as session:
            assert "watchdog" in sys.modules
            save("fast.pyx", "def f(): return 2")
            until(lambda: fast.module.f() == 2, LONG)
        """,
    )


# --- places --------------------------------------------------------------------------------------


def test_a_package_that_is_deleted_and_made_again(watched: Project) -> None:
    watched.write("pkg/__init__.py", "")
    watched.write("pkg/deep.pyx", "def f(): return 1")
    run(
        watched,
        """
        import shutil
        deep = relib.load("pkg/deep.pyx")
        with relib.watch() as session:
            shutil.rmtree("pkg")
            assert isinstance(expect(session, "build_failed").error, relib.SourceMissing)
            os.mkdir("pkg")
            save("pkg/__init__.py", "")
            save("pkg/deep.pyx", "def f(): return 2")
            until(lambda: deep.module.f() == 2, LONG)
            save("pkg/deep.pyx", "def f(): return 3")
            until(lambda: deep.module.f() == 3, LONG)
        """,
    )


def test_a_symlinked_source(watched: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    target = tmp_path_factory.mktemp("elsewhere") / "real.pyx"
    target.write_text("def f(): return 1")
    (watched.root / "linked.pyx").symlink_to(target)
    run(
        watched,
        f"""
        target = {str(target)!r}
        linked = relib.load("linked.pyx")
        with relib.watch() as session:
            save(target, "def f(): return 2")
            expect(session, "reloaded")
            assert linked.module.f() == 2
            save(target + ".new", "def f(): return 3")
            os.replace(target + ".new", target)
            expect(session, "reloaded")
            assert linked.module.f() == 3
        """,
    )


def test_a_source_tree_that_cannot_be_written_to(watched: Project) -> None:
    """A file system that is mounted read-only: permissions would not keep root from writing."""
    watched.write("tree/remote.pyx", "def f(): return 1")
    (watched.root / "mounted").mkdir()
    del watched.environ["RELIB_STORE"]
    watched.environ.pop("XDG_CACHE_HOME", None)
    outcome = watched.run(
        """
        import ctypes, subprocess
        from pathlib import Path
        from sessions import *
        user, group = os.getuid(), os.getgid()
        faulthandler.cancel_dump_traceback_later()   # its thread is in the way
        if ctypes.CDLL(None).unshare(0x10000000 | 0x20000) != 0:   # CLONE_NEWUSER, CLONE_NEWNS
            say("not permitted")
            raise SystemExit
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        for options in ("bind", "remount,ro,bind"):
            subprocess.run(["mount", "-o", options, "tree", "mounted"], check=True)
        remote = relib.load("mounted/remote.pyx")
        assert remote.build.library.is_relative_to(Path.home() / ".cache" / "relib"), remote.build
        with relib.watch() as session:
            save("tree/remote.pyx", "def f(): return 2")     # by someone who may
            expect(session, "reloaded")
            assert remote.module.f() == 2 and os.listdir("mounted") == ["remote.pyx"]
        say("reloaded")
        """,
        HOME=str(watched.root / "home"),
    )
    if outcome.value == "not permitted":
        pytest.skip("no file system of its own for a test here")
    assert outcome.value == "reloaded"


# --- processes -----------------------------------------------------------------------------------


def test_one_of_many_processes_builds_and_all_reload(watched: Project, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    compiler = tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> {calls}\nexec gcc "$@"\n')
    compiler.chmod(stat.S_IRWXU)
    script = scenario(
        """
        with relib.watch() as session:
            say("ready")
            assert expect(session, "reloaded").name == "fast"
            say(fast.module.f())
        """
    )
    environ = {"CC": str(compiler), "RELIB_TIER": "optimized"}
    project = watched
    project.run(BEGIN, **environ)  # what runs at first is built
    before = compiled(calls)
    processes: list[subprocess.Popen[str]] = []
    try:
        for _ in range(3):
            processes.append(project.start(script, **environ))
            assert line(processes[-1]) == '"ready"', processes[-1].communicate()[1]
        (project.root / "fast.pyx").write_text("def f(): return 2")
        assert [line(process) for process in processes] == ["2", "2", "2"]
        for process in processes:
            assert process.wait(60) == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert compiled(calls) == before + 1


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def compiled(calls: Path) -> int:
    return sum(" -c " in f" {line} " for line in calls.read_text().splitlines())


@pytest.mark.parametrize("events", ["inotify", "watchdog"])
def test_a_forked_child_has_a_session_of_its_own(watched: Project, events: str) -> None:
    watched.environ["RELIB_EVENTS"] = events
    run(
        watched,
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)     # threads and fork, from 3.12 on
        session = relib.watch()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            until(lambda: fast.module.f() == 2, LONG)
            assert session.running and expect(session, "reloaded").version == 2
            os.write(write, b"!")
            until(lambda: fast.module.f() == 3, LONG)
            os._exit(0)
        save("fast.pyx", "def f(): return 2")
        until(lambda: fast.module.f() == 2, LONG)
        assert os.read(read, 1) == b"!"
        save("fast.pyx", "def f(): return 3")          # neither takes the other's events
        until(lambda: fast.module.f() == 3, LONG)
        _, status = os.waitpid(child, 0)
        session.stop()
        assert status == 0
        """,
    )


def test_forks_in_the_middle_of_upgrades_find_them_whole(watched: Project) -> None:
    run(
        watched,
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        session = relib.watch()
        children = []
        for number in range(2, 12):
            save("fast.pyx", f"def f(): return {number}")
            child = os.fork()
            if child == 0:
                session.stop()
                os._exit(0 if fast.module.f() >= 1 else 1)
            children.append(child)
        until(lambda: fast.module.f() == 11, LONG)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 10
        """,
    )
