"""Pointers into a library that relib._native finds elsewhere in the process.

Each scenario is a process of its own in which a real library has itself registered somewhere.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import Project

REGISTERING = r"""
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <frameobject.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

int anchor;

/* --- signals, keys --- */
static void on_signal(int number) { (void)number; }
static void on_signal_info(int number, siginfo_t *info, void *context) {
    (void)number; (void)info; (void)context;
}
int handle(int number, int with_info) {
    struct sigaction a; memset(&a, 0, sizeof(a));
    if (with_info) { a.sa_sigaction = on_signal_info; a.sa_flags = SA_SIGINFO; }
    else a.sa_handler = on_signal;
    return sigaction(number, &a, NULL);
}
int unhandle(int number) { return signal(number, SIG_DFL) == SIG_ERR; }
static void on_exit_of_thread(void *value) { (void)value; }
int make_key(void) {
    pthread_key_t key; return pthread_key_create(&key, on_exit_of_thread) ? -1 : (int)key;
}
int make_plain_key(void) {
    pthread_key_t key; return pthread_key_create(&key, NULL) ? -1 : (int)key;
}
int delete_key(int key) { return pthread_key_delete((pthread_key_t)key); }

/* --- Python's registries --- */
static void at_exit(void) {}
int register_at_exit(void) { return Py_AtExit(at_exit); }
static int trace(PyObject *self, PyFrameObject *frame, int what, PyObject *argument) {
    (void)self; (void)frame; (void)what; (void)argument; return 0;
}
void set_trace(int on) { PyEval_SetTrace(on ? trace : NULL, NULL); }
void set_profile(int on) { PyEval_SetProfile(on ? trace : NULL, NULL); }
static int pending(void *argument) { (void)argument; return 0; }
/* Asks before Python gets to running it. */
PyObject *pointers_while_pending(PyObject *function, PyObject *arguments) {
    if (Py_AddPendingCall(pending, NULL) < 0) Py_RETURN_NONE;
    return PyObject_Call(function, arguments, NULL);
}
static int input_hook(void) { return 0; }
void set_input_hook(int on) { PyOS_InputHook = on ? input_hook : NULL; }
static int audit(const char *event, PyObject *arguments, void *data) {
    (void)event; (void)arguments; (void)data; return 0;
}
int add_audit_hook(void) { return PySys_AddAuditHook(audit, NULL); }
#if PY_VERSION_HEX >= 0x030C0000
static int watch(PyTypeObject *type) { (void)type; return 0; }
int add_type_watcher(void) { return PyType_AddWatcher(watch); }
int clear_type_watcher(int id) { return PyType_ClearWatcher(id); }
#endif
#if PY_VERSION_HEX >= 0x030D0000
static void at_exit_of_interpreter(void *data) { (void)data; }
int register_at_exit_of_interpreter(void) {
    return PyUnstable_AtExit(PyInterpreterState_Get(), at_exit_of_interpreter, NULL);
}
#endif

/* --- what goes by itself --- */
static int ran;
static void by_c(void) { ran++; }
static void by_fork(void) { ran++; }
__attribute__((constructor)) static void constructed(void) {
    atexit(by_c);
    pthread_atfork(by_fork, NULL, by_fork);
}
__attribute__((destructor)) static void destructed(void) { ran++; }
"""

HOLDING = r"""
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

uintptr_t first = 1;
uintptr_t held[100] = {2};
uintptr_t later;
static uintptr_t room[1 << 15];                 /* .bss */
static char guarded[3 * 65536] = {0};
/* As the unwinder of an older libgcc remembers a library that an exception went through. */
uintptr_t unwinder[6] = {3};

void hold(int i, uintptr_t value) { held[i] = value; }
void hold_in_room(int i, uintptr_t value) { room[i] = value; }
uintptr_t room_at(int i) { return (uintptr_t)&room[i]; }
int guard(uintptr_t before, uintptr_t after) {
    uintptr_t page = ((uintptr_t)guarded + 65535) & ~(uintptr_t)65535;
    ((uintptr_t *)page)[-1] = before;
    *(uintptr_t *)(page + 65536) = after;
    *(uintptr_t *)page = before; /* so that there is a page */
    return mprotect((void *)page, 65536, PROT_NONE);
}
"""

# A data segment with pages that nobody touches.
LARGE = r"""
char large[1 << 20] = {1};
unsigned long last = 5;
"""

TYPES = r"""
#define PY_SSIZE_T_CLEAN
#include <Python.h>

typedef struct { PyObject_HEAD } Thing;
static PyTypeObject Meta = {PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "types.Meta",
    .tp_basicsize = 0, .tp_flags = Py_TPFLAGS_DEFAULT};
