"""The processes that translate: killed, recycled, several at once, and without a memory."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from building_project import wait_for_end
from test_translate import (  # the project and the blocked source of translations
    Blocked,
    Project,
    blocked,
    environment,
    prelude,
    project,
)

from relib.building.pool import Pool, pool
from relib.errors import WorkerDied

__all__ = ["blocked", "project"]

WORKER = Path(str(importlib.util.find_spec("relib.building.worker").origin))  # type: ignore[union-attr]
RELIB = WORKER.parents[2]


@pytest.fixture(autouse=True)
def no_processes_from_before() -> None:
    pool.stop()


def unblock(project: Project) -> None:
    """Who comes next finds a file in the place of the pipe."""
    project.write("ready.pxi", "x = 1\n").replace(project.root / "pipe.pxi")


def test_a_build_does_not_fail_when_its_process_is_killed(
    project: Project, blocked: Blocked
) -> None:
    source, wait = blocked()
    with ThreadPoolExecutor() as executor:
        build = executor.submit(project.translate, source)
        end = wait()
        [pid] = pool.processes()
        unblock(project)
        os.kill(pid, signal.SIGKILL)
        assert build.result(60).c_file.exists()
        os.close(end)
    wait_for_end(pid)
    assert pid not in pool.processes()


def test_a_second_kill_in_mid_build_fails_that_build_only(
    project: Project, blocked: Blocked
) -> None:
    source, wait = blocked()
    other = project.write("other.pyx", "x = 1\n")
    with ThreadPoolExecutor() as executor:
        build = executor.submit(project.translate, source, options={"jobs": 2})
        ends = [wait()]
        [first] = pool.processes()
        # another translation does not wait for it
        done = Project(project.root / "elsewhere")
        done.root.mkdir()
        assert done.translate(other, options={"jobs": 2}).c_file.exists()
        assert len(pool.processes()) == 2
        os.kill(first, signal.SIGKILL)
        wait_for_end(first)
        ends.append(wait())
        for pid in pool.processes():
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="SIGKILL"):
            build.result(60)
        for end in ends:
            os.close(end)
    assert project.translate(other).c_file.exists()


def test_every_kill_is_survived(project: Project) -> None:
    source = project.write("fast.pyx", "x = 1\n")
    seen = set()
    for _ in range(3):
        project.translate(source)
        [pid] = pool.processes()
        seen.add(pid)
        os.kill(pid, signal.SIGKILL)
        wait_for_end(pid)
    assert project.translate(source).c_file.exists()
    assert len(seen) == 3


def test_as_many_translate_at_once_as_there_are_jobs(project: Project, blocked: Blocked) -> None:
    """Each of three waits for a pipe that is opened only when all three are at work."""
    source, wait = blocked()

    def translate(number: int) -> None:
        place = Project(project.root / str(number))
        place.root.mkdir()
        place.translate(source, options={"jobs": 3})

    with ThreadPoolExecutor(4) as executor:
        builds = [executor.submit(translate, number) for number in range(3)]
        ends = [wait()]
        deadline = time.monotonic() + 60
        while len(pool.processes()) < 3:
            assert not any(build.done() for build in builds)
            assert time.monotonic() < deadline, pool.processes()
            time.sleep(0.01)
        unblock(project)
        for pid in pool.processes():
            os.kill(pid, signal.SIGKILL)
        for build in builds:
            build.result(60)
        for end in ends:
            os.close(end)


def test_no_more_than_the_jobs(project: Project) -> None:
    own = Pool()
    sources = [project.write(f"m{number}.pyx", "x = 1\n") for number in range(6)]

    def ask(source: Path) -> int:
        request = {
            "source": str(source),
            "name": source.stem,
            "c_file": f"{source}.c",
            "cplus": False,
            "include_path": [],
            "directives": {},
            "shared": None,
            "sys_path": sys.path,
        }
        assert own.ask(request, version="any", timeout=60, jobs=2)["ok"]
        return len(own.processes())

    try:
        with ThreadPoolExecutor(6) as executor:
            assert max(executor.map(ask, sources)) <= 2
    finally:
        own.stop()


def test_a_process_that_has_grown_is_replaced_before_the_next_request(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RELIB__WORKER_MEMORY", str(1 << 20))
    source = project.write("fast.pyx", "x = 1\n")
    project.translate(source)
    [successor] = pool.processes()  # started already
    project.translate(source)
    [another] = pool.processes()
    assert another != successor
    wait_for_end(successor)


LEAVING_NOTHING = """
import gc, os, sys
sys.path.insert(0, {repository!r})
from relib.building.translation import Translator

