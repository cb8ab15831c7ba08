"""An upgrade in place: held functions answer with the new code; modules upgrade together or not."""

from __future__ import annotations

import pytest
from conftest import Project, c_compiler
from test_load import C_MODULE

PREPARE = """
def edit(name, text):
    with open(name, "w") as file: file.write(text)
"""


@c_compiler
def test_held_functions_answer_with_the_new_code(project: Project, cc: str) -> None:
    project.write(
        "fast.pyx",
        """
        import functools
        def f(x, by=1): return x * 1, by
        handlers = [f]
        @functools.lru_cache
        def cached(x): return 1
        again = f
        ctypedef fused number:
            int
            double
        def fused(number x): return x * 1
        """,
    )
    project.run(
        PREPARE
        + """
import functools, weakref
source = open("fast.pyx").read()
module = relib.load("fast.pyx")
from fast import f, cached, fused, again
held = {"partial": functools.partial(f, 5), "list": [f], "method": f.__get__(7),
        "default": (lambda x, f=f: f(x)), "map": functools.partial(map, f)}
f.tag = "mine"
reference = weakref.ref(f)
for n in range(2, 6):
    edit("fast.pyx", source.replace("* 1", f"* {n}").replace("return 1", f"return {n}"))
    assert module.reload().unloaded
    assert f(10) == (10 * n, 1) and f.tag == "mine" and reference() is f
    assert held["partial"]() == (5 * n, 1) and held["list"][0](1) == (n, 1)
    assert held["method"]() == (7 * n, 1) and held["default"](1) == (n, 1)
    assert list(held["map"]([1, 2])) == [(n, 1), (2 * n, 1)]
    assert cached(0) == n and (fused(2), fused(2.0)) == (2 * n, 2.0 * n), (n, fused(2), fused(2.0))
    assert module.module.handlers[0](1) == (n, 1)
    assert f is module.module.f is again is module.module.again
assert mapped("fast") == 1 and relib.retired() == []
""",
        CC=cc,
    )


def test_functions_written_in_c_follow_too(project: Project) -> None:
    project.write("spam.c", C_MODULE)
    project.run(
        PREPARE
        + """
module = relib.load("spam.c")
from spam import answer
edit("spam.c", open("spam.c").read().replace("42", "43"))
assert module.reload().unloaded
assert answer() == 43 and answer is module.module.answer and mapped("spam") == 1
"""
    )


def test_a_function_that_is_gone_keeps_its_old_code(project: Project) -> None:
    project.write("fast.pyx", "def f(): return g()\ndef g(): return 1")
    project.run(
        PREPARE
        + """
module = relib.load("fast.pyx")
from fast import f, g
edit("fast.pyx", "def g(): return 2\\nclass f: pass")
report = module.reload()
assert [pin.what for pin in report.pins] == ["function fast.f"], report
assert g() == 2 and f() == 1      # what is left of a version calls its own functions
del f
until(lambda: mapped("fast") == 1)
"""
    )


def test_a_function_that_is_running_ends_in_the_code_it_began_in(project: Project) -> None:
    project.write(
        "fast.pyx",
        """
        from posix.unistd cimport read, write
        def blocked(int fd, int out):
            cdef char c
            cdef ssize_t n
            with nogil:
                write(out, b"r", 1)
                n = read(fd, &c, 1)
            return n, 1
        """,
    )
    project.run(
        PREPARE
        + """
source = open("fast.pyx").read()
module = relib.load("fast.pyx")
from fast import blocked
(r, w), (ready, tell) = os.pipe(), os.pipe()
results = []
thread = threading.Thread(target=lambda: results.append(blocked(r, tell)), name="reader")
thread.start()
os.read(ready, 1)
edit("fast.pyx", source.replace("return n, 1", "return n, 2"))
report = module.reload()
[pin] = report.pins
assert pin.kind == "thread" and pin.thread_name == "reader", pin
assert pin.thread_id == thread.native_id
os.write(w, b"xx")
thread.join()
assert results == [(1, 1)] and blocked(r, tell) == (1, 2)
until(lambda: mapped("fast") == 1)
"""
    )


def test_a_function_may_reload_its_own_module(project: Project) -> None:
    project.write("fast.pyx", "def f(call):\n    call()\n    return 1")
    project.run(
        PREPARE
        + """
module = relib.load("fast.pyx")
from fast import f
edit("fast.pyx", "def f(call):\\n    return 2")
assert f(module.reload) == 1 and f(None) == 2
until(lambda: mapped("fast") == 1)
"""
    )


