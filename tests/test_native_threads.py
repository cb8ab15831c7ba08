"""Which threads relib._native finds inside a library, and which it does not.

Each scenario is a process of its own with a real library, loaded twice under two names: `inside` is
the one that is asked about, `outside` has the same code elsewhere.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from conftest import Project
from native_libraries import Scenario, compile_library

PRELUDE = """
import ctypes
from relib import _native
from native_process import *
inside, outside = Loaded(inside_path), Loaded(outside_path)
a, b = os.pipe()
stop = ctypes.c_int(0)
def found(library=inside):
    return _native.threads_inside(*library.range)
def see(expected, library=inside):
    wait_until_found(library, expected)
def how(tid):
    return dict(found()).get(tid)
def address(function):
    return ctypes.cast(function, ctypes.c_void_p)
"""


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("threads")
    inside = compile_library("threads", directory, "-O1", library="inside")
    outside = Path(shutil.copy(inside, directory / "outside.so"))
    return {"inside_path": inside, "outside_path": outside}


@pytest.fixture
def scenario(project: Project, libraries: dict[str, Path]) -> Scenario:
    return Scenario(project, PRELUDE, libraries)


# --- waiting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "argument", "call"),
    [
        ("wait_in_read", "a", "read"),
        ("wait_in_poll", "a", "poll"),
        ("wait_in_nanosleep", "ctypes.byref(stop)", "clock_nanosleep"),
    ],
)
def test_a_thread_that_waits_in_the_library_is_found(
    scenario: Scenario, function: str, argument: str, call: str
) -> None:
    scenario.run(f"""
t = begin(inside.{function}, {argument})
e = begin(outside.{function}, {argument})
wait_until_blocked(t.native_id, "{call}", "nanosleep")
wait_until_blocked(e.native_id, "{call}", "nanosleep")
see([(t.native_id, "stack")])
see([(e.native_id, "stack")], outside)
""")


def test_a_thread_that_has_come_out_of_the_library_is_not_found(scenario: Scenario) -> None:
    scenario.run("""
t = begin(inside.wait_in_read, a)
wait_until_blocked(t.native_id, "read")
see([(t.native_id, "stack")])
os.write(b, b"x")
t.join()
see([])
""")


def test_a_thread_that_was_in_the_library_and_waits_elsewhere_is_not_found(
    scenario: Scenario,
) -> None:
    scenario.run("""
before = set(others())
assert outside.start_visitor(inside.deep, a) == 0
until(lambda: len(set(others()) - before) == 1)
[tid] = set(others()) - before
wait_until_blocked(tid, "read")
see([])
see([(tid, "stack")], outside)
""")


def test_a_python_thread_that_called_and_now_waits_is_not_found(scenario: Scenario) -> None:
    scenario.run("""
event, ready = threading.Event(), threading.Event()
def visit():
    for _ in range(100):
        inside.deep(3)
    ready.set()
    event.wait()
t = begin(visit)
ready.wait()
wait_until_blocked(t.native_id, "futex")
see([])
""")


def test_a_thread_in_a_callback_from_the_library_is_found(scenario: Scenario) -> None:
    scenario.run("""
event, ready = threading.Event(), threading.Event()
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
def callback(_):
    ready.set()
    event.wait()
    return 7
result = []
t = begin(lambda: result.append(inside.call(callback, None)))
ready.wait()
wait_until_blocked(t.native_id, "futex")
see([(t.native_id, "stack")])
see([], outside)
event.set()
t.join()
assert result == [7]
see([])
""")


def test_a_thread_that_waits_for_a_lock_of_the_library_is_found(scenario: Scenario) -> None:
    scenario.run("""
inside.own_mutex.restype = ctypes.c_void_p
mutex = ctypes.c_void_p(inside.own_mutex())
libc = ctypes.CDLL(None)
libc.pthread_mutex_lock(mutex)
t = begin(outside.lock_and_unlock, mutex)
wait_until_blocked(t.native_id, "futex")
see([(t.native_id, "stack")])
libc.pthread_mutex_unlock(mutex)
t.join()
see([])
""")


def test_a_signal_handler_that_waits_is_found_and_so_is_the_code_it_interrupted(
    scenario: Scenario,
) -> None:
    scenario.run("""
