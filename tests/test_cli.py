"""The `relib` command: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HERE, Project

import relib
from relib.cli.exit_codes import FAILED, INTERRUPTED, OK, USAGE
from relib.cli.program import COMMANDS
from relib.config import SETTINGS

PYX = """
    def answer():
        return 41
"""
C = """
    #include <Python.h>
    #include "plain.h"
    static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "plain", NULL, 0};
    PyMODINIT_FUNC PyInit_plain(void) { return PyModule_Create(&definition); }
"""
PYPROJECT = """
    [tool.relib]
    cflags = "-O0 -g0 -DLEVEL=1"
    [tool.relib.extensions]
    fast = "fast.pyx"
    plain = "plain.c"
"""


class Cli:
    """Runs `relib` in a project that has a store of its own."""

    def __init__(self, project: Project) -> None:
        self.root = project.root / "project"
        self.root.mkdir()
        self.environ = {**project.environ, "COLUMNS": "80"}
        for name in ("RELIB_STORE", "CFLAGS", "NO_COLOR", "FORCE_COLOR", "TERM"):
            self.environ.pop(name, None)
        self._write = Project(self.root, self.environ).write

    def write(self, name: str, text: str) -> Path:
        return self._write(name, text)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "relib", *arguments]

    def __call__(
        self, *arguments: str, status: int = OK, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            self.command(*arguments),
            cwd=self.root,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ran.returncode == status, f"{ran.stdout}\n{ran.stderr}"
        assert "Traceback" not in ran.stderr
        return ran

    def json(self, *arguments: str, status: int = OK, **environ: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(
            self(*arguments, "--json", status=status, **environ).stdout
        )
        return document

    def on_terminal(self, *arguments: str, **environ: str) -> tuple[int, str]:
        """Run it on a terminal of its own; exit code and all that appeared there."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.root,
            env={**self.environ, "TERM": "xterm", **environ},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        shown = read_terminal(ours)
        return process.wait(60), shown


@pytest.fixture
def cli(project: Project) -> Cli:
    return Cli(project)


@pytest.fixture
def declared(cli: Cli) -> Cli:
    cli.write("pyproject.toml", PYPROJECT)
    cli.write("fast.pyx", PYX)
    cli.write("plain.h", "#define PLAIN 1\n")
    cli.write("plain.c", C)
    return cli


def read_terminal(terminal: int) -> str:
    """All that is shown on it until the last process has closed it."""
    shown = bytearray()
    try:
        while chunk := os.read(terminal, 1 << 16):
            shown += chunk
    except OSError:  # EIO: closed
        pass
    finally:
        os.close(terminal)
    return shown.decode()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- the program ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help(cli: Cli, command: str) -> None:
    snapshot = HERE / "help" / f"{command or 'relib'}.txt"
    told = cli(*filter(None, [command]), "--help").stdout
    if os.environ.get("UPDATE_SNAPSHOTS"):
        snapshot.parent.mkdir(exist_ok=True)
        snapshot.write_text(told)
    assert told == snapshot.read_text()


def test_every_setting_is_an_option_of_some_command(cli: Cli) -> None:
    told = "".join(cli(command, "--help").stdout for command in COMMANDS)
    assert [each.option for each in SETTINGS if f"  {each.option} {each.metavar}" not in told] == []


def test_version(cli: Cli) -> None:
    assert cli("--version").stdout == f"relib {relib.__version__}\n"


def test_the_installed_script_is_the_same_program(cli: Cli) -> None:
    script = Path(sys.executable).with_name("relib")
    if not script.exists():
        pytest.skip("relib is not installed in this environment")
    told = subprocess.run(
        [script, "--version"], capture_output=True, text=True, check=True, env=cli.environ
    )
    assert told.stdout == f"relib {relib.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bild"], "there is no command 'bild'; did you mean 'build'?"),
        (["build", "--no-such"], "--no-such"),
        (["build", "--jobs", "none"], "'--jobs': must be a whole number, 1 or more, not 'none'"),
        (["build", "--directives", "x"], "'--directives': must be Cython directives"),
        (["build", "nowhere.pyx"], "nowhere.pyx"),
        (["build", "nowhere"], "no extension 'nowhere' is declared"),
        (["build"], "declares no extension"),
        (["why"], "Missing argument 'NAME'"),
        (["demo", "--cycles", "0"], "--cycles"),
        (["bench", "--plot", "no/such/chart.svg"], "no/such is no directory"),
    ],
)
def test_wrong_usage(cli: Cli, arguments: list[str], message: str) -> None:
    ran = cli(*arguments, status=USAGE)
    assert message in ran.stderr
    assert ran.stdout == ""