static PyTypeObject Base = {PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "types.Base",
    .tp_basicsize = sizeof(Thing), .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE};
static PyTypeObject Derived = {PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "types.Derived",
    .tp_basicsize = sizeof(Thing), .tp_flags = Py_TPFLAGS_DEFAULT};
static PyTypeObject OfMeta = {PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "types.OfMeta",
    .tp_basicsize = sizeof(Thing), .tp_flags = Py_TPFLAGS_DEFAULT};
static PyTypeObject NotReady = {PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "types.NotReady",
    .tp_basicsize = sizeof(Thing), .tp_flags = Py_TPFLAGS_DEFAULT};
static char gap[70000] = {1};
static PyTypeObject Far = {PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "types.F\303\244r",
    .tp_basicsize = sizeof(Thing), .tp_flags = Py_TPFLAGS_DEFAULT};
static PyStructSequence_Field fields[] = {{"one", NULL}, {NULL, NULL}};
static PyStructSequence_Desc description = {"types.Sequence", NULL, fields, 1};
static PyTypeObject Sequence;

/* What looks like types and is none: a table of them, and copies. */
PyTypeObject *table[200];
PyTypeObject copies[2];

static PyType_Slot slots[] = {{0, NULL}};
static PyType_Spec heap = {"types.Heap", sizeof(Thing), 0, Py_TPFLAGS_DEFAULT, slots};

PyObject *make(int level) {
    Meta.tp_base = &PyType_Type;
    Derived.tp_base = &Base;
    if (level == 0) Py_RETURN_NONE;
    if (PyType_Ready(&Meta) < 0) return NULL;
    Py_SET_TYPE(&OfMeta, &Meta);
    if (PyType_Ready(&Base) < 0 || PyType_Ready(&Derived) < 0 || PyType_Ready(&OfMeta) < 0 ||
        PyType_Ready(&Far) < 0 || PyStructSequence_InitType2(&Sequence, &description) < 0)
        return NULL;
    for (int i = 0; i < 200; i++)
        table[i] = i % 3 ? i % 2 ? &PyType_Type : &PyUnicode_Type : &Base;
    copies[0] = Base;
    copies[1] = PyUnicode_Type;
    gap[3] = NotReady.tp_name[0];
    return PyType_FromSpec(&heap);
}
"""

PRELUDE = """
import ctypes
from relib import _native
from native_process import *
def python(path):
    return ctypes.PyDLL(path)
def pointers(library):
    return _native.pointers_into(*library.range)
def symbols(library):
    return {symbol for _path, symbol, _offset, _target in pointers(library)}
def address(library, name):
    return ctypes.cast(getattr(library, name), ctypes.c_void_p).value
def value(library, name):
    return ctypes.addressof(ctypes.c_char.in_dll(library, name))
"""

# What is registered in Python's own data is seen under the name of that.
RUNTIME = "_PyRuntime"


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the libraries that scenarios load."""
    directory = tmp_path_factory.mktemp("pins")
    include = sysconfig.get_paths()["include"], sysconfig.get_paths()["platinclude"]
    command = ["gcc", "-O0", "-g0", "-shared", "-fPIC", "-w", *(f"-I{path}" for path in include)]
    for name, text in {
        "registering": REGISTERING,
        "holding": HOLDING,
        "large": LARGE,
        "static": TYPES,
    }.items():
        source = directory / f"{name}.c"
        source.write_text(text)
        subprocess.run([*command, source, "-o", directory / f"{name}.so"], check=True)
    return directory


class Scenario:
    """Runs scripts that know where the libraries are."""

    def __init__(self, project: Project, libraries: Path) -> None:
        self.project = project
        self.libraries = libraries

    def run(self, script: str) -> None:
        """Run it to its end; one that says why it cannot be played here is skipped."""
        for path in self.libraries.glob("*.so"):
            shutil.copy(path, self.project.root / path.name)
        prelude = f"{PRELUDE}here = {str(self.project.root)!r}\n"
        outcome = self.project.run(prelude + script)
        if outcome.output:
            pytest.skip(str(outcome.value))


@pytest.fixture
def scenario(project: Project, libraries: Path) -> Scenario:
    return Scenario(project, libraries)


# --- signals and keys ----------------------------------------------------------------------------


def test_signal_handlers_are_seen(scenario: Scenario) -> None:
    scenario.run("""
library = Loaded(f"{here}/registering.so")
assert _native.signal_handlers(*library.range) == []
assert library.handle(signal.SIGUSR2, 0) == 0
assert library.handle(signal.SIGRTMAX, 1) == 0
assert _native.signal_handlers(*library.range) == [signal.SIGUSR2, signal.SIGRTMAX]
assert library.unhandle(signal.SIGUSR2) == 0
assert _native.signal_handlers(*library.range) == [signal.SIGRTMAX]
signal.signal(signal.SIGRTMAX, signal.SIG_IGN)
assert _native.signal_handlers(*library.range) == []
""")