# The loop calls nothing: that it was interrupted is in the frame of the signal alone.
assert outside.wait_in_handler(signal.SIGUSR1, a) == 0
t = begin(inside.spin, ctypes.byref(stop))
wait_until_running(t.native_id)
until(lambda: how(t.native_id) == "running")
signal.pthread_kill(t.ident, signal.SIGUSR1)
wait_until_blocked(t.native_id, "read")
assert how(t.native_id) == "stack"
see([(t.native_id, "stack")], outside)
stop.value = 1
os.write(b, b"x")
t.join()
see([])
""")


def test_threads_that_wait_are_not_disturbed(scenario: Scenario) -> None:
    """Each of these calls fails with EINTR when a signal comes, whatever its handler's flags."""
    scenario.run("""
results = []
def waiter(function, argument):
    results.append(function(argument))
threads = [begin(waiter, getattr(library, name), value)
           for library in (inside, outside)
           for name, value in (("wait_in_read", a), ("wait_in_poll", a), ("sleep_once", 1500))]
for t in threads:
    wait_until_blocked(t.native_id, "read", "poll", "nanosleep", "clock_nanosleep")
for _ in range(50):
    assert {tid for tid, _ in found()} >= {t.native_id for t in threads[:2]}
    assert {tid for tid, _ in found(outside)} >= {t.native_id for t in threads[3:5]}
os.write(b, b"xxxx")
for t in threads:
    t.join()
assert len(results) == 6 and min(results) >= 0, results
""")


# --- running -------------------------------------------------------------------------------------


def test_a_thread_that_runs_in_the_library_is_found(scenario: Scenario) -> None:
    scenario.run("""
t = begin(inside.spin, ctypes.byref(stop))
until(lambda: found() == [(t.native_id, "running")])
stop.value = 1
t.join()
see([])
""")


def test_a_thread_that_runs_elsewhere_is_not_found(scenario: Scenario) -> None:
    scenario.run("""
t = begin(outside.spin, ctypes.byref(stop))
until(lambda: found(outside) == [(t.native_id, "running")])
see([])
for _ in range(20):
    assert found() in ([], [(t.native_id, "unknown")])
stop.value = 1
t.join()
""")


def test_a_thread_that_runs_elsewhere_called_from_the_library_is_found(scenario: Scenario) -> None:
    scenario.run("""
t = begin(inside.call, address(outside.spin), ctypes.byref(stop))
until(lambda: found() == [(t.native_id, "stack")])
stop.value = 1
t.join()
""")


def test_a_running_thread_that_blocks_all_signals_is_unknown(scenario: Scenario) -> None:
    scenario.run("""
t = begin(outside.spin_deaf, ctypes.byref(stop))
wait_until_running(t.native_id)
def deaf():
    text = open(f"/proc/self/task/{t.native_id}/status").read()
    return int(text.split("SigBlk:")[1].split()[0], 16) >> 40
until(deaf)
see([(t.native_id, "unknown")])
see([(t.native_id, "unknown")], outside)
stop.value = 1
t.join()
see([])
""")


def test_the_signal_that_is_used_is_given_back(scenario: Scenario) -> None:
    scenario.run("""
t = begin(outside.spin, ctypes.byref(stop))
wait_until_running(t.native_id)
for _ in range(20):
    found()
number = signal.SIGRTMAX - 3
def has(field):
    text = open("/proc/self/status").read()
    return int(text.split(field)[1].split()[0], 16) >> (number - 1) & 1
assert not has("SigCgt:") and not has("SigIgn:")
# It is not taken from someone who uses it.
received = []
signal.signal(number, lambda *_: received.append(1))
until(lambda: found(outside) == [(t.native_id, "running")])
see([])
assert has("SigCgt:") and not received
signal.raise_signal(number)
assert received == [1]
stop.value = 1
t.join()
""")


# --- threads of the library's own ----------------------------------------------------------------


def test_a_detached_thread_of_the_librarys_own_is_found(scenario: Scenario) -> None:
    scenario.run("""
before = set(others())
assert inside.start_reader(a) == 0
[tid] = set(others()) - before
wait_until_blocked(tid, "read")
see([(tid, "stack")])
os.write(b, b"x")
until(lambda: tid not in others())
see([])
""")


