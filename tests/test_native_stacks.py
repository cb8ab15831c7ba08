"""Which calls relib._native finds on a stack, whatever the frames look like.

What a call has left on a stack may still be there long after it has returned, in a part of a living
frame that nobody has written to since. It must not count; and nothing else may be missed.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from compilers import needs
from conftest import Project
from native_libraries import Scenario, compile_library

PRELUDE = """
import ctypes
import random
from relib import _native
from native_process import *
inside, outside = Loaded(inside_path), Loaded(outside_path)
a, b = os.pipe()
stop = ctypes.c_int(0)
random.seed(1)
def found(library=inside):
    return _native.threads_inside(*library.range)
def see(expected, library=inside):
    wait_until_found(library, expected)
def address(function):
    return ctypes.cast(function, ctypes.c_void_p)
"""

# Builds a stack by a plan: Python frames of several kinds, and functions of a library.
NESTING = """
Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
SHAPES = ("plain_1", "large_1", "alloca_1", "variable_1", "aligned_1", "aligned_alloca_1",
          "arguments_2", "variadic_2", "sorting_2")
def nest(library, plan, leaf):
    if not plan:
        return leaf()
    step, *rest = plan
    results = []
    def inner(_):
        results.append(nest(library, rest, leaf))
        return 0
    if step == "map":
        list(map(inner, (0,)))
    elif step == "sorted":
        sorted([1], key=inner)
    else:
        getattr(library, step)(Callback(inner), ctypes.c_void_p(random.randrange(1 << 20)))
    return results[0]
def python_only():
    return [random.choice(("map", "sorted")) for _ in range(random.randrange(1, 8))]
def mixed():
    return [random.choice((*SHAPES, *("map", "sorted") * 3)) for _ in range(random.randrange(1, 9))]
def calls(plan):
    return sum(int(step[-1]) for step in plan if step[-1] in "12")
"""

BUILDS = [
    pytest.param(
        cc,
        flags,
        id=f"{cc} {' '.join(flags)}",
        marks=needs(cc),
    )
    for cc, flags in (
        ("gcc", ("-O0",)),
        ("gcc", ("-O2",)),
        ("gcc", ("-O2", "-fno-omit-frame-pointer")),
        ("gcc", ("-O2", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables")),
        ("clang", ("-O2",)),
        ("tcc", ()),
    )
]


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("stacks")
    inside = compile_library("threads", directory, "-O1", library="inside")
    outside = Path(shutil.copy(inside, directory / "outside.so"))
    return {"inside_path": inside, "outside_path": outside}


@pytest.fixture
def scenario(project: Project, libraries: dict[str, Path]) -> Scenario:
    return Scenario(project, PRELUDE, libraries)


# --- frames of all kinds -------------------------------------------------------------------------


@pytest.mark.parametrize(("cc", "flags"), BUILDS)
def test_no_call_is_missed_whatever_its_frame(
    scenario: Scenario, cc: str, flags: tuple[str, ...]
) -> None:
    scenario.libraries = {
        **scenario.libraries,
        "frames_path": compile_library("frames", scenario.project.root, *flags, cc=cc),
    }
    # Without unwind tables (tcc makes none) the search cannot see past the first of its calls.
    exact = cc != "tcc" and "-fno-unwind-tables" not in flags
    scenario.run(f"""{NESTING}
try:
    frames = Loaded(frames_path)
except OSError as error: # what tcc makes asks for an executable stack, which glibc 2.41 refuses
    say(str(error))
    os._exit(0)
for _ in range(150):
    plan = mixed()
    count = nest(frames, plan, lambda: _native.calls_on_own_stack(*frames.range))
    if {exact} or not calls(plan):
        assert count == calls(plan), (plan, count)
    else:
        assert count >= calls(plan), (plan, count)
event = threading.Event()
for how in ("event", "read", "spin"):
    for _ in range(3):
        ready = threading.Event()
        def leaf():
            ready.set()
            {{"event": event.wait, "read": lambda: os.read(a, 1),
             "spin": lambda: outside.spin(ctypes.byref(stop))}}[how]()
        plan = mixed()
        expected = "stack" if calls(plan) else None
        t = begin(nest, frames, plan, leaf)
        ready.wait()
        until(lambda: dict(found(frames)).get(t.native_id) == expected)
        stop.value = 1
        event.set()
        os.write(b, b"x")
        t.join()
        stop.value = 0
        event.clear()
        while how != "read" and os.read(a, 1) != b"x":
            pass
see([], frames)
""")


# --- what earlier calls have left ----------------------------------------------------------------


def test_what_earlier_calls_have_left_on_the_own_stack_does_not_count(
    scenario: Scenario,
) -> None:
    scenario.run(f"""{NESTING}
for _ in range(500):
    nest(inside, python_only(), lambda: inside.deep(random.randrange(60)))
    count = nest(inside, python_only(), lambda: _native.calls_on_own_stack(*inside.range))
    assert count == 0, count
""")


def test_what_earlier_calls_have_left_in_a_thread_that_runs_does_not_count(
    scenario: Scenario,
) -> None:
    scenario.run(f"""{NESTING}
import zlib
data = os.urandom(1 << 20)
def compute():
    while not stop.value:
        zlib.crc32(data)
def work(plan):
    nest(inside, python_only(), lambda: inside.deep(60))
    nest(inside, plan, compute)
threads = [begin(work, python_only()) for _ in range(2)]
for _ in range(50):
    assert all(state == "unknown" for _, state in found()), found()
see([])
stop.value = 1
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