def test_many_upgrades_leave_nothing_behind(project: Project) -> None:
    project.write("fast.pyx", "def f(x, *, y=[1]): return 1\ndef g(): raise KeyError")
    project.run(
        PREPARE
        + """
sources = [f"def f(x, *, y=[{n}]): return {n}\\ndef g(): raise KeyError" for n in (1, 2, 3)]
module = relib.load("fast.pyx")
from fast import f, g
def cycle(n):
    edit("fast.pyx", sources[n % 3])
    assert module.reload().unloaded and f(0) == n % 3 + 1
    try: g()
    except KeyError: pass
for n in range(1, 301): cycle(n)     # until caches are full
def look():
    collected()
    return heap(), descriptors(), threads()
looks = [look()]
for begin in (301, 401, 501):
    for n in range(begin, begin + 100): cycle(n)
    looks.append(look())
assert looks[-1][1:] == looks[0][1:]
# A table of Python's that doubles once is no growth for each cycle.
assert min(b[0] - a[0] for a, b in zip(looks, looks[1:])) < 100 * 64, looks
assert mapped("fast") == 1
"""
    )


def write_pair(project: Project) -> None:
    project.write("a.pxd", "cdef int base(int x)\ncdef class Point:\n    cdef public int x")
    project.write(
        "a.pyx",
        """
        cdef int base(int x): return x + 1
        cdef class Point:
            def __init__(self, x): self.x = x
        """,
    )
    project.write(
        "b.pyx",
        """
        from a cimport base, Point
        import a
        def f(x): return base(x)
        def make(): return Point(3).x
        def same(): return a
        """,
    )


def test_a_module_that_cimports_a_changed_one_upgrades_with_it(project: Project) -> None:
    write_pair(project)
    project.run(
        PREPARE
        + """
a, b = relib.load("a.pyx"), relib.load("b.pyx")
from b import f
assert f(1) == 2 and b.module.make() == 3
for n in range(2, 5):
    edit("a.pyx", open("a.pyx").read().replace(f"x + {n - 1}", f"x + {n}"))
    assert a.reload().version == n
    assert b.version == n and f(1) == 1 + n and b.module.make() == 3
    assert b.module.same() is a.module is sys.modules["a"]
    until(lambda: mapped("a") == mapped("b") == 1)
del f
assert b.unload().unloaded and a.unload().unloaded
assert not mapped("a") and not mapped("b")
"""
    )


def test_either_all_upgrade_or_none(project: Project) -> None:
    write_pair(project)
    project.run(
        PREPARE
        + """
from relib.live.together import reload_together
a, b = relib.load("a.pyx"), relib.load("b.pyx")
from b import f
good = open("a.pyx").read(), open("b.pyx").read()
edit("a.pyx", good[0].replace("x + 1", "x + 2"))
for bad, error in (("def f(:", relib.BuildError), ("raise KeyError", relib.ExecError)):
    edit("b.pyx", bad)
    try: reload_together([a, b])
    except error: pass
    else: raise AssertionError(error)
    assert (a.version, b.version, f(1)) == (1, 1, 2)
    assert sys.modules["a"] is a.module and sys.modules["b"] is b.module
edit("b.pyx", good[1].replace("base(x)", "base(x) * 10"))
assert [report.name for report in reload_together([b, a])] == ["a", "b"]
assert f(1) == 30
until(lambda: mapped("a") == mapped("b") == 1)
"""
    )


def test_a_module_whose_c_functions_are_in_use_stays(project: Project) -> None:
    write_pair(project)
    project.run(
        """
a, b = relib.load("a.pyx"), relib.load("b.pyx")
report = a.unload()
assert not report.unloaded and b.module.f(1) == 2 and b.module.make() == 3
assert b.unload().unloaded
until(lambda: not mapped("a"))
"""
    )


# What is in the module, and what is called; {n} is the number of the version.
CALLS = {
    "defaults": ("def f(x={n}, *, k={n}): return x, k", "f()"),
    "more parameters": ("def f({parameters}): return {n}", "f()"),
    "lambda": ("f = lambda x={n}, *, k={n}: (x, k)", "f()"),
    "closure": (
        """
def make(by):
    def inner(x={n}): return x, by, {n}
    return inner
f = make({n})
""",
        "f()",
    ),
    "generator function": ("def f(x={n}):\n    yield x\n    yield {n}", "list(f())"),
    "coroutine function": ("async def f(x={n}):\n    return x, {n}", "asyncio.run(f())"),
    "asynchronous generator": (
        "async def f(x={n}):\n    yield x\n    yield {n}",
        "asyncio.run(everything(f()))",
    ),
    "decorated": (
        """
import functools
def doubled(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs): return [function(*args, **kwargs), {n}]
    return wrapper
@doubled
def f(x={n}): return x
""",
        "f()",
    ),
}


