"""Which threads relib._native finds inside a library, and which it does not.

Each scenario is a process of its own with a real library, loaded twice under two names: `inside` is
the one that is asked about, `outside` has the same code elsewhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project

SOURCE = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

/* Keeps a call from becoming a jump. */
static volatile int sink;

/* --- waiting --- */
int wait_in_read(int fd) { char c; int n = read(fd, &c, 1); sink = n; return n < 0 ? -errno : n; }
int wait_in_poll(int fd) {
    struct pollfd p = {fd, POLLIN, 0}; int n = poll(&p, 1, -1); sink = n; return n < 0 ? -errno : n;
}
int wait_in_nanosleep(const int *stop) {
    struct timespec t = {1000, 0};
    while (!__atomic_load_n(stop, __ATOMIC_SEQ_CST)) {
        int n = nanosleep(&t, NULL);
        if (n < 0) return -errno;
    }
    return 0;
}
int sleep_once(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000}; int n = nanosleep(&t, NULL); sink = n;
    return n < 0 ? -errno : n;
}
int call(int (*function)(void *), void *argument) {
    int n = function(argument); sink = n; return n;
}
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t *own_mutex(void) { return &mutex; }
int lock_and_unlock(pthread_mutex_t *m) {
    pthread_mutex_lock(m); pthread_mutex_unlock(m); sink = 1; return 0;
}

/* --- running --- */
int spin(const int *stop) { while (!__atomic_load_n(stop, __ATOMIC_RELAXED)); return 0; }
int spin_deaf(const int *stop) {
    sigset_t all; sigfillset(&all); pthread_sigmask(SIG_BLOCK, &all, NULL);
    return spin(stop) + (sink = 0);
}

/* --- having been there --- */
__attribute__((noinline)) int deep(int n) {
    volatile uintptr_t room[8]; for (int i = 0; i < 8; i++) room[i] = (uintptr_t)n;
    int k = n > 0 ? deep(n - 1) : 0; sink = k; return k + (int)room[n % 8];
}
/* Writes over what the first frames of a visit have left, where others may leave gaps. */
__attribute__((noinline)) int scrub(void) {
    volatile char room[2048]; for (int i = 0; i < 2048; i++) room[i] = 0;
    return room[sink & 2047];
}
struct visit { int (*visited)(int); int fd; };
void *visit_then_wait(void *argument) {
    struct visit *v = argument; v->visited(50); sink = scrub(); wait_in_read(v->fd); sink = 2;
    return NULL;
}

/* --- threads of its own --- */
static void *read_one(void *fd) { wait_in_read((int)(intptr_t)fd); return NULL; }
/* Its function ends in a jump to somewhere else: nothing of it remains on the stack. */
struct leave { void *(*to)(void *); void *argument; };
__attribute__((optimize("O2"))) static void *leave(void *argument) {
    struct leave *l = argument; return l->to(l->argument);
}
void *read_for_ever(void *fd) { for (;;) wait_in_read((int)(intptr_t)fd); return NULL; }
int start_reader(int fd) {
    pthread_t t; int n = pthread_create(&t, NULL, read_one, (void *)(intptr_t)fd);
    return n ? n : pthread_detach(t);
}
int start_leaver(void *(*to)(void *), int fd) {
    static struct leave l; pthread_t t; l = (struct leave){to, (void *)(intptr_t)fd};
    return pthread_create(&t, NULL, leave, &l);
}
int start_visitor(int (*visited)(int), int fd) {
    static struct visit v; pthread_t t; v = (struct visit){visited, fd};
    return pthread_create(&t, NULL, visit_then_wait, &v);
}
static void *nothing(void *argument) { return argument; }
static void *breed(void *stop) {
    while (!__atomic_load_n((int *)stop, __ATOMIC_RELAXED)) {
        pthread_t t; if (pthread_create(&t, NULL, nothing, NULL) == 0) pthread_join(t, NULL);
    }
    return NULL;
}
int start_breeder(int *stop) { pthread_t t; return pthread_create(&t, NULL, breed, stop); }
int start_many(int count, void *(*function)(void *), void *argument) {
    pthread_attr_t a; pthread_t t; pthread_attr_init(&a); pthread_attr_setstacksize(&a, 65536);
    int n = 0;
    for (int i = 0; i < count && n == 0; i++) n = pthread_create(&t, &a, function, argument);
    return n;
}
void *(*address_of_reader(void))(void *) { return read_one; }
void *(*address_of_leaver(void))(void *) { return leave; }

/* --- stacks of its own --- */
static ucontext_t back, there;
static struct { void (*function)(void *); void *argument; } task;
static void enter(void) { task.function(task.argument); }
int on_other_stack(char *stack, size_t size, void (*function)(void *), void *argument) {
    task.function = function; task.argument = argument;
    getcontext(&there); there.uc_stack.ss_sp = stack; there.uc_stack.ss_size = size;
    there.uc_link = &back; makecontext(&there, enter, 0);
    int n = swapcontext(&back, &there); sink = n; return n;
}
struct excursion { int (*run)(char *, size_t, void (*)(void *), void *); char *stack; size_t size;
                   void (*function)(void *); void *argument; };
int call_excursion(struct excursion *e) {
    int n = e->run(e->stack, e->size, e->function, e->argument); sink = n; return n;
}
void read_on_stack(void *fd) { wait_in_read((int)(intptr_t)fd); sink = 3; }

/* --- signals --- */
static int waits_on;
static void handler(int number) { (void)number; wait_in_read(waits_on); }
int wait_in_handler(int number, int fd) {
    struct sigaction a; memset(&a, 0, sizeof(a)); a.sa_handler = handler; waits_on = fd;
    return sigaction(number, &a, NULL);
}
/* --- a thread that is started and has not begun --- */
#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#else
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif
static int install(int number, unsigned action, unsigned flags) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return -errno;
    int fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    return fd < 0 ? -errno : fd;
}
int forbid(int number) { return install(number, SECCOMP_RET_ERRNO | EPERM, 0); }
int hold(int number) {
    return install(number, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
}
/* glibc lets the new thread wait until its creator has set its processors. */
int start_with_processors(void *(*function)(void *), void *argument) {
    pthread_attr_t a; pthread_t t; cpu_set_t set; pthread_attr_init(&a);
    sched_getaffinity(0, sizeof(set), &set); pthread_attr_setaffinity_np(&a, sizeof(set), &set);
    return pthread_create(&t, &a, function, argument);
}
int let_go(int fd) {
    struct seccomp_notif request; struct seccomp_notif_resp reply;
    memset(&request, 0, sizeof(request)); memset(&reply, 0, sizeof(reply));
    if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &request)) return -errno;
    reply.id = request.id; reply.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    return ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &reply) ? -errno : 0;
}
"""

