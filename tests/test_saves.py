"""No save is lost, whatever comes with it, before it, or in its middle."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from conftest import Project
from test_session import C_MODULE, compiled, run, watched, write_chain

__all__ = ["watched"]


def compiler(project: Project, before: str, after: str = "") -> dict[str, str]:
    """An environment with a compiler that does something before or after each compile.

    There, $* are its arguments, and $status is how the compile has ended.
    """
    script = project.root / "compiler"
    script.write_text(
        "#!/bin/sh\n"
        f'case " $* " in *" -c "*) ;; *) exec gcc "$@";; esac\n{before}\n'
        f'gcc "$@"; status=$?\n{after}\nexit $status\n'
    )
    script.chmod(stat.S_IRWXU)
    return {"CC": str(script), "RELIB_TIER": "optimized"}


# --- modules that cimport one another ------------------------------------------------------------


def test_a_cimport_that_is_new_counts_in_the_same_step(watched: Project) -> None:
    """The names are such that they would be reloaded the wrong way round."""
    watched.write("core.pxd", "cdef int g(int x)")
    watched.write("core.pyx", "cdef int g(int x): return x")
    watched.write("app.pyx", "def f(): return 1")
    run(
        watched,
        """
        core, app = relib.load("core.pyx"), relib.load("app.pyx")
        failures, steps = [], []
        with relib.watch() as session:
            session.on("build_failed", failures.append)
            session.on("about_to_reload", lambda event: steps.append(event.modules))
            session.pause()
            save("core.pxd", "cdef int g(int x)\\ncpdef int helper(int x)")
            save("core.pyx", "cdef int g(int x): return x\\ncpdef int helper(int x): return x + 1")
            save("app.pyx", "from core cimport helper\\ndef f(): return helper(1)")
            session.resume()
            until(lambda: app.module.f() == 2, LONG)
            assert (failures, steps) == ([], [("app", "core")])
        """,
    )


def test_what_did_not_load_is_tried_again_after_what_it_needs(watched: Project) -> None:
    watched.write("core.pxd", "cdef int g(int x)")
    watched.write("core.pyx", "cdef int g(int x): return x")
    watched.write("app.pyx", "def f(): return 1")
    run(
        watched,
        """
        core, app = relib.load("core.pyx"), relib.load("app.pyx")
        with relib.watch() as session:
            # the app asks, when it is executed, for what is yet to come; no file says so
            save("app.pyx", "helper = __import__('core').helper\\ndef f(): return helper(1)")
            assert expect(session, "build_failed").name == "app"
            save("core.pyx", "cdef int g(int x): return x\\ndef helper(x): return x + 1")
            until(lambda: app.module.f() == 2, LONG)
        """,
    )


def test_a_dependent_that_comes_back_lets_the_save_through(watched: Project) -> None:
    write_chain(watched)
    run(
        watched,
        """
        base, top = relib.load("base.pyx"), relib.load("top.pyx")
        with relib.watch() as session:
            os.rename("top.pyx", "aside")
            assert expect(session, "build_failed").name == "top"
            save("base.pxd", "cdef long g(long x)")
            save("base.pyx", "cdef long g(long x): return x + 100")
            event = expect(session, "build_failed")
            while "base" not in event.modules: event = expect(session, "build_failed")
            assert event.modules == ("base", "top")
            os.rename("aside", "top.pyx")
            until(lambda: top.module.f() == 100, LONG)
        """,
    )


def test_all_of_a_deeper_chain_or_none(watched: Project) -> None:
    watched.write("a.pxd", "cdef int a(int x)")
    watched.write("a.pyx", "cdef int a(int x): return x + 1")
    watched.write("b.pxd", "cdef int b(int x)")
    watched.write("b.pyx", "from a cimport a\ncdef int b(int x): return a(x) * 10")
    watched.write("c.pyx", "from b cimport b\ndef f(): return b(0)")
    watched.write("d.pyx", "from a cimport a\nfrom b cimport b\ndef f(): return a(0) + b(0)")
    run(
        watched,
        """
        every = a, b, c, d = [relib.load(f"{name}.pyx") for name in "abcd"]
        def now(): return [each.version for each in every], c.module.f(), d.module.f()
        order, steps = [], []
        with relib.watch() as session:
            session.on("about_to_reload", lambda event: steps.append(event.modules))
            session.on("reloaded", lambda event: order.append(event.name))
            save("a.pyx", "cdef int a(int x): return x + 2")
            until(lambda: len(order) == 4, LONG)
            assert now() == ([2] * 4, 20, 22)
            assert steps == [("a", "b", "c", "d")]
            assert order[:2] == ["a", "b"] and sorted(order[2:]) == ["c", "d"]
            until(lambda: session.idle and all(mapped(each.name) == 1 for each in every), LONG)
            session.pause()
            save("a.pyx", "cdef int a(int x): return x + 3")
            text = open("d.pyx").read()
            save("d.pyx", text + "\\nraise OSError('on purpose')")
            session.resume()
            event = expect(session, "build_failed")
            assert event.modules == ("a", "b", "c", "d") and event.name == "d", event
            assert now() == ([2] * 4, 20, 22)
            # what d has raised leads to its code and to what it cimports, and to no other
            until(lambda: mapped("c") == 1)
            save("d.pyx", text)
            until(lambda: now()[1:] == (30, 33), LONG)
        del session, event
        collected()
        until(lambda: all(mapped(each.name) == 1 for each in every))
        """,
    )


# --- what comes in the middle --------------------------------------------------------------------


def test_a_header_that_comes_right_after_it_was_missed(watched: Project) -> None:
    """Before its directory is watched: nothing tells of it."""
    (watched.root / "later").mkdir()
    watched.write("answer.h", "#define ANSWER 1")
    watched.write("native.c", C_MODULE)
    watched.environ |= compiler(
        watched,
        "",
        '[ -e later/new.h ] || [ $status = 0 ] || echo "#define ANSWER 42" > later/new.h',
    )
    run(
        watched,
        """
        native = relib.load("native.c")
        text = open("native.c").read()
        with relib.watch() as session:
            save("native.c", text.replace("answer.h", "later/new.h"))
            until(lambda: native.module.answer == 42, LONG)
        """,
    )


def test_what_waits_for_poll_is_not_applied_when_a_part_is_out_of_date(watched: Project) -> None:
    write_chain(watched)
    watched.write("mark.pyx", "x = 1")
    run(
        watched,
        """
        base, top, mark = [relib.load(f"{name}.pyx") for name in ("base", "top", "mark")]
        before = open("base.pyx").read()
        with relib.watch(apply="poll") as session:
            session.pause()
            save("base.pyx", "cdef int g(int x): return x + 100")
            save("top.pyx", "from base cimport g\\ndef f(): return g(0) * 2")
            session.resume()
            until(lambda: session.ready == ("base", "top"), LONG)
            save("base.pyx", before)
            save("mark.pyx", "x = 2")
            until(lambda: "mark" in session.ready and session.idle, LONG)
            session.poll()
            assert top.module.f() == 2
            assert base.version == 1
        """,
    )


def test_a_build_that_is_removed_while_it_waits_is_made_again(
    watched: Project, tmp_path: Path
) -> None:
    watched.environ["RELIB_STORE"] = str(tmp_path / "own store")
    run(
        watched,
        """
        import subprocess
        with relib.watch(apply="poll") as session:
            save("fast.pyx", "def f(): return 2")
            until(lambda: session.ready, LONG)
            subprocess.run([sys.executable, "-m", "relib", "clean", "--all"], check=True,
                           stdout=subprocess.DEVNULL)
            assert [event.kind for event in session.poll()][:2] == ["about_to_reload", "reloaded"]
            assert fast.module.f() == 2
        """,
    )


# --- what would end a thread ---------------------------------------------------------------------


@pytest.mark.parametrize("raised", ["SystemExit(3)", "KeyboardInterrupt", "GeneratorExit"])
def test_whatever_a_body_raises_the_next_save_works(watched: Project, raised: str) -> None:
    run(
        watched,
        f"""
        with relib.watch() as session:
            save("fast.pyx", "raise {raised}")
            event = expect(session, "build_failed")
            assert isinstance(event.error, relib.ExecError) and event.name == "fast", event.error
            assert "{raised}".startswith(type(event.error.__cause__).__name__)
            assert fast.module.f() == 1
            save("fast.pyx", "def f(): return 2")
            expect(session, "reloaded")
            assert fast.module.f() == 2
        """,
    )


def test_a_body_that_exits_does_not_end_the_event_loop(watched: Project) -> None:
    run(
        watched,
        """
        import asyncio
        async def main():
            with relib.watch(apply="asyncio") as session:
                events = aiter(session)
                save("fast.pyx", "raise SystemExit")
                async with asyncio.timeout(LONG):
                    async for event in events:
                        if event.kind == "build_failed": return "told"
        assert asyncio.run(main()) == "told"
        """,
    )


def test_a_callback_that_exits_does_not_end_the_session(watched: Project) -> None:
    run(
        watched,
        """
        logging.disable(logging.CRITICAL)
        with relib.watch() as session:
            session.on("reloaded", lambda event: sys.exit(3))
            for number in (2, 3):
                save("fast.pyx", f"def f(): return {number}")
                expect(session, "reloaded")
                assert fast.module.f() == number
        """,
    )


def test_a_callback_in_the_main_thread_may_end_the_program(watched: Project) -> None:
    run(
        watched,
        """
        with relib.watch(apply="poll") as session:
            session.on("reloaded", lambda event: sys.exit(3))
            save("fast.pyx", "def f(): return 2")
            try: session.wait(LONG, "unloaded")
            except SystemExit as exit: assert exit.code == 3
            else: raise AssertionError
            assert fast.module.f() == 2
        """,
    )


def test_a_callback_of_poll_may_stop_the_session_and_may_not_wait(watched: Project) -> None:
    run(
        watched,
        """
        from pathlib import Path
        def builds(): return len(list(Path(os.environ["RELIB_STORE"]).rglob("*.so")))
        said = []
        session = relib.watch(apply="poll")
        @session.on("reloaded")
        def stop(event):
            try: session.wait(LONG)
            except RuntimeError: said.append("refused")
            before = builds()
            save("fast.pyx", "def f(): return 'built while a callback runs'")
            # Its thread wants to hand that over now, or waits with something else already.
            end, tick = time.monotonic() + 5, threading.Event()
            while builds() == before and time.monotonic() < end: tick.wait(0.01)
            session.stop(timeout=None)
            said.append("stopped")
        save("fast.pyx", "def f(): return 2")
        until(lambda: session.ready, LONG)
        session.poll()
        assert said == ["refused", "stopped"] and fast.module.f() == 2
        """,
    )


def test_listeners_that_fail_do_not_fail_what_they_are_told_of(watched: Project) -> None:
    run(
        watched,
        """
        from relib.live.loaded import on_noted
        from relib.live.retired import on_unloaded
        logging.disable(logging.CRITICAL)
        def fail(*_): raise OSError("no descriptors left")
        on_noted(fail)
        on_unloaded(fail)
        save("fast.pyx", "def f(): return 2")
        report = fast.reload()
        assert (report.pins, fast.module.f()) == ((), 2)
        """,
    )


# --- compilers -----------------------------------------------------------------------------------


def test_two_extensions_are_built_at_the_same_time(watched: Project) -> None:
    """Neither compiler goes on without the other."""
    for name in ("one", "two"):
        os.mkfifo(watched.root / f"{name}.pipe")
        watched.write(f"{name}.c", C_MODULE.replace("PyInit_native", f"PyInit_{name}"))
    watched.write("answer.h", "#define ANSWER 1")
    watched.environ |= compiler(
        watched,
        """
        if [ -e meet ]; then
            case "$*" in
                *one.c*) echo > two.pipe; read x < one.pipe;;
                *two.c*) read x < two.pipe; echo > one.pipe;;
            esac
        fi
        """,
    )
    watched.environ |= {"RELIB_JOBS": "2", "RELIB_COMPILE_TIMEOUT": "60"}
    run(
        watched,
        """
        one, two = relib.load("one.c"), relib.load("two.c")
        texts = {name: open(name).read() for name in ("one.c", "two.c")}
        save("meet", "")
        with relib.watch() as session:
            session.pause()
            for name, text in texts.items():
                save(name, text.replace("ANSWER)", "ANSWER + 1)"))
            session.resume()
            assert {expect(session, "reloaded").name for _ in "12"} == {"one", "two"}
            assert one.module.answer == two.module.answer == 2
        """,
    )


def test_a_compiler_that_hangs_loses_its_save_and_not_the_next(watched: Project) -> None:
    watched.write("answer.h", "#define ANSWER 1")
    watched.write("native.c", C_MODULE)
    watched.environ |= compiler(watched, "grep -q HANG native.c && sleep 1000")
    watched.environ["RELIB_COMPILE_TIMEOUT"] = "2"
    run(
        watched,
        """
        native = relib.load("native.c")
        text = open("native.c").read()
        with relib.watch() as session:
            save("native.c", text + "/* HANG */")
            event = expect(session, "build_failed")
            assert isinstance(event.error, relib.BuildTimeout) and native.module.answer == 1
            save("native.c", text.replace("ANSWER)", "ANSWER + 1)"))
            expect(session, "reloaded")
            assert native.module.answer == 2
        """,
    )


def test_the_program_goes_on_while_a_compiler_runs(watched: Project) -> None:
    """The compiler waits for the main thread, and so for the GIL."""
    watched.write("answer.h", "#define ANSWER 1")
    watched.write("native.c", C_MODULE)
    os.mkfifo(watched.root / "pipe")
    watched.environ |= compiler(watched, "[ -e wait ] && read x < pipe")
    run(
        watched,
        """
        native = relib.load("native.c")
        text = open("native.c").read()
        save("wait", "")
        with relib.watch() as session:
            save("native.c", text.replace("ANSWER)", "ANSWER + 1)"))
            with open("pipe", "w") as pipe: pipe.write("\\n")
            expect(session, "reloaded")
            assert native.module.answer == 2
        """,
    )


def test_stopping_ends_the_compiler(watched: Project) -> None:
    watched.write("answer.h", "#define ANSWER 1")
    watched.write("native.c", C_MODULE)
    os.mkfifo(watched.root / "pipe")
    watched.environ |= compiler(watched, "[ -e wait ] && echo $$ > pipe && exec sleep 1000")
    run(
        watched,
        """
        native = relib.load("native.c")
        save("wait", "")
        with relib.watch() as session:
            save("native.c", open("native.c").read() + "/* */")
            with open("pipe") as pipe: number = int(pipe.read())
        until(lambda: not os.path.exists(f"/proc/{number}"))
        assert not any("relib-session" in thread.name for thread in threading.enumerate())
        """,
    )


# --- processes -----------------------------------------------------------------------------------


def test_the_workers_of_a_server_reload_what_one_of_them_has_built(
    watched: Project, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    watched.environ |= compiler(watched, f'printf "%s\\n" "$*" >> {calls}')
    script = """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)     # threads and fork, from 3.12 on
        session = relib.watch()
        read, write = os.pipe()
        children = []
        for _ in range(3):
            child = os.fork()
            if child == 0:
                session.start()
                until(lambda: fast.module.f() == "served", LONG)
                os.write(write, b"!")
                os._exit(0)
            children.append(child)
        save("fast.pyx", "def f(): return 'served'")
        until(lambda: fast.module.f() == "served", LONG)
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
        assert os.read(read, 10) == b"!!!"
    """
    watched.write("fast.pyx", "def f(): return 'not yet served'")
    watched.run("relib.load('fast.pyx')")
    before = compiled(calls)
    run(watched, script)
    assert compiled(calls) == before + 1


def test_a_child_that_is_forked_during_an_upgrade_can_upgrade(watched: Project) -> None:
    watched.write("other.pyx", "def f(): return 1")
    run(
        watched,
        """
        import types, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        other = relib.load("other.pyx")
        gate = sys.modules["gate"] = types.ModuleType("gate")
        inside, go_on = threading.Event(), threading.Event()
        def pass_through(): inside.set(); go_on.wait(LONG)
        gate.pass_through = pass_through
        save("fast.pyx", "import gate\\ngate.pass_through()\\ndef f(): return 2")
        save("other.pyx", "def f(): return 2")
        thread = threading.Thread(target=fast.reload)
        thread.start()
        inside.wait(LONG)
        child = os.fork()
        if child == 0:
            other.reload()
            os._exit(other.module.f())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
        go_on.set()
        thread.join()
        assert fast.module.f() == 2
        """,
    )


def test_a_child_that_stops_its_session_builds_for_itself(watched: Project) -> None:
    watched.write("other.pyx", "def f(): return 1")
    watched.environ["RELIB_TIER"] = "auto"
    run(
        watched,
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        session = relib.watch()
        child = os.fork()
        if child == 0:
            session.stop()
            os._exit(0 if relib.load("other.pyx").build.tier == "optimized" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """,
    )