@pytest.mark.parametrize("what", CALLS)
def test_a_held_function_answers_as_the_new_one(project: Project, what: str) -> None:
    source, call = CALLS[what]
    texts = [
        source.format(n=n, parameters=", ".join(f"p{each}={n}" for each in range(n)))
        for n in (1, 2, 3)
    ]
    project.write("fast.pyx", texts[0])
    project.run(
        PREPARE
        + f"""
import asyncio, inspect
async def everything(items): return [item async for item in items]
module = relib.load("fast.pyx")
from fast import f
held, first = f, {call}
signatures = {{str(inspect.signature(f))}}
for text in {texts[1:]!r}:
    edit("fast.pyx", text)
    assert module.reload().require_unloaded()
    now = {call}
    assert str(now) == str(first).replace("1", str(module.version)), now
    assert f is held is module.module.f
    signature = inspect.signature(f)
    assert signature == inspect.signature(module.module.f)
    signatures.add(str(signature))
assert len(signatures) == 3, signatures
assert mapped("fast") == 1 and relib.retired() == []
"""
    )


def test_methods_looked_up_on_the_class_are_the_new_ones(project: Project) -> None:
    source = """
        class C:
            def m(self, x={n}): return x, {n}
            @staticmethod
            def s(x={n}): return x, {n}
            @classmethod
            def c(cls, x={n}): return x, {n}
        cdef class D:
            def m(self, x={n}): return x, {n}
            @staticmethod
            def s(x={n}): return x, {n}
    """
    project.write("fast.pyx", source.format(n=1))
    project.run(
        PREPARE
        + f"""
import inspect, textwrap
source = textwrap.dedent({source!r})
module = relib.load("fast.pyx")
import fast
for n in (2, 3, 4):
    edit("fast.pyx", source.format(n=n))
    assert module.reload().require_unloaded()
    assert fast.C.m(fast.C()) == fast.C().m() == fast.C.s() == (n, n)
    assert fast.D.m(fast.D()) == fast.D().m() == fast.D.s() == (n, n)
    assert fast.C.c() == fast.C().c() == (n, n)
    assert str(inspect.signature(fast.C.m)) == f"(self, x={{n}})"
assert mapped("fast") == 1 and relib.retired() == []
"""
    )


def test_attributes_of_a_held_function_follow_and_the_programs_stay(project: Project) -> None:
    """Also when the decorator that gave it some is gone."""
    decorated = """
        import functools
        def plain(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs): return function(*args, **kwargs)
            return wrapper
        @plain
        def f(x=1): return x
        f.edition, f.first = 1, True
    """
    project.write("fast.pyx", decorated)
    project.run(
        PREPARE
        + """
import inspect
module = relib.load("fast.pyx")
from fast import f
f.tag = "mine"
edit("fast.pyx", "def f(y=2): return y\\nf.edition = 2\\n")
module.reload().require_unloaded()
assert (f(), f.edition, f.tag) == (2, 2, "mine")
assert str(inspect.signature(f)) == "(y=2)" and not hasattr(f, "__wrapped__")
assert mapped("fast") == 1 and relib.retired() == []
"""
    )


def test_names_of_one_function_may_part_and_meet(project: Project) -> None:
    project.write("fast.pyx", "def f(): return 1\ng = f")
    project.run(
        PREPARE
        + """
module = relib.load("fast.pyx")
from fast import f, g
assert f is g
edit("fast.pyx", "def g(): return 3\\ndef f(): return 2")
assert module.reload().unloaded
fast = module.module
assert fast.f is f and (f(), fast.f(), fast.g()) == (2, 2, 3)
from fast import g
edit("fast.pyx", "def f(): return 4\\ng = f")
assert module.reload().unloaded
assert fast.f is fast.g is f and f() == g() == 4
edit("fast.pyx", "def g(): return 6\\ndef f(): return 5")
assert module.reload().unloaded
assert (f(), g(), fast.f(), fast.g()) == (5, 6, 5, 6)
""",
    )