def test_a_thread_that_was_started_with_a_function_of_the_library_is_found(
    scenario: Scenario,
) -> None:
    """Even when nothing on its stack or in its registers says so."""
    scenario.run("""
before = set(others())
assert inside.start_leaver(outside.read_for_ever, a) == 0
[tid] = set(others()) - before
wait_until_blocked(tid, "read")
see([(tid, "start")])
see([(tid, "stack")], outside)
""")


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        ("inside.address_of_reader()", "a"),
        # As std::thread does: a function elsewhere, and what it is to call in its argument.
        ("outside.address_of_leaver()", "ctypes.addressof(leave)"),
    ],
)
def test_a_thread_that_has_not_begun_to_run_is_found(
    scenario: Scenario, function: str, argument: str
) -> None:
    scenario.run(f"""
class Leave(ctypes.Structure):
    _fields_ = [("to", ctypes.c_void_p), ("argument", ctypes.c_void_p)]
leave = Leave(address(inside.read_for_ever), a)
inside.address_of_reader.restype = outside.address_of_leaver.restype = ctypes.c_void_p
listener = []
def create():
    listener.append(outside.hold(BLOCKING["sched_setaffinity"]))
    if listener[0] >= 0:
        function, argument = {function}, {argument}
        outside.start_with_processors(ctypes.c_void_p(function), ctypes.c_void_p(argument))
before = set(others())
creator = begin(create)
until(lambda: listener)
if listener[0] < 0:
    say("seccomp does not allow it")
    os._exit(0)
wait_until_blocked(creator.native_id, "sched_setaffinity")
until(lambda: len(set(others()) - before) == 2)
[tid] = set(others()) - before - {{creator.native_id}}
wait_until_blocked(tid, "futex")
see([(tid, "start")])
assert outside.let_go(listener[0]) == 0
wait_until_blocked(tid, "read")
see([(tid, "stack")])
""")


def test_two_hundred_threads(scenario: Scenario) -> None:
    scenario.run("""
inside.address_of_reader.restype = outside.address_of_reader.restype = ctypes.c_void_p
before = set(others())
assert outside.start_many(190, ctypes.c_void_p(outside.address_of_reader()), a) == 0
middle = set(others())
assert outside.start_many(10, ctypes.c_void_p(inside.address_of_reader()), a) == 0
last = set(others())
for tid in last - before:
    wait_until_blocked(tid, "read")
see([(tid, "stack") for tid in last - middle])
see([(tid, "stack") for tid in middle - before], outside)
""")


def test_threads_that_come_and_go_do_no_harm(scenario: Scenario) -> None:
    scenario.run("""
for _ in range(3):
    assert outside.start_breeder(ctypes.byref(stop)) == 0
for _ in range(60):
    assert all(state == "unknown" for _, state in found()), found()
stop.value = 1
until(lambda: len(others()) == 1)
see([])
""")


# --- stacks elsewhere ----------------------------------------------------------------------------


def test_a_coroutine_in_the_library_is_found(scenario: Scenario) -> None:
    scenario.run("""
stack = ctypes.create_string_buffer(262144)
def run():
    outside.on_other_stack(stack, ctypes.c_size_t(len(stack)), inside.read_on_stack, a)
t = begin(run)
wait_until_blocked(t.native_id, "read")
assert how(t.native_id) == "stack"
""")


def test_a_call_that_is_suspended_while_its_thread_runs_a_coroutine_is_found(
    scenario: Scenario,
) -> None:
    scenario.run("""
stack = ctypes.create_string_buffer(262144)
class Excursion(ctypes.Structure):
    _fields_ = [("run", ctypes.c_void_p), ("stack", ctypes.c_void_p), ("size", ctypes.c_size_t),
                ("function", ctypes.c_void_p), ("argument", ctypes.c_void_p)]
e = Excursion(address(outside.on_other_stack), ctypes.addressof(stack), len(stack),
              address(outside.read_on_stack), a)
t = begin(inside.call_excursion, ctypes.byref(e))
wait_until_blocked(t.native_id, "read")
assert how(t.native_id) == "stack"
""")