PRELUDE = """
import ctypes
from relib import _native
from native_process import *
inside, outside = Loaded("{inside}"), Loaded("{outside}")
a, b = os.pipe()
stop = ctypes.c_int(0)
def found(library=inside):
    return _native.threads_inside(*library.range)
def how(tid):
    return dict(found()).get(tid)
def address(function):
    return ctypes.cast(function, ctypes.c_void_p)
"""


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The paths of the two libraries."""
    directory = tmp_path_factory.mktemp("threads")
    source = directory / "source.c"
    source.write_text(SOURCE)
    inside, outside = directory / "inside.so", directory / "outside.so"
    command = ["gcc", "-O1", "-g0", "-shared", "-fPIC", "-pthread", "-w", str(source)]
    subprocess.run([*command, "-o", str(inside)], check=True)
    shutil.copy(inside, outside)
    return inside, outside


class Scenario:
    """Runs scripts that have both libraries loaded."""

    def __init__(self, project: Project, libraries: tuple[Path, Path]) -> None:
        self.project = project
        self.inside, self.outside = libraries

    def run(self, script: str) -> None:
        """Run it to its end; one that says why it cannot be played here is skipped."""
        prelude = PRELUDE.format(inside=self.inside, outside=self.outside)
        outcome = self.project.run(prelude + script)
        if outcome.output:
            pytest.skip(str(outcome.value))


@pytest.fixture
def scenario(project: Project, libraries: tuple[Path, Path]) -> Scenario:
    return Scenario(project, libraries)


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
assert found() == [(t.native_id, "stack")], found()
assert found(outside) == [(e.native_id, "stack")], found(outside)
""")


def test_a_thread_that_has_come_out_of_the_library_is_not_found(scenario: Scenario) -> None:
    scenario.run("""
t = begin(inside.wait_in_read, a)
wait_until_blocked(t.native_id, "read")
assert found() == [(t.native_id, "stack")]
os.write(b, b"x")
t.join()
assert found() == []
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
assert found() == []
assert found(outside) == [(tid, "stack")]
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
assert found() == []
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
assert found() == [(t.native_id, "stack")]
assert found(outside) == []
event.set()
t.join()
assert result == [7]
assert found() == []
""")