def test_the_body_of_a_new_version_sees_itself_as_its_module(project: Project) -> None:
    source = """
        import builtins, dataclasses, enum, sys, types
        NUMBER = 1
        me = sys.modules[__name__]
        me.extra = seen = me.NUMBER * 10
        assert "NUMBER" in vars(me) and me.__name__ == __name__
        me.gone = 1
        del me.gone
        if NUMBER == 3:
            class Module(types.ModuleType):
                @property
                def computed(self): return NUMBER
            me.__class__ = Module
        if NUMBER == 4: raise KeyError
        def f(): return NUMBER
    """
    project.write("fast.pyx", source)
    project.run(
        PREPARE
        + """
import types
source = open("fast.pyx").read()
module = relib.load("fast.pyx")
fast = module.module
def look(n):
    assert fast.me is fast is sys.modules["fast"] and not hasattr(fast, "gone")
    assert (fast.f(), fast.extra, fast.seen) == (n, n * 10, n * 10)
look(1)
edit("fast.pyx", source.replace("NUMBER = 1", "NUMBER = 2"))
assert module.reload().unloaded and type(fast) is types.ModuleType
look(2)
edit("fast.pyx", source.replace("NUMBER = 1", "NUMBER = 4"))
try: module.reload()
except relib.ExecError: pass
assert type(fast) is types.ModuleType
look(2)
edit("fast.pyx", source.replace("NUMBER = 1", "NUMBER = 3"))
assert module.reload().unloaded
look(3)
assert fast.computed == 3
""",
    )


def test_only_the_body_of_a_new_version_sees_new_modules(project: Project) -> None:
    write_pair(project)
    project.write("a.pyx", (project.root / "a.pyx").read_text() + "NUMBER = 1\n")
    project.write(
        "b.pyx",
        (project.root / "b.pyx").read_text()
        + """
import builtins
numbers = a.NUMBER, builtins.look()
KEPT = [a]
def default(m=a): return m
class Class: kept = a
""",
    )
    project.run(
        PREPARE
        + """
import builtins, types
def elsewhere():
    import a
    return a.NUMBER, a is public
def look():
    if threading.current_thread() is worker:
        inside.set()
        forked.wait()
    results = []
    thread = threading.Thread(target=lambda: results.append(elsewhere()))
    thread.start()
    thread.join()
    return results[0]
builtins.look, worker = look, None
inside, forked = threading.Event(), threading.Event()
a = relib.load("a.pyx")
public = a.module
b = relib.load("b.pyx")
assert b.module.numbers == (1, (1, True))
edit("a.pyx", open("a.pyx").read().replace("NUMBER = 1", "NUMBER = 2"))
worker = threading.Thread(target=a.reload)
worker.start()
inside.wait()
child = os.fork()
if not child:
    ok = elsewhere() == (1, True) and type(public) is types.ModuleType
    os._exit(0 if ok else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
forked.set()
worker.join()
m = b.module
assert a.version == b.version == 2 and m.numbers == (2, (1, True)), m.numbers
assert type(public) is types.ModuleType
assert all(kept is public for kept in (m.a, m.KEPT[0], m.default(), m.Class.kept, m.same()))
until(lambda: mapped("a") == mapped("b") == 1)
""",
    )


def test_nothing_stops_an_upgrade_half_way(project: Project) -> None:
    project.write(
        "fast.pyx",
        """
        import weakref
        class C: pass
        dead = weakref.proxy(C())
        class Loaded(type(weakref)):
            def __getattribute__(self, name): raise RuntimeError("loaded by a question")
        lazy = Loaded("lazy")
        def f(): return 1
        def g(x=C(), *, y=C()): return 1
        """,
    )
    project.run(
        PREPARE
        + """
from relib.live.loaded import on_noted
source = open("fast.pyx").read()
module = relib.load("fast.pyx")
from fast import f, g
failing = []
def listen():
    if failing: raise failing.pop()
on_noted(listen)
for n, failure in enumerate((None, KeyboardInterrupt()), 2):
    edit("fast.pyx", source.replace("return 1", f"return {n}"))
    if failure: failing.append(failure)
    try: module.reload()
    except BaseException as error: assert error is failure, error
    else: assert failure is None
    failure = None
    assert module.version == n and f() == g() == n and f is module.module.f
    assert [past.number for past in module.history] == list(range(1, n + 1))
    until(lambda: mapped("fast") == 1)
assert relib.retired() == []
""",
    )


def test_what_is_unloaded_while_its_provider_is_built_is_not_loaded_again(project: Project) -> None:
    write_pair(project)
    project.run(
        PREPARE
        + """
from relib.live import together
a, b = relib.load("a.pyx"), relib.load("b.pyx")
build = together._build
def build_and_meanwhile(modules):
    made = build(modules)
    if not b.unloaded: b.unload()
    return made
together._build = build_and_meanwhile
edit("a.pyx", open("a.pyx").read() + "\\nEXTRA = 1\\n")
report = a.reload()
assert report.unloaded and a.version == 2 and a.module.EXTRA == 1
assert b.unloaded and "b" not in sys.modules and relib.get("b") is None
until(lambda: not mapped("b"))
assert mapped("a") == 1 and relib.retired() == []
"""
    )
