"""`relib run` runs a program as python does, and reloads; `relib watch` rebuilds without one."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import HERE, Project

PYTHON = [sys.executable]
RELIB = [sys.executable, "-m", "relib"]


@pytest.fixture
def place(project: Project) -> Project:
    """A project whose processes are not told by conftest.py to find anything."""
    project.write("pyproject.toml", "")
    support = str(HERE / "support")
    paths = project.environ["PYTHONPATH"].split(os.pathsep)
    project.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path != support)
    return project


def ran(
    place: Project, command: list[str], text: str = "", **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=place.root,
        env={**place.environ, **environ},
        input=text,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


# --- as under python -----------------------------------------------------------------------------

LOOK = """
    import inspect, os, sys
    import __main__
    spec = __main__.__spec__ and __main__.__spec__.name
    print(sys.argv, sys.path, sys.orig_argv[1:], sys.flags, __name__, spec)
    print(getattr(__main__, "__file__", None), sorted(vars(__main__)))
    print(sorted(os.environ.items()))
    print(len(inspect.stack()), os.getcwd(), __debug__)
"""

PROGRAMS = {
    "look": (LOOK, ["program.py", "-v", "--json", "a b"]),
    "module": (LOOK, ["-m", "program", "-m", "x"]),
    "package": ("", ["-m", "pkg", "--store", "y"]),
    "directory": ("", ["pkg", "z"]),
    "code": ("", ["-c", "import sys; print(sys.argv, sys.path)", "-q"]),
    "stdin as program": ("", ["-", "1", "2"]),
    "stdin": ("print(input(), input())", ["program.py"]),
    "exit status": ("import sys; sys.exit(7)", ["program.py"]),
    "exit text": ("raise SystemExit('said at the end')", ["program.py"]),
    "os._exit": ("import os; os._exit(9)", ["program.py"]),
    "killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", ["program.py"]),
    "interrupted": ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", ["program.py"]),
    "traceback": ("def f(): return 1 / 0\ndef g(): f()\ng()", ["program.py"]),
    "syntax error": ("def f(:", ["program.py"]),
    "no such file": ("", ["missing.py"]),
    "no such module": ("", ["-m", "missing"]),
    "failing import": ("import broken", ["program.py"]),
    "at exit": ("import atexit; atexit.register(print, 'end'); print('begin')", ["program.py"]),
    "pickle": (
        "import pickle, sys\nclass C: pass\nprint(pickle.loads(pickle.dumps(C())).__class__)",
        ["program.py"],
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_runs_as_under_python(place: Project, name: str) -> None:
    text, arguments = PROGRAMS[name]
    place.write("program.py", text)
    place.write("broken.py", "import json\n1 / 0")
    place.write("pkg/__init__.py", "")
    place.write("pkg/__main__.py", LOOK)
    stdin = "import sys; print(sys.argv)\n" if name == "stdin as program" else "one\ntwo\n"
    plain = ran(place, [*PYTHON, *arguments], stdin, PYTHONDONTWRITEBYTECODE="")
    under = ran(place, [*RELIB, "run", *arguments], stdin, PYTHONDONTWRITEBYTECODE="")
    assert under.stdout == plain.stdout
    assert under.stderr == plain.stderr
    assert under.returncode == plain.returncode


@pytest.mark.parametrize(
    "options",
    [
        ["-O", "-W", "error", "-X", "dev"],
        ["-usPB", "-Xutf8=0", "-Xno_debug_ranges"],
        ["-i", "-q", "--check-hash-based-pycs", "always"],
    ],
)
def test_pythons_own_options_are_passed_on(place: Project, options: list[str]) -> None:
    place.write("program.py", "import sys; print(sys.flags, sys.warnoptions, sys._xoptions)")
    plain = ran(place, [*PYTHON, *options, "program.py"], "print('typed')")
    under = ran(
        place, [sys.executable, *options, "-m", "relib", "run", "program.py"], "print('typed')"
    )
    assert under.stdout == plain.stdout
    assert under.returncode == plain.returncode
    assert ("typed" in under.stdout) == ("-i" in options)


def test_python_without_site_is_refused(place: Project) -> None:
    """There the hook would not be installed, and nobody would know."""
    place.write("program.py", "print('ran')")
    place.environ["PYTHONPATH"] += os.pathsep + os.pathsep.join(sys.path)
    under = ran(place, [sys.executable, "-S", "-m", "relib", "run", "program.py"])
    assert (under.returncode, under.stdout) == (2, "")
    assert "-S" in under.stderr


def test_a_sitecustomize_of_the_users_own_has_its_turn(place: Project) -> None:
    place.write("custom/sitecustomize.py", "print('customized', __name__)")
    place.write("program.py", "import sitecustomize; print(sitecustomize.__file__)")
    place.environ["PYTHONPATH"] += os.pathsep + str(place.root / "custom")
    plain = ran(place, [*PYTHON, "program.py"])
    under = ran(place, [*RELIB, "run", "program.py"])
    assert under.stdout.replace("customized sitecustomize\n", "", 1) == plain.stdout
    assert "custom/sitecustomize.py" in under.stdout


def test_a_sitecustomize_that_fails_does_not_keep_the_hook_away(place: Project) -> None:
    place.write("custom/sitecustomize.py", "1 / 0")
    place.write("fast.pyx", "VALUE = 1")
    place.write("program.py", "import fast; print(fast.VALUE)")
    place.environ["PYTHONPATH"] += os.pathsep + str(place.root / "custom")
    under = ran(place, [*RELIB, "run", "program.py"])
    assert (under.stdout, under.returncode) == ("1\n", 0)
    assert "ZeroDivisionError" in under.stderr


def test_processes_that_it_starts_are_plain(place: Project) -> None:
    place.write("fast.pyx", "")
    place.write(
        "program.py",
        """
        import subprocess, sys
        code = "import sys; print([f for f in sys.meta_path if 'relib' in repr(f)])"
        subprocess.run([sys.executable, "-c", code], check=True)
        """,
    )
    assert ran(place, [*RELIB, "run", "program.py"]).stdout == "[]\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_worker_of_multiprocessing_imports_through_relib(place: Project, method: str) -> None:
    place.write("fast.pyx", "def double(x): return 2 * x")
    place.write(
        "program.py",
        f"""
        import multiprocessing, fast
        if __name__ == "__main__":
            context = multiprocessing.get_context({method!r})
            context.set_forkserver_preload(["__main__"])  # as it is from Python 3.14 on
            with context.Pool(1) as pool:
                print(pool.map(fast.double, [21]))
        """,
    )
    under = ran(place, [*RELIB, "run", "program.py"])
    assert (under.stdout, under.returncode) == ("[42]\n", 0), under.stderr


# --- with extensions -----------------------------------------------------------------------------


def test_an_import_that_does_not_build_shows_the_program_alone(place: Project) -> None:
    place.write("fast.pyx", "def answer():\n    return +\n")
    place.write("program.py", "import fast\n")
    under = ran(place, [*RELIB, "run", "program.py"])
    assert under.returncode == 1
    assert 'program.py", line 1, in <module>\n    import fast\n' in under.stderr
    assert "fast.pyx:2:" in under.stderr
    assert "relib/" not in under.stderr


def test_the_scripts_project_is_served(place: Project) -> None:
    place.write("elsewhere/pyproject.toml", '[tool.relib.extensions]\ndeclared = "some.pyx"')
    place.write("elsewhere/some.pyx", "VALUE = 1")
    place.write("elsewhere/tools/lone.pyx", "VALUE = 2")
    place.write(
        "elsewhere/tools/program.py", "import declared, lone; print(declared.VALUE, lone.VALUE)"
    )
    under = ran(place, [*RELIB, "run", "elsewhere/tools/program.py"])
    assert under.stdout == "1 2\n", under.stderr


FOLLOWED = """
    import sys, fast
    from fast import answer
    print(answer(), flush=True)
    for line in sys.stdin:
        print(answer(), flush=True)