def test_thread_specific_keys_are_seen(scenario: Scenario) -> None:
    scenario.run("""
if not _native.thread_keys_known():
    say("this C library does not show its keys")
    os._exit(0)
library = Loaded(f"{here}/registering.so")
assert _native.thread_keys(*library.range) == []
keys = [library.make_key(), library.make_plain_key(), library.make_key()]
assert _native.thread_keys(*library.range) == [keys[0], keys[2]]
library.delete_key(keys[0])
assert _native.thread_keys(*library.range) == [keys[2]]
library.delete_key(keys[2])
assert _native.thread_keys(*library.range) == []
""")


# --- Python's registries -------------------------------------------------------------------------


def test_nothing_points_into_a_library_that_has_only_been_loaded(scenario: Scenario) -> None:
    scenario.run("""
library = Loaded(f"{here}/registering.so")
python(f"{here}/registering.so").set_input_hook(0)
assert pointers(library) == [], pointers(library)
""")


@pytest.mark.parametrize(
    ("on", "off", "symbol"),
    [
        ("register_at_exit()", "", RUNTIME),
        ("set_trace(1)", "set_trace(0)", RUNTIME),
        ("set_profile(1)", "set_profile(0)", RUNTIME),
        ("set_input_hook(1)", "set_input_hook(0)", "PyOS_InputHook"),
        ("add_audit_hook()", "", "PySys_AddAuditHook"),
        pytest.param(
            "add_type_watcher()",
            "clear_type_watcher(result)",
            RUNTIME,
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12"),
        ),
        pytest.param(
            "register_at_exit_of_interpreter()",
            "",
            "PyUnstable_AtExit",
            marks=pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13"),
        ),
    ],
)
def test_what_python_has_been_given_is_seen(
    scenario: Scenario, on: str, off: str, symbol: str
) -> None:
    scenario.run(f"""
library, functions = Loaded(f"{{here}}/registering.so"), python(f"{{here}}/registering.so")
assert symbols(library) == set()
result = functions.{on}
assert symbols(library) == {{{symbol!r}}}, pointers(library)
if {off!r}:
    functions.{off or "__class__"}
    assert symbols(library) == set(), pointers(library)
""")


def test_a_pending_call_is_seen(scenario: Scenario) -> None:
    scenario.run("""
library, functions = Loaded(f"{here}/registering.so"), python(f"{here}/registering.so")
functions.pointers_while_pending.restype = ctypes.py_object
functions.pointers_while_pending.argtypes = [ctypes.py_object] * 2
found = functions.pointers_while_pending(_native.pointers_into, library.range)
assert [symbol for _, symbol, _, _ in found] == ["_PyRuntime"], found
# Python 3.11 leaves the function where it was until 32 more calls have been added.
if sys.version_info >= (3, 12):
    until(lambda: pointers(library) == [])
""")


def test_a_trace_function_of_another_thread_is_seen(scenario: Scenario) -> None:
    scenario.run("""
library, functions = Loaded(f"{here}/registering.so"), python(f"{here}/registering.so")
ready, event = threading.Event(), threading.Event()
def traced():
    functions.set_trace(1)
    ready.set()
    event.wait()
    functions.set_trace(0)
t = begin(traced)
ready.wait()
assert symbols(library) == {"PyThreadState"}, pointers(library)
event.set()
t.join()
assert pointers(library) == []
""")


# --- other libraries -----------------------------------------------------------------------------


def test_a_word_of_another_library_is_seen_with_its_place_and_target(scenario: Scenario) -> None:
    scenario.run("""
library, holder = Loaded(f"{here}/registering.so"), Loaded(f"{here}/holding.so")
assert pointers(library) == []
target = address(library, "handle")
holder.hold(7, ctypes.c_size_t(target))
assert pointers(library) == [(f"{here}/holding.so", "held", 56, target - library.lo)]
holder.hold(7, ctypes.c_size_t(library.hi))
assert pointers(library) == []
holder.hold(99, ctypes.c_size_t(library.hi - 1))
assert pointers(library) == [(f"{here}/holding.so", "held", 792, library.hi - 1 - library.lo)]
holder.hold(99, ctypes.c_size_t(0))
for i in (0, 1, 5, (1 << 15) - 1):
    holder.hold_in_room(i, ctypes.c_size_t(target))
assert len(pointers(library)) == 4
""")


