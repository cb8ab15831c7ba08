"""Pointers into a library that relib._native finds elsewhere in the process.

Each scenario is a process of its own in which a real library has itself registered somewhere.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project
from native_libraries import Scenario, compile_library

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
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("pins")
    names = ("registering", "holding", "large", "types")
    return {
        f"{name}_path": compile_library(name, directory, library=f"lib{name}") for name in names
    }


@pytest.fixture
def scenario(project: Project, libraries: dict[str, Path]) -> Scenario:
    return Scenario(project, PRELUDE, libraries)


# --- signals and keys ----------------------------------------------------------------------------


def test_signal_handlers_are_seen(scenario: Scenario) -> None:
    scenario.run("""
library = Loaded(registering_path)
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
library = Loaded(registering_path)
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
library = Loaded(registering_path)
python(registering_path).set_input_hook(0)
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
library, functions = Loaded(registering_path), python(registering_path)
assert symbols(library) == set()
result = functions.{on}
assert symbols(library) == {{{symbol!r}}}, pointers(library)
if {off!r}:
    functions.{off or "__class__"}
    assert symbols(library) == set(), pointers(library)
""")


def test_a_pending_call_is_seen(scenario: Scenario) -> None:
    scenario.run("""
library, functions = Loaded(registering_path), python(registering_path)
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
library, functions = Loaded(registering_path), python(registering_path)
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
library, holder = Loaded(registering_path), Loaded(holding_path)
assert pointers(library) == []
target = address(library, "handle")
holder.hold(7, ctypes.c_size_t(target))
assert pointers(library) == [(holding_path, "held", 56, target - library.lo)]
holder.hold(7, ctypes.c_size_t(library.hi))
assert pointers(library) == []
holder.hold(99, ctypes.c_size_t(library.hi - 1))
assert pointers(library) == [(holding_path, "held", 792, library.hi - 1 - library.lo)]
holder.hold(99, ctypes.c_size_t(0))
for i in (0, 1, 5, (1 << 15) - 1):
    holder.hold_in_room(i, ctypes.c_size_t(target))
assert len(pointers(library)) == 4
""")


def test_at_most_64_words_are_listed(scenario: Scenario) -> None:
    scenario.run("""
library, holder = Loaded(registering_path), Loaded(holding_path)
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
library = Loaded(registering_path, ctypes.RTLD_GLOBAL)
assert pointers(library) == []
Loaded(f"{os.getcwd()}/user.so")
[(path, _, _, target)] = pointers(library)
assert path == f"{os.getcwd()}/user.so"
assert target == value(library, "anchor") - library.lo
""")


def test_a_library_does_not_see_itself(scenario: Scenario) -> None:
    scenario.run("""
holder = Loaded(holding_path)
for i in range(10):
    holder.hold(i, ctypes.c_size_t(address(holder, "hold")))
assert pointers(holder) == []
""")


def test_what_goes_by_itself_is_not_seen(scenario: Scenario) -> None:
    """Exit and fork handlers that dlclose runs or forgets, and the cache of the unwinder."""
    scenario.run("""
library, holder = Loaded(registering_path), Loaded(holding_path)
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
library, holder = Loaded(registering_path), Loaded(holding_path)
target = ctypes.c_size_t(address(library, "handle"))
assert holder.guard(target, target) == 0
assert len(pointers(library)) == 2, pointers(library)
assert _native.static_types(*holder.range) == []
""")


def test_a_library_whose_file_was_truncated_does_no_harm(scenario: Scenario) -> None:
    scenario.run("""
import shutil
copy = shutil.copy(large_path, f"{os.getcwd()}/large.so")
library, large = Loaded(registering_path), Loaded(copy)
os.truncate(copy, 8192)
assert pointers(library) == []
assert _native.static_types(*large.range) == []
os._exit(0) # the loader cannot run the library's destructors any more
""")


# --- static types --------------------------------------------------------------------------------


def test_static_types_are_seen_when_they_are_ready(scenario: Scenario) -> None:
    scenario.run("""
library, functions = Loaded(types_path), python(types_path)
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