root, translator, sizes = sys.argv[1], Translator(), []
sys.argv = ["worker"]
gc.disable()
for number in range(60):
    source = f"{{root}}/fast.pyx"
    with open(source, "w") as file:
        file.write("from libc.stdlib cimport malloc\\nfrom cpython.ref cimport PyObject\\n")
        file.write(f"cdef class A{{number}}:\\n    cdef int x\\n")
        file.write(f"    def f(self): return {{number}}\\n")
    request = dict.fromkeys(("cplus", "shared"))
    request |= dict(source=source, name="fast", c_file=f"{{root}}/fast.c", directives={{}})
    request |= dict(include_path=[root], sys_path=sys.path)
    assert translator.translate(request)["ok"]
    translator.settle()
    translator.improve()
    gc.collect()
    with open("/proc/self/statm") as file:
        sizes.append(int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE"))
print(sizes[20], sizes[-1])
"""


def test_memory_stays_bounded(project: Project) -> None:
    """What many translations leave behind is little, with declarations in stock."""
    ran = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            LEAVING_NOTHING.format(repository=str(RELIB)),
            str(project.root),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    before, after = map(int, ran.stdout.split())
    # for a thousand, 25 times as much as this would still be within bounds
    assert after - before < 8 << 20


MANY_REQUESTS = """
import os, resource, sys
sys.path.insert(0, {repository!r})
from relib.building.pool import Pool

root = sys.argv[1]

def ask(pool, number):
    source = f"{{root}}/fast.pyx"
    with open(source, "w") as file:
        for each in range(4):
            file.write(f"cdef class A{{number}}_{{each}}:\\n    cdef int x\\n")
            file.write(f"    def f{{number}}(self, y): return [self.x + y for _ in range(y)]\\n")
    request = dict.fromkeys(("cplus", "shared"))
    request |= dict(source=source, name="fast", c_file=f"{{root}}/fast.c", directives={{}})
    request |= dict(include_path=[root], sys_path=sys.path)
    assert pool.ask(request, version="any", timeout=60)["ok"]

def largest():  # of the processes that have ended: of those that translate
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024

first = Pool()
ask(first, 0)
first.stop()
bound = largest() + (40 << 20)
os.environ["RELIB__WORKER_MEMORY"] = str(bound)
pool = Pool()
for number in range(100):
    ask(pool, number)
pool.stop()
print(largest() - bound)
"""


def test_however_many_requests_come_a_process_keeps_its_bound(project: Project) -> None:
    """One after the other, with no time to tidy up: it is replaced when it has grown over it."""
    ran = subprocess.run(
        [sys.executable, "-c", MANY_REQUESTS.format(repository=str(RELIB)), str(project.root)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    # One translation more: that it has grown over its bound is found out afterwards.
    assert int(ran.stdout) < 16 << 20


# --- no state of one translation in the next -----------------------------------------------------

TRANSLATE_ALL = """
import json, sys
sys.argv = ["worker"]
sys.path.insert(0, {repository!r})
from relib.building.translation import Translator

translator, outcomes = Translator(), []
for request in json.load(sys.stdin):
    if request is None:  # nobody waits
        translator.settle()
        translator.improve()
        continue
    answer = translator.translate(request)
    text = open(request["c_file"], encoding="latin-1").read() if answer["ok"] else None
    del answer["absent"]
    outcomes.append([answer, text])
json.dump(outcomes, sys.stdout)
"""

SOURCES = {
    "counts.pyx": """
        from libc.stdlib cimport malloc, free
        from cpython.ref cimport PyObject, Py_INCREF
        cimport cython

        def f(double[:] values):
            cdef void* p = malloc(10)
            free(p)
            return values[0]
    """,
    "lists.pyx": """
        from cpython.list cimport PyList_GET_ITEM
        from libc.math cimport sin
        cdef extern from "stdio.h":
            int puts(const char*)
        def g(list x):
            puts(b"hello")
            return sin(len(x)), <object>PyList_GET_ITEM(x, 0)
    """,
    "whole.pyx": "cimport cpython\ndef h(x): return cpython.PyList_Check(x)\n",
    "times.pyx": """
        from cpython cimport datetime
        datetime.import_datetime()
        def now(): return datetime.datetime_new(1, 1, 1, 1, 1, 1, 1, None)
    """,
    "plain.pyx": "def i(x): return x\n",
    "wrong.pyx": "from libc.math cimport sin\ndef j(x): return sin(undeclared)\n",
}


def outcomes(project: Project, names: list[str | None]) -> dict[str, object]:
    """What the last translation of each source gives, in a process of its own."""
    requests: list[dict[str, object] | None] = [
        name
        and {
            "source": str(project.root / name),
            "name": name.removesuffix(".pyx"),
            "c_file": str(project.root / "out.c"),
            "include_path": [str(project.root)],
            "cplus": False,
            "directives": {},
            "shared": "relib._anchor.shared",
            "sys_path": [entry for entry in sys.path if entry],
        }
        for name in names
    ]  # type: ignore[misc]
    ran = subprocess.run(
        [sys.executable, "-P", "-c", TRANSLATE_ALL.format(repository=str(RELIB))],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=300,
        env=environment() | {"PYTHONHASHSEED": "0"},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    asked = [name for name in names if name is not None]
    return dict(zip(asked, json.loads(ran.stdout), strict=True))


@pytest.fixture
def corpus(project: Project) -> list[str]:
    names = dict(SOURCES)
    if importlib.util.find_spec("numpy") is not None:
        names["arrays.pyx"] = (
            "cimport numpy as np\nnp.import_array()\ndef k(np.ndarray a): return a\n"
        )
    for name, text in names.items():
        project.write(name, text)
    return list(names)


def test_declarations_in_stock_change_nothing(project: Project, corpus: list[str]) -> None:
    """The C, the messages and the inputs are what a process would give that did nothing before."""
    alone: dict[str, object] = {}
    for name in corpus:
        alone |= outcomes(project, [name])
    # One after the other, with time to make stocks after each; and then back, from stock.
    everything: list[str | None] = []
    for name in (*corpus, *corpus[::-1]):
        everything += [name, None]
    together = outcomes(project, everything)
    for name in corpus:
        assert together[name] == alone[name], name


def test_a_pxd_that_changes_is_read_again(project: Project) -> None:
    """Also one that takes the place of an installed one."""
    source = project.write("fast.pyx", "from libc.math cimport sin\ndef f(): return sin(1)\n")
    first = project.translate(source)
    assert [path.name for path in first.dependencies] == ["fast.pyx", "math.pxd"]
    for _ in range(2):
        assert project.translate(source).dependencies == first.dependencies
    mine = project.write(
        "libc/math.pxd", 'cdef extern from "math.h":\n    double sin "cos" (double)\n'
    )
    project.write("libc/__init__.pxd", "")
    changed = project.translate(source)
    assert mine in changed.dependencies
    assert "cos(1" in changed.c_file.read_text()
    mine.write_text('cdef extern from "math.h":\n    double sin "tan" (double)\n')
    assert "tan(1" in project.translate(source).c_file.read_text()
    mine.unlink()
    (mine.parent / "__init__.pxd").unlink()
    assert "sin(1" in project.translate(source).c_file.read_text()


# --- the end -------------------------------------------------------------------------------------


def test_all_of_them_end_with_the_program(project: Project, blocked: Blocked) -> None:
    """SIGKILL of the program: two processes, one at work, and one that is idle."""
    project.write("fast.pyx", "x = 1\n")
    _, wait = blocked()
    script = """
import threading, time
from concurrent.futures import ThreadPoolExecutor
config = load_config(root, {}, jobs=2)

def build(name):
    place = root / f"{name}.c"
    translate(Extension(name, (root / f"{name}.pyx",)), root / f"{name}.pyx", place, config=config)

threading.Thread(target=build, args=("blocked",)).start()
build("fast")
deadline = time.monotonic() + 60
while len(pool.processes()) < 2 and time.monotonic() < deadline: time.sleep(0.01)
print(*pool.processes(), flush=True)
signal.pause()
"""
    program = subprocess.Popen(
        [sys.executable, "-P", "-c", prelude(project.root) + script],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with program:
        end = wait()
        assert program.stdout is not None
        pids = [int(word) for word in program.stdout.readline().split()]
        assert len(pids) == 2
        program.kill()
        for pid in pids:
            wait_for_end(pid)
        os.close(end)


def test_it_needs_no_relib_that_can_be_imported(tmp_path: Path) -> None:
    """The process is given the program's search path, on which relib need not be."""
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(os.getpid())],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            cwd=tmp_path,
        )
        with process:
            theirs.close()
            without = tmp_path / "without"
            without.mkdir()
            for entry in RELIB.iterdir():
                if not entry.name.startswith("relib"):
                    (without / entry.name).symlink_to(entry)
            path = [str(without if Path(entry) == RELIB else entry) for entry in sys.path if entry]
            ours.sendall(json.dumps({"sys_path": path}).encode() + b"\n")
            assert json.loads(ours.makefile().readline()) == {"ready": True}
            ours.shutdown(socket.SHUT_WR)
            assert process.wait(60) == 0