# --- when little can be seen ---------------------------------------------------------------------


def test_a_single_thread_is_alone(scenario: Scenario) -> None:
    scenario.run("""
faulthandler.cancel_dump_traceback_later()
until(lambda: not others())
see([])
assert _native.threads_inside(0, 2**64 - 1) == []
""")


def test_a_forked_child_is_alone(scenario: Scenario) -> None:
    scenario.run("""
import warnings
warnings.simplefilter("ignore")
t = begin(inside.wait_in_read, a)
wait_until_blocked(t.native_id, "read")
see([(t.native_id, "stack")])
child = os.fork()
if child == 0:
    os._exit(0 if found() == [] and _native.calls_on_own_stack(*inside.range) == 0 else 1)
assert os.waitpid(child, 0)[1] == 0
# A child of another thread has that thread's stack as its only one.
def fork():
    child = os.fork()
    if child == 0:
        t = begin(inside.wait_in_read, a)
        wait_until_blocked(t.native_id, "read")
        os._exit(0 if found() == [(t.native_id, "stack")]
                 and _native.calls_on_own_stack(*inside.range) == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    done.append(1)
done = []
begin(fork).join()
assert done
""")


def test_the_scan_works_where_process_vm_readv_is_forbidden(scenario: Scenario) -> None:
    number = 310 if os.uname().machine == "x86_64" else 270
    scenario.run(f"""
if outside.forbid({number}) < 0:
    say("seccomp does not allow it")
    os._exit(0)
t = begin(inside.wait_in_read, a)
r = begin(inside.spin, ctypes.byref(stop))
wait_until_blocked(t.native_id, "read")
wait_until_running(r.native_id)
until(lambda: sorted(found()) == sorted([(t.native_id, "stack"), (r.native_id, "running")]))
assert _native.calls_on_own_stack(*inside.range) == 0
stop.value = 1
""")


def test_a_process_that_may_not_be_examined_has_unknown_threads(scenario: Scenario) -> None:
    """As after PR_SET_DUMPABLE, when the files in /proc belong to root."""
    scenario.run("""
libc = ctypes.CDLL(None)
t = begin(outside.wait_in_read, a)
wait_until_blocked(t.native_id, "read")
if os.getuid() == 0:
    # Of this thread alone: threads have a user each in the kernel.
    assert libc.syscall(117 if BLOCKING["read"] == 0 else 147, 65534, 65534, 65534) == 0
assert libc.prctl(4, 0) == 0
assert (t.native_id, "unknown") in found() and found() == found(outside)
""")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take /proc away")
def test_without_proc_there_are_unknown_threads(scenario: Scenario) -> None:
    scenario.run("""
libc = ctypes.CDLL(None, use_errno=True)
t = begin(outside.wait_in_read, a)
wait_until_blocked(t.native_id, "read")
if libc.unshare(0x20000) or libc.mount(None, b"/", None, 0x44000, None) \\
        or libc.mount(b"none", b"/proc", b"tmpfs", 0, None):
    say("the process may not do that")
    os._exit(0)
see([(0, "unknown")])
assert _native.calls_on_own_stack(*inside.range) == 0
""")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a pid namespace")
def test_with_the_proc_of_another_namespace_there_are_unknown_threads(scenario: Scenario) -> None:
    scenario.run("""
libc = ctypes.CDLL(None)
faulthandler.cancel_dump_traceback_later()
if libc.unshare(0x20000000):
    say("the process may not do that")
    os._exit(0)
child = os.fork()
if child == 0:
    before = found()
    begin(outside.wait_in_read, a)
    os._exit(0 if before == [] and found() == [(0, "unknown")] else 1)
assert os.waitpid(child, 0)[1] == 0
""")


def test_a_range_that_ends_before_it_starts_is_refused(scenario: Scenario) -> None:
    scenario.run("""
for function in (_native.threads_inside, _native.calls_on_own_stack):
    for arguments in ((2, 1), (), (1,), ("a", "b")):
        try:
            function(*arguments)
        except (ValueError, TypeError):
            continue
        raise AssertionError(function)
""")