"""


@contextmanager
def following(place: Project, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A program that says what fast.answer() is whenever it gets a line."""
    place.environ["RELIB_TIER"] = "instant"  # else optimized builds follow, and are told of
    place.write("fast.pyx", "def answer(): return 1\n")
    place.write("program.py", FOLLOWED)
    process = started(place, ["run", *options, "program.py"])
    try:
        yield process
    finally:
        process.kill()
        ended(process)


def started(place: Project, arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*RELIB, *arguments],
        cwd=place.root,
        env=place.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> int:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    return process.wait(60)


def asked(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_save_is_one_line_and_a_new_answer(place: Project) -> None:
    with following(place) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "1\n"
        place.write("fast.pyx", "def answer(): return 2\n")
        assert process.stderr.readline().startswith("fast v2 · ")
        assert asked(process) == "2"
        place.write("fast.pyx", "def answer(): return +\n")
        shown = [process.stderr.readline() for _ in range(4)]
        assert shown[0].startswith("fast.pyx:1:")
        assert "def answer(): return +" in shown[1]
        assert shown[3] == "not reloaded · fast v2 still running\n"
        assert asked(process) == "2"
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0


def test_json_lines_on_stderr(place: Project) -> None:
    with following(place, "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "1\n"
        place.write("fast.pyx", "def answer(): return 2\n")
        kinds = []
        while "reloaded" not in kinds:
            kinds.append(json.loads(process.stderr.readline())["kind"])
        assert asked(process) == "2"


def test_without_watching_nothing_changes(place: Project) -> None:
    with following(place, "--no-watch") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "\nThreads:\t1\n" in status  # nobody who could see the save
        place.write("fast.pyx", "def answer(): return 2\n")
        assert asked(process) == "1"


@pytest.mark.parametrize("option", ["--polling", "--events=inotify", "--events=watchdog"])
def test_what_tells_of_changes_can_be_chosen(place: Project, option: str) -> None:
    with following(place, option) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "1\n"
        place.write("fast.pyx", "def answer(): return 2\n")
        assert process.stderr.readline().startswith("fast v2 · ")


def test_ctrl_c_ends_the_program_as_it_does_under_python(place: Project) -> None:
    with following(place) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGINT  # which shells make 130 of
        assert errors.endswith("KeyboardInterrupt\n")
        assert "relib" not in errors


def test_wrong_usage_is_said_before_anything_runs(place: Project) -> None:
    place.write("program.py", "print('ran')")
    for options in (["--jobs", "none"], ["--nothing"], ["-m", "-c"], ["-v", "-q"]):
        under = ran(place, [*RELIB, "run", *options, "program.py"])
        assert (under.returncode, under.stdout) == (2, ""), options
        assert "Usage:" in under.stderr
    assert ran(place, [*RELIB, "run"]).returncode == 2
    place.write("pyproject.toml", "[tool.relib]\nnothing = 1")
    under = ran(place, [*RELIB, "run", "program.py"])
    assert (under.returncode, under.stdout) == (2, "")
    assert "there is no such setting" in under.stderr


# --- relib watch ---------------------------------------------------------------------------------


@contextmanager
def watching(place: Project, *options: str) -> Iterator[subprocess.Popen[str]]:
    process = started(place, ["watch", *options])
    try:
        yield process
    finally:
        process.terminate()
        ended(process)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


@pytest.mark.parametrize("events", ["auto", "watchdog"])
def test_watch_builds_what_is_declared_and_what_changes(place: Project, events: str) -> None:
    place.write("pyproject.toml", '[tool.relib.extensions]\none = "one.pyx"\ntwo = "two.pyx"')
    place.write("one.pyx", "include 'part.pxi'\n")
    place.write("part.pxi", "VALUE = 1\n")
    place.write("two.pyx", "")
    with watching(place, "--events", events) as process:
        assert {line_of(process).split(" · ")[0] for _ in range(2)} == {"one", "two"}
        place.write("part.pxi", "VALUE = 2\n")
        assert line_of(process).startswith("one · ")
        place.write("one.pyx", "VALUE = +\n")
        assert process.stderr is not None
        assert process.stderr.readline().startswith("one.pyx:1:")
        place.write("one.pyx", "VALUE = 3\n")
        assert line_of(process).startswith("one · ")
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130


def test_watch_runs_a_command_after_each_good_build(place: Project) -> None:
    """It imports what has been built, although it knows nothing of relib."""
    place.write("fast.pyx", "VALUE = 1\n")
    command = f"{sys.executable} -c 'import fast; print(\"got\", fast.VALUE)'"
    with watching(place, "--json", "--exec", command) as process:

        def until_got() -> list[str]:
            lines = [line_of(process)]
            while not lines[-1].startswith("got"):
                assert process.poll() is None
                lines.append(line_of(process))
            return lines

        assert until_got()[-1] == "got 1"
        assert json.loads(line_of(process)) == {"kind": "command_ended", "status": 0}
        place.write("fast.pyx", "VALUE = 2\n")
        built, got = until_got()
        assert json.loads(built)["kind"] == "built"
        assert got == "got 2"
        line_of(process)
        place.write("fast.pyx", "VALUE = +\n")
        failed = json.loads(line_of(process))
        assert (failed["kind"], failed["error"]["type"]) == ("build_failed", "BuildError")
        place.write("fast.pyx", "VALUE = 3\n")
        assert until_got()[-1] == "got 3"


def test_what_the_command_imports_is_not_built_again(place: Project) -> None:
    """Not in it, and not in what it starts, which installs the hook itself."""
    place.write("fast.pyx", "VALUE = 1\n")
    look = "import relib, fast; print(fast.VALUE, relib.get('fast').build.cached, flush=True)"
    place.write("first.py", f"import subprocess, sys\n{look}\nsubprocess.run(sys.argv[1:])")
    place.write("second.py", f"import relib\nrelib.install()\n{look}")
    command = f"{sys.executable} first.py {sys.executable} second.py"
    with watching(place, "-q", "--exec", command) as process:
        assert [line_of(process) for _ in range(2)] == ["1 True", "1 True"]
        place.write("fast.pyx", "VALUE = 2\n")
        assert [line_of(process) for _ in range(2)] == ["2 True", "2 True"]


def test_watch_ends_the_command_that_still_runs_and_all_that_it_started(place: Project) -> None:
    place.write("fast.pyx", "VALUE = 1\n")
    command = "sleep 1000 & echo $!; wait"
    with watching(place, "-q", "--exec", command) as process:
        first = os.pidfd_open(int(line_of(process)))
        place.write("fast.pyx", "VALUE = 2\n")
        second = os.pidfd_open(int(line_of(process)))
        assert has_ended(first)
        process.terminate()
        assert process.wait(60) == 143
        assert has_ended(second)


def test_what_the_command_started_may_finish_when_the_shell_has_gone(place: Project) -> None:
    place.write("fast.pyx", "VALUE = 1\n")
    place.write(
        "careful.py",
        """
        import signal, sys
        def finish(*_):
            # the shell is gone by now: whoever waits for it alone would kill us here
            import os, select
            shell = os.getppid() == int(sys.argv[1]) and os.pidfd_open(int(sys.argv[1]))
            shell and select.select([shell], [], [])
            for _ in range(100_000):
                os.stat(".")
            open("finished", "w").close()
            sys.exit()
        signal.signal(signal.SIGTERM, finish)
        print("ready", flush=True)
        signal.pause()
        """,
    )
    with watching(place, "-q", "--exec", f"{sys.executable} careful.py $$ & wait") as process:
        assert line_of(process) == "ready"
        process.terminate()
        assert process.wait(60) == 143
        assert (place.root / "finished").exists()


def test_no_command_outlives_a_watch_that_is_ended_while_it_starts(project: Project) -> None:
    outcome = project.run(
        """
        import subprocess
        from relib.cli.after_build import AfterBuild

        class Ended(Exception):
            pass

        begin = subprocess.Popen.__init__

        def begin_and_be_interrupted(self, *args, **kwargs):
            begin(self, *args, **kwargs)
            numbers.append(self.pid)
            # what a signal handler raises comes in the main thread, and there at any step
            if threading.current_thread() is threading.main_thread():
                raise Ended

        def has_ended(number):
            try:
                return os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG) is not None
            except ChildProcessError:
                return True

        numbers = []
        subprocess.Popen.__init__ = begin_and_be_interrupted
        after = AfterBuild("exec sleep 1000 >/dev/null 2>&1", lambda status: None)
        try:
            after.start(os.environ)
        except Ended:
            pass
        after.end()
        say(all(map(has_ended, numbers)))
        """
    )
    assert outcome.value is True


def has_ended(process: int) -> bool:
    ready = select.select([process], [], [], 60)[0]
    os.close(process)
    return bool(ready)


def test_watch_looks_after_a_directory_of_another_project(place: Project) -> None:
    """What that one declares, which is no .pyx file."""
    place.write("elsewhere/pyproject.toml", '[tool.relib.extensions]\n"far.off" = "src/plain.c"')
    place.write(
        "elsewhere/src/plain.c",
        """
        #include <Python.h>
        static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "off", NULL, 0};
        PyMODINIT_FUNC PyInit_off(void) { return PyModule_Create(&definition); }
        """,
    )
    (place.root / "here").mkdir()
    with watching(place, "here/../elsewhere/src") as process:
        assert line_of(process).startswith("far.off · ")


def test_an_error_that_ends_it_is_json_too(place: Project) -> None:
    for command in (["watch"], ["run", "program.py"]):
        place.write("pyproject.toml", "[tool.relib]\nnothing = 1")
        under = ran(place, [*RELIB, *command[:1], "--json", *command[1:]])
        assert under.returncode == 2
        assert json.loads(under.stdout)["error"]["key"] == "nothing"


def test_watch_finds_files_that_are_new(place: Project) -> None:
    place.write("pyproject.toml", "")
    place.write("src/one.pyx", "")
    with watching(place, "src") as process:
        assert line_of(process).startswith("one · ")
        place.write("src/two.pyx", "")
        assert line_of(process).startswith("two · ")
        place.write("src/deep/er/three.pyx", "")
        assert line_of(process).startswith("three · ")
        place.write("src/three.pyx", "")
        assert process.stderr is not None
        assert "would both be three" in process.stderr.readline()
        (place.root / "src/three.pyx").unlink()
        place.write("src/two.pyx", "VALUE = 2")
        assert line_of(process).startswith("two · ")


def test_watch_sees_what_was_missing_wherever_it_is_put(place: Project) -> None:
    place.write("pyproject.toml", '[tool.relib.extensions.fast]\nsources = ["src/fast.c"]\n')
    with (place.root / "pyproject.toml").open("a") as file:
        file.write('include-dirs = ["include"]\n')
    (place.root / "include").mkdir()
    place.write(
        "src/fast.c",
        """
        #include "missing.h"
        static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "fast", NULL, 0};
        PyMODINIT_FUNC PyInit_fast(void) { return PyModule_Create(&definition); }
        """,
    )
    place.write("other.pyx", "VALUE = 1")
    with watching(place, "fast", "other.pyx") as process:
        assert process.stderr is not None
        assert line_of(process).startswith("other · ")
        assert "missing.h" in process.stderr.readline()
        place.write("other.pyx", "VALUE = 2")
        assert line_of(process).startswith("other · ")  # so the first round is over
        place.write("include/missing.h", "#include <Python.h>\n")
        assert line_of(process).startswith("fast · ")


def test_watch_says_that_there_is_nothing_to_watch(place: Project) -> None:
    under = ran(place, [*RELIB, "watch"])
    assert under.returncode == 2
    assert "nothing to watch" in under.stderr