def test_a_wrong_setting_says_where_it_is(cli: Cli) -> None:
    assert "RELIB_JOBS" in cli("clean", status=USAGE, RELIB_JOBS="many").stderr
    cli.write("pyproject.toml", "[tool.relib]\njob = 3\n")
    error = cli.json("clean", status=USAGE)["error"]
    assert (error["type"], error["key"]) == ("ConfigError", "job")
    assert error["origin"].endswith("pyproject.toml")


def test_a_reader_that_has_seen_enough_gets_no_traceback(cli: Cli) -> None:
    with subprocess.Popen(
        cli.command("--help"),
        cwd=cli.root,
        env=cli.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


# --- build ---------------------------------------------------------------------------------------


def test_build_builds_what_is_declared_and_then_finds_it(declared: Cli) -> None:
    first = [line.split() for line in declared("build").stdout.splitlines()]
    assert [(words[0], words[1]) for words in first] == [("fast", "built"), ("plain", "built")]
    assert all((declared.root / words[-1]).is_file() for words in first)

    again = [line.split() for line in declared("build").stdout.splitlines()]
    assert [words[1] for words in again] == ["cached", "cached"]
    assert [words[-1] for words in again] == [words[-1] for words in first]


def test_build_force_compiles_again(declared: Cli) -> None:
    assert not declared.json("build", "plain")["builds"][0]["cached"]
    assert declared.json("build", "plain")["builds"][0]["cached"]
    assert not declared.json("build", "plain", "--force")["builds"][0]["cached"]


def test_build_goes_on_after_an_error_and_shows_it_once_in_full(declared: Cli) -> None:
    declared.write("fast.pyx", "def answer():\n    return undeclared_name\n")
    ran = declared("build", status=FAILED)
    assert [line.split()[:2] for line in ran.stdout.splitlines()] == [
        ["fast", "failed"],
        ["plain", "built"],
    ]
    lines = ran.stderr.splitlines()
    at = lines.index("fast.pyx:2:12: error: undeclared name not builtin: undeclared_name")
    assert lines[at + 1 : at + 3] == ["    return undeclared_name", "           ^"]
    assert ran.stderr.count("undeclared name") == 1
    assert lines[-1].startswith("2 extensions: 1 built, 0 in the store already, 1 failed")


def test_build_shows_warnings_when_it_compiles(declared: Cli) -> None:
    declared.write("plain.h", "#warning look here\n")
    assert declared("build", "plain").stderr.count("warning: #warning look here") == 1
    assert declared("build", "plain").stderr == ""


def test_build_json(declared: Cli) -> None:
    declared.write("fast.pyx", "def answer(:\n")
    document = declared.json("build", status=FAILED)
    assert document["ok"] is False
    fast, plain = document["builds"]
    assert (fast["name"], fast["ok"], fast["error"]["type"]) == ("fast", False, "BuildError")
    [diagnostic] = fast["error"]["diagnostics"]
    assert diagnostic["file"] == str(declared.root / "fast.pyx")
    assert (diagnostic["line"], diagnostic["severity"]) == (1, "error")
    assert (plain["name"], plain["ok"], plain["cached"]) == ("plain", True, False)
    assert Path(plain["library"]).is_file()
    assert plain["seconds"]["compile"] > 0
    assert str(declared.root / "plain.h") in plain["inputs"]


def test_an_option_goes_before_the_environment_and_that_before_the_project(declared: Cli) -> None:
    declared.write("plain.h", "#if LEVEL != WANTED\n#error wrong level\n#endif\n")
    wanted = "--cppflags=-DWANTED="
    environ = {"RELIB_CFLAGS": "-O0 -DLEVEL=2"}
    declared("build", "plain", f"{wanted}1")
    declared("build", "plain", f"{wanted}2", **environ)
    declared("build", "plain", f"{wanted}3", "--cflags=-O0 -DLEVEL=3", **environ)
    declared("build", "plain", f"{wanted}3", status=FAILED)


def test_no_compiler_is_said_and_what_to_do(declared: Cli) -> None:
    ran = declared("build", "plain", "--cc", "no-such-compiler", status=FAILED)
    assert "no-such-compiler" in ran.stderr
    assert "CC" in ran.stderr


def test_colour_is_for_terminals(declared: Cli) -> None:
    declared.write("fast.pyx", "def answer(:\n")
    piped = declared("build", "fast", status=FAILED)
    assert "\x1b" not in piped.stdout + piped.stderr
    assert "\x1b[" in declared("build", "fast", status=FAILED, FORCE_COLOR="1").stderr

    status, shown = declared.on_terminal("build", "fast")
    assert status == FAILED
    assert "\x1b[1;31merror:" in shown
    status, shown = declared.on_terminal("build", "fast", NO_COLOR="1")
    assert status == FAILED
    assert "\x1b[1;31m" not in shown
    assert "error:" in shown


@pytest.mark.parametrize("command", ["build", "watch"])
@pytest.mark.parametrize("names", [["plain.c"], ["plain.c", "second.c"]])
def test_interrupting_a_build_ends_its_compilers(
    declared: Cli, command: str, names: list[str]
) -> None:
    declared.write("second.c", C.replace("plain", "second").replace("second.h", "plain.h"))
    script = declared.root / "slow-cc"
    script.write_text(
        f'#!/bin/sh\ncase " $* " in *" -c "*) echo $$ >{declared.root}/$$.new; '
        f"mv {declared.root}/$$.new {declared.root}/$$.pid\n"
        'exec sleep 600;; esac\nexec cc "$@"\n'
    )
    script.chmod(stat.S_IRWXU)
    process = subprocess.Popen(
        # without tcc
        declared.command(command, *names, "--cc", str(script), "--jobs", "2"),
        cwd=declared.root,
        env={**declared.environ, "RELIB_TIER": "optimized"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: len(list(declared.root.glob("*.pid"))) == len(names))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, errors
    assert errors.strip() == "Interrupted."
    for number in declared.root.glob("*.pid"):
        with pytest.raises(ProcessLookupError):
            os.kill(int(number.read_text()), 0)


@pytest.mark.parametrize("command", ["build", "watch"])
def test_two_sources_with_one_name_are_refused(cli: Cli, command: str) -> None:
    cli.write("a/fast.pyx", PYX)
    cli.write("b/fast.pyx", PYX)
    ran = cli(command, "a/fast.pyx", "b/fast.pyx", status=FAILED)
    assert ran.stdout == ""
    first, second = cli.root / "a/fast.pyx", cli.root / "b/fast.pyx"
    assert f"{first} and {second} would both be fast" in ran.stderr


def test_a_source_that_is_named_twice_is_built_once(declared: Cli) -> None:
    assert len(declared("build", "plain", "plain.c").stdout.splitlines()) == 1


PROGRESS = """
    from relib.cli import progress

    progress.PATIENCE = 0.001
    with progress.progress("building", 2) as bar:
        bar.advance()
        while bar._shown is None:
            time.sleep(0.001)
        bar.echo("one line of output")
        bar.advance()
"""


def test_progress_appears_on_a_terminal_when_it_takes_long(cli: Cli) -> None:
    script = cli.write("progress.py", PROGRESS.replace("    from", "    import time\n    from", 1))
    ours, theirs = pty.openpty()
    with (cli.root / "stdout").open("w") as stdout:
        process = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=cli.root,
            env={**cli.environ, "TERM": "xterm"},
            stdout=stdout,
            stderr=theirs,
        )
        os.close(theirs)
        shown = read_terminal(ours)
        assert process.wait(60) == 0
    assert "building" in shown
    assert (cli.root / "stdout").read_text() == "one line of output\n"


# --- why -----------------------------------------------------------------------------------------


def test_why(declared: Cli) -> None:
    assert "the store has no build of it" in declared("why", "plain").stdout
    declared("build", "plain")
    assert declared("why", "plain").stdout.startswith("plain: up to date (plain__r1_")
    assert declared.json("why", "plain.c")["needed"] is False

    declared.write("plain.h", "#define PLAIN 2\n")
    assert declared("why", "plain").stdout == "plain: would rebuild: plain.h changed\n"
    document = declared.json("why", "plain", "--cppflags=-DX")
    assert document["needed"] is True
    assert document["changed"] == ["plain.h"]
    assert "CFLAGS" in [each["name"] for each in document["settings"]]
    lines = declared("why", "plain", "--cppflags=-DX").stdout.splitlines()
    assert "  plain.h changed" in lines


def test_why_says_what_build_would_do_after_an_instant_build(declared: Cli) -> None:
    assert not declared.json("build", "plain", "--tier", "instant")["builds"][0]["cached"]
    assert declared("why", "plain").stdout == (
        "plain: would rebuild: tier changed from 'instant' to 'optimized'\n"
    )
    assert declared.json("why", "plain", "--tier", "instant")["needed"] is False
    assert not declared.json("build", "plain")["builds"][0]["cached"]
    assert declared.json("why", "plain")["needed"] is False


def test_why_builds_nothing(declared: Cli) -> None:
    declared("why", "plain")
    assert not (declared.root / ".relib" / "builds").exists()
    assert declared("why", "nowhere", status=USAGE).stdout == ""


# --- clean ---------------------------------------------------------------------------------------

HOLDER = """
    import sys
    import relib
    relib.load("plain.c")
    print("loaded", flush=True)
    sys.stdin.read()
"""


def test_clean_keeps_what_is_within_bounds(declared: Cli) -> None:
    declared("build", "plain")
    ran = declared("clean").stdout
    assert ran.startswith(".relib: 0 builds removed (0 bytes), 1 kept (")
    assert declared.json("clean", "--store-max-age", "0")["removed"] == 1


def test_clean_all_removes_everything_that_no_process_uses(declared: Cli) -> None:
    declared("build")
    script = declared.write("holder.py", HOLDER)
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=declared.root,
        env=declared.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "loaded\n"
        document = declared.json("clean", "--all")
        assert (document["removed"], document["kept"], document["held"]) == (1, 1, 1)
        assert document["freed"] > 0
        assert document["store"] == str(declared.root / ".relib")
        assert "because a process uses them" in declared("clean", "--all").stdout
    assert declared.json("clean", "--all")["kept"] == 0


KEEPER = """
import sys
import relib
fast = relib.load("fast.pyx")
held = fast.module.Held()
source = open("fast.pyx").read()
open("fast.pyx", "w").write(source.replace("return 1", "return 2"))
report = fast.reload()
assert not report.unloaded
print("reloaded", flush=True)
for line in sys.stdin:
    if line == "let go\\n":
        del held
        relib.reap()
        print(len(relib.retired()), flush=True)
    else:
        print(held.answer(), fast.module.Held().answer(), flush=True)
"""


def test_clean_keeps_what_a_process_has_retired_and_still_uses(declared: Cli) -> None:
    declared.write("fast.pyx", "cdef class Held:\n    def answer(self): return 1\n")
    script = declared.write("keeper.py", KEEPER)
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=declared.root,
        env=declared.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as keeper:
        assert keeper.stdin is not None
        assert keeper.stdout is not None

        def ask(question: str) -> str:
            keeper.stdin.write(f"{question}\n")  # type: ignore[union-attr]
            keeper.stdin.flush()  # type: ignore[union-attr]
            return keeper.stdout.readline()  # type: ignore[union-attr]

        assert keeper.stdout.readline() == "reloaded\n"
        document = declared.json("clean", "--all")
        assert (document["removed"], document["held"]) == (0, 2)
        assert ask("answer") == "1 2\n"
        assert ask("let go") == "0\n"
        document = declared.json("clean", "--all")
        assert (document["removed"], document["held"]) == (1, 1)
    assert declared.json("clean", "--all")["kept"] == 0


def test_clean_without_a_store(cli: Cli) -> None:
    assert cli("clean", "--all").stdout == (
        ".relib: 0 builds removed (0 bytes), 0 kept (0 bytes)\n"
    )


# --- doctor --------------------------------------------------------------------------------------


def test_doctor_finds_nothing_wrong(declared: Cli) -> None:
    document = declared.json("doctor")
    assert document["ok"] is True
    levels = {finding["topic"]: finding["level"] for finding in document["findings"]}
    assert (
        levels.items()
        >= {
            "Python headers": "ok",
            "relib._native": "ok",
            "Cython": "ok",
            "anchor": "ok",
            "C compiler": "ok",
            "optimized trial": "ok",
            "instant builds": "ok",
            "instant trial": "ok",
            "/proc": "ok",
            "threads": "ok",
            "project": "ok",
            "store": "ok",
        }.items()
    )
    assert declared("doctor").stdout.endswith("\nrelib works here\n")


def test_doctor_says_what_is_slow_and_how_to_mend_it(declared: Cli) -> None:
    document = declared.json("doctor", "--tier", "optimized", "--cflags=-O2 -g")
    [slow] = [each for each in document["findings"] if each["level"] == "slow"]
    assert slow["text"] == "-O2 -g in CFLAGS makes builds slow"
    assert 'tier = "auto"' in slow["advice"]
    assert document["ok"] is True


def test_doctor_has_nothing_against_optimisation_that_no_save_waits_for(declared: Cli) -> None:
    document = declared.json("doctor", "--cflags=-O2 -g", PATH=without("tcc", declared.root))
    assert not [each for each in document["findings"] if each["level"] == "slow"]
    [speed] = [each for each in document["findings"] if each["topic"] == "speed"]
    assert speed["advice"].startswith("apt install tcc")
    [instant] = [each for each in document["findings"] if each["topic"] == "instant builds"]
    assert "tcc" not in instant["text"]


def without(program: str, place: Path) -> str:
    """A PATH on which everything is but one program."""
    kept = []
    for number, directory in enumerate(os.environ["PATH"].split(os.pathsep)):
        if not Path(directory, program).exists():
            kept.append(directory)
            continue
        links = place / f".path-{number}"
        links.mkdir()
        for each in Path(directory).iterdir():
            if each.name != program:
                (links / each.name).symlink_to(each)
        kept.append(str(links))
    return os.pathsep.join(kept)


def test_doctor_fails_when_something_essential_is_missing(declared: Cli) -> None:
    ran = declared("doctor", "--cc", "no-such-compiler", status=FAILED)
    assert ran.stdout.endswith("\nrelib does not work here: C compiler\n")

    (declared.root / ".relib").mkdir(0o777)
    (declared.root / ".relib").chmod(0o777)
    document = declared.json("doctor", status=FAILED)
    [bad] = [each for each in document["findings"] if each["level"] == "bad"]
    assert bad["topic"] == "store"
    assert "others may write" in bad["text"]


def test_doctor_names_a_project_that_cannot_be_read(declared: Cli) -> None:
    declared.write("setup.py", "from setuptools import setup\nraise RuntimeError('not today')\n")
    document = declared.json("doctor", status=FAILED)
    [bad] = [each for each in document["findings"] if each["level"] == "bad"]
    assert bad["topic"] == "project"
    assert "not today" in bad["text"]


def test_doctor_leaves_nothing_behind(cli: Cli) -> None:
    temporary = cli.root / "tmp"
    temporary.mkdir()
    cli("doctor", TMPDIR=str(temporary))
    assert list(temporary.iterdir()) == []
    assert not (cli.root / ".relib").exists()


# --- demo ----------------------------------------------------------------------------------------


def test_demo_shows_what_it_claims(cli: Cli) -> None:
    temporary = cli.root / "tmp"
    temporary.mkdir()
    ran = cli("demo", "--cycles", "8", TMPDIR=str(temporary))
    assert "\x1b" not in ran.stdout
    assert "all 10 claims held" in ran.stdout
    assert "retired (" in ran.stdout  # the second scene's pin
    assert "checksum.pyx:8:" in ran.stdout  # the error that the third scene makes
    assert list(temporary.iterdir()) == []


def test_demo_on_a_terminal(cli: Cli) -> None:
    status, shown = cli.on_terminal("demo", "--cycles", "3")
    assert status == OK
    assert "edit 3 of 3" in shown
    assert "as it should be" in shown


def test_demo_keeps_its_project_when_asked(cli: Cli) -> None:
    temporary = cli.root / "tmp"
    temporary.mkdir()
    cli("demo", "--cycles", "1", "--keep", TMPDIR=str(temporary))
    [kept] = temporary.iterdir()
    assert (kept / "checksum.pyx").is_file()


def test_demo_fails_when_it_cannot_build(cli: Cli) -> None:
    ran = cli("demo", "--cc", "no-such-compiler", status=FAILED)
    assert "no-such-compiler" in ran.stderr


SPOILED = """
    import sys

    import relib.cli.demo_project as project
    import relib.cli.demo_scenes as scenes
    from relib.cli import main

    scenes._PATIENCE = 0.1  # for what will not happen
    keep = "builtins.kept = [*getattr(builtins, 'kept', []), words('')]"
    project._SOURCE += f"import builtins\\n{keep}"
    sys.exit(main(["demo", "--cycles", "2"]))
"""


def test_a_claim_that_does_not_hold_is_a_failure(cli: Cli) -> None:
    """Each version has the program keep a generator of it, of which the demo knows nothing."""
    script = cli.write("spoiled.py", SPOILED)
    ran = subprocess.run(
        [sys.executable, str(script)],
        cwd=cli.root,
        env=cli.environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == FAILED, ran.stdout + ran.stderr
    assert "✗ the old code was unmapped each time" in ran.stdout