def test_a_thread_that_waits_for_a_lock_of_the_library_is_found(scenario: Scenario) -> None:
    scenario.run("""
inside.own_mutex.restype = ctypes.c_void_p
mutex = ctypes.c_void_p(inside.own_mutex())
libc = ctypes.CDLL(None)
libc.pthread_mutex_lock(mutex)
t = begin(outside.lock_and_unlock, mutex)
wait_until_blocked(t.native_id, "futex")
assert found() == [(t.native_id, "stack")], found()
libc.pthread_mutex_unlock(mutex)
t.join()
assert found() == []
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
assert found(outside) == [(t.native_id, "stack")]
stop.value = 1
os.write(b, b"x")
t.join()
assert found() == []
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
for _ in range(200):
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
wait_until_running(t.native_id)
until(lambda: found() == [(t.native_id, "running")])
stop.value = 1
t.join()
assert found() == []
""")


def test_a_thread_that_runs_elsewhere_is_not_found(scenario: Scenario) -> None:
    scenario.run("""
t = begin(outside.spin, ctypes.byref(stop))
wait_until_running(t.native_id)
until(lambda: found() == [])
until(lambda: found(outside) == [(t.native_id, "running")])
for _ in range(20):
    assert found() in ([], [(t.native_id, "unknown")])
stop.value = 1
t.join()
""")


def test_a_thread_that_runs_elsewhere_called_from_the_library_is_found(scenario: Scenario) -> None:
    scenario.run("""
t = begin(inside.call, address(outside.spin), ctypes.byref(stop))
wait_until_running(t.native_id)
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
assert found() == [(t.native_id, "unknown")]
assert found(outside) == [(t.native_id, "unknown")]
stop.value = 1
t.join()
assert found() == []
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
until(lambda: found() == [] and found(outside) == [(t.native_id, "running")])
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
assert found() == [(tid, "stack")]
os.write(b, b"x")
until(lambda: tid not in others())
assert found() == []
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
assert found() == [(tid, "start")], found()
assert found(outside) == [(tid, "stack")]
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
assert found() == [(tid, "start")], found()
assert outside.let_go(listener[0]) == 0
wait_until_blocked(tid, "read")
assert found() == [(tid, "stack")], found()
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
assert sorted(found()) == sorted((tid, "stack") for tid in last - middle)
assert sorted(found(outside)) == sorted((tid, "stack") for tid in middle - before)
""")


def test_threads_that_come_and_go_do_no_harm(scenario: Scenario) -> None:
    scenario.run("""
for _ in range(3):
    assert outside.start_breeder(ctypes.byref(stop)) == 0
for _ in range(300):
    assert all(state == "unknown" for _, state in found()), found()
stop.value = 1
until(lambda: len(others()) == 1)
assert found() == []
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


# --- calls on the own stack ----------------------------------------------------------------------


def test_calls_on_the_own_stack_are_counted(scenario: Scenario) -> None:
    scenario.run("""
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
def count(_):
    return _native.calls_on_own_stack(*inside.range)
assert _native.calls_on_own_stack(*inside.range) == 0
assert inside.call(count, None) == 1
assert outside.call(count, None) == 0
assert inside.call(inside.call and address(count), None) == 1
results = []
def elsewhere():
    results.extend([inside.call(count, None), outside.call(count, None), count(None)])
for _ in range(2):
    begin(elsewhere).join()
assert results == [1, 0, 0] * 2, results
""")


def test_nested_calls_on_the_own_stack_are_counted(scenario: Scenario) -> None:
    scenario.run("""
kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
@kind
def again(depth):
    if depth:
        return inside.call(again, depth - 1)
    return _native.calls_on_own_stack(*inside.range)
for depth in (1, 5, 50):
    assert inside.call(again, depth) == depth + 1
""")


@pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="Python checks itself that it runs on the thread's stack"
)
def test_calls_on_another_stack_of_the_own_thread_are_counted(scenario: Scenario) -> None:
    scenario.run("""
stack = ctypes.create_string_buffer(1 << 20)
results = []
@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def count(_):
    results.append(_native.calls_on_own_stack(*inside.range))
def both():
    inside.on_other_stack(stack, ctypes.c_size_t(len(stack)), count, None)
    outside.on_other_stack(stack, ctypes.c_size_t(len(stack)), count, None)
both()
begin(both).join()
# What an earlier call has left on the same stack may still be there.
assert results[0] >= 1 and results[2] >= 1, results
assert results[1] >= 0 and results[3] >= 0, results
""")


# --- when little can be seen ---------------------------------------------------------------------


def test_a_single_thread_is_alone(scenario: Scenario) -> None:
    scenario.run("""
faulthandler.cancel_dump_traceback_later()
until(lambda: not others())
assert found() == []
assert _native.threads_inside(0, 2**64 - 1) == []
""")


def test_a_forked_child_is_alone(scenario: Scenario) -> None:
    scenario.run("""
import warnings
warnings.simplefilter("ignore")
t = begin(inside.wait_in_read, a)
wait_until_blocked(t.native_id, "read")
assert found() == [(t.native_id, "stack")]
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
assert found() == [(0, "unknown")]
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