def test_at_most_64_words_are_listed(scenario: Scenario) -> None:
    scenario.run("""
library, holder = Loaded(f"{here}/registering.so"), Loaded(f"{here}/holding.so")
for i in range(100):
    holder.hold(i, ctypes.c_size_t(address(library, "handle")))
assert [offset for _, _, offset, _ in pointers(library)] == [8 * i for i in range(64)]
""")


def test_a_symbol_that_another_library_has_bound_to_is_seen(scenario: Scenario) -> None:
    source = "extern int anchor; int *user(void) { return &anchor; }"
    scenario.project.write("user.c", source)
    command = ["gcc", "-shared", "-fPIC", "user.c", "-o", "user.so"]
    subprocess.run(command, cwd=scenario.project.root, check=True)
    scenario.run("""
library = Loaded(f"{here}/registering.so", ctypes.RTLD_GLOBAL)
assert pointers(library) == []
Loaded(f"{here}/user.so")
[(path, _, _, target)] = pointers(library)
assert path == f"{here}/user.so"
assert target == value(library, "anchor") - library.lo
""")


def test_a_library_does_not_see_itself(scenario: Scenario) -> None:
    scenario.run("""
holder = Loaded(f"{here}/holding.so")
for i in range(10):
    holder.hold(i, ctypes.c_size_t(address(holder, "hold")))
assert pointers(holder) == []
""")


def test_what_goes_by_itself_is_not_seen(scenario: Scenario) -> None:
    """Exit and fork handlers that dlclose runs or forgets, and the cache of the unwinder."""
    scenario.run("""
library, holder = Loaded(f"{here}/registering.so"), Loaded(f"{here}/holding.so")
[(start, end)] = [(start, end) for start, end, flags in library.segments if flags & 1]
cache = (ctypes.c_size_t * 6).in_dll(holder, "unwinder")
headers = library.lo + library.headers
cache[:] = [start, end, library.lo, headers, headers + 56, 0]
assert pointers(library) == [], pointers(library)
cache[1] = 0 # now the first is a pointer to the first function
assert len(pointers(library)) == 1
""")


def test_data_that_cannot_be_read_does_no_harm(scenario: Scenario) -> None:
    scenario.run("""
library, holder = Loaded(f"{here}/registering.so"), Loaded(f"{here}/holding.so")
target = ctypes.c_size_t(address(library, "handle"))
assert holder.guard(target, target) == 0
assert len(pointers(library)) == 2, pointers(library)
assert _native.static_types(*holder.range) == []
""")


def test_a_library_whose_file_was_truncated_does_no_harm(scenario: Scenario) -> None:
    scenario.run("""
library, large = Loaded(f"{here}/registering.so"), Loaded(f"{here}/large.so")
os.truncate(f"{here}/large.so", 8192)
assert pointers(library) == []
assert _native.static_types(*large.range) == []
os._exit(0) # the loader cannot run the library's destructors any more
""")


# --- static types --------------------------------------------------------------------------------


def test_static_types_are_seen_when_they_are_ready(scenario: Scenario) -> None:
    scenario.run("""
library, functions = Loaded(f"{here}/static.so"), python(f"{here}/static.so")
functions.make.restype = ctypes.py_object
functions.make(0)
assert _native.static_types(*library.range) == []
assert functions.make(1).__name__ == "Heap"
names = _native.static_types(*library.range)
assert sorted(names) == sorted(
    f"types.{name}" for name in ("Meta", "Base", "Derived", "OfMeta", "F\xe4r", "Sequence")
), names
assert _native.static_types(library.lo, library.lo + 8) == []
assert _native.static_types(library.hi, library.hi + 100_000_000) is not None
""")


def test_the_static_types_of_python_itself_are_seen(scenario: Scenario) -> None:
    scenario.run("""
def last(path):
    lines = [line for line in open("/proc/self/maps") if line.rstrip().endswith(path)]
    bounds = [line.split()[0].split("-") for line in lines]
    return int(bounds[0][0], 16), int(bounds[-1][1], 16)
path = next((line.split()[-1] for line in open("/proc/self/maps") if "libpython" in line),
            os.path.realpath(sys.executable))
names = _native.static_types(*last(path))
assert {"int", "str", "dict", "function"} <= set(names)
assert all(name.isprintable() and name for name in names), names
""")


# --- arguments -----------------------------------------------------------------------------------


def test_a_range_that_ends_before_it_starts_is_refused(scenario: Scenario) -> None:
    scenario.run("""
for name in ("signal_handlers", "thread_keys", "pointers_into", "static_types"):
    for arguments in ((2, 1), (), (1,), ("a", "b")):
        try:
            getattr(_native, name)(*arguments)
        except (ValueError, TypeError):
            continue
        raise AssertionError(name)
    assert getattr(_native, name)(4096, 4096) == []
""")
