"""Several builds at once: their order, their errors, and what ends them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from textwrap import dedent

import pytest

from relib.building.ending import Ended, Ending
from relib.building.processes import run_all
from relib.building.several import several

ROOT = Path(__file__).parents[1]

# Two compilers that tell their numbers and never end, each in a thread of its own.
STUCK = """
import sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from relib.building.processes import run_all
from relib.building.several import several

def build(number):
    command = ["sh", "-c", "sleep 1000 & echo $$ $! > pipe; wait"]
    run_all([command], jobs=1, timeout=1000, cwd=Path.cwd())

def build_all():
    list(several(build, [1, 2], jobs=2))
"""


def ends(process: int) -> bool:
    """Whether a process that was killed is gone; it may be on its way out."""
    try:
        handle = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], 30)[0])
    finally:
        os.close(handle)


def started(place: Path, script: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A program, and the processes of the two compilers that run in it."""
    os.mkfifo(place / "pipe")
    pipe = os.open(place / "pipe", os.O_RDWR)
    program = subprocess.Popen(
        [sys.executable, "-c", STUCK + dedent(script), str(ROOT)],
        cwd=place,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[bytes] = []
    while len(lines) < 2:
        if not select.select([pipe], [], [], 60)[0]:
            program.kill()
            pytest.fail(program.communicate()[1])
        lines += os.read(pipe, 4096).splitlines()
    os.close(pipe)
    return program, [int(word) for line in lines for word in line.split()]


def test_results_come_in_the_order_of_the_items() -> None:
    second = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            assert second.wait(60)
        else:
            second.set()
        return item * 10

    assert list(several(work, [1, 2, 3], jobs=2)) == [10, 20, 30]
    assert list(several(str, [], jobs=4)) == []


def test_a_single_item_is_worked_on_where_it_is_asked_for() -> None:
    threads = list(several(lambda _: threading.current_thread(), [1], jobs=4))
    assert threads == [threading.current_thread()]


def test_the_first_error_in_order_is_raised_when_those_that_run_are_done() -> None:
    last_has_failed = threading.Event()
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            assert last_has_failed.wait(60)
            raise ValueError("the first")
        last_has_failed.set()
        raise ValueError("the last")

    with pytest.raises(ValueError, match="the first"):
        list(several(work, [1, 2, 3], jobs=2))
    assert begun == [1, 2]


def test_an_interrupt_ends_the_compilers_of_all(tmp_path: Path) -> None:
    script = """
        try:
            build_all()
        except KeyboardInterrupt:
            print("interrupted")
    """
    program, compilers = started(tmp_path, script)
    assert len(compilers) == 4
    program.send_signal(signal.SIGINT)
    output, errors = program.communicate(timeout=60)
    assert (output, errors, program.returncode) == ("interrupted\n", "", 0)
    assert all(ends(compiler) for compiler in compilers)


def test_the_end_of_the_program_ends_the_compilers(tmp_path: Path) -> None:
    """A program that is at its end does not wait until they have had their time."""
    script = """
        from relib.building.ending import Ended
        def run():
            try:
                build_all()
            except Ended:
                pass
        threading.Thread(target=run, daemon=True).start()
        sys.stdin.read()
    """
    program, compilers = started(tmp_path, script)
    output, errors = program.communicate(timeout=60)
    assert (output, errors, program.returncode) == ("", "", 0)
    assert all(ends(compiler) for compiler in compilers)


def test_what_a_thread_builds_can_be_ended_from_another(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    command = ["sh", "-c", "echo $$ > pipe; exec sleep 1000"]
    ending = Ending()
    raised: list[BaseException] = []

    def work(_: int) -> None:
        run_all([command], jobs=1, timeout=1000, cwd=tmp_path)

    def build() -> None:
        with ending.here():
            for run in (lambda: list(several(work, [1, 2], jobs=2)), lambda: work(1)):
                try:
                    run()
                except Ended as error:
                    raised.append(error)

    thread = threading.Thread(target=build, daemon=True)
    thread.start()
    with (tmp_path / "pipe").open() as pipe:
        compiler = int(pipe.readline())
    # the other one may still be about to open the pipe
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    ending.end()
    thread.join(60)
    os.close(reader)
    assert ends(compiler)
    assert len(raised) == 2, "the second was to be started after the end"


def test_the_compilers_of_a_parent_process_are_not_ended_by_its_child(tmp_path: Path) -> None:
    script = """
        import os, select
        thread = threading.Thread(target=build_all, daemon=True)
        thread.start()
        sys.stdin.readline()
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            thread.join(1)
            print(thread.is_alive(), flush=True)
            os._exit(0)
    """
    program, compilers = started(tmp_path, script)
    output, errors = program.communicate("\n", timeout=60)
    assert output == "True\n", errors
    for compiler in compilers:
        os.kill(compiler, signal.SIGKILL)
