"""Whatever a program can still hold of a module keeps its code mapped, and works; all else goes.

Each kind of escape is a scenario of its own, in which a tool that closes the library too early
crashes.
"""

from __future__ import annotations

import pytest
from conftest import Project

MODULE = """
    # cython: language_level=3, binding=True
    import functools
    cimport cython
    from cpython.pycapsule cimport PyCapsule_New
    cdef void capsule_goes(object capsule) noexcept: pass
    def capsule(): return PyCapsule_New(<void*>1, "mod.capsule", capsule_goes)
    def function(n=3): return n
    def closure(x):
        def inner(y): return x + y
        return inner
    def generator(n):
        for i in range(n): yield i
    async def coroutine(x): return x
    async def asynchronous(n):
        for i in range(n): yield i
    def failing(): raise ValueError('boom')
    twice = lambda x: x * 2
    cdef class Counter:
        cdef public int n
        cdef object d
        cdef object __weakref__
        def __init__(self, n): self.n = n; self.d = {}
        def __iter__(self): return iter(range(self.n))
        def bump(self, k): self.n += k; return self.n
        @property
        def double(self): return self.n * 2
        @staticmethod
        def static(): return 5
        @classmethod
        def cls(cls): return cls
        cpdef int direct(self): return self.n
    cdef class Buffer:
        cdef char data[16]
        def __getbuffer__(self, Py_buffer* b, int flags):
            b.buf = self.data; b.obj = self; b.len = 16; b.readonly = 0; b.itemsize = 1
            b.format = NULL; b.ndim = 1; b.shape = NULL; b.strides = NULL; b.suboffsets = NULL
            b.internal = NULL
        def __releasebuffer__(self, Py_buffer* b): pass
    class Plain:
        def method(self): return 1
        def __del__(self): function()
    cdef class Iterator:
        cdef int i
        def __next__(self):
            self.i += 1
            return self.i
        def __iter__(self): return self
    ctypedef fused number:
        int
        double
    def fused(number x): return x + x
    cpdef enum Colour:
        RED = 1
        BLUE = 2
    def view(): return memoryview(Buffer())
    def slices(double[:] v): return v[1:]
    @functools.lru_cache
    def cached(x): return x
    cdef class Node:
        cdef public object o
    def decorator(f):
        @functools.wraps(f)
        def wrapper(*a): return f(*a)
        return wrapper
    cdef object hidden = Counter(1)
    cdef api int exported(int x): return x
"""

# kind: (what is held, what is then done with it)
HELD = {
    "function": ("m.function", "held()"),
    "closure": ("m.closure(3)", "held(4)"),
    "lambda": ("m.twice", "held(2)"),
    "generator": ("m.generator(5)", "list(held)"),
    "started generator": ("started(m.generator(5))", "list(held)"),
    "coroutine": ("m.coroutine(3)", "drive(held)"),
    "asynchronous generator": ("m.asynchronous(3)", "drive(held.__anext__())"),
    "method": ("m.Counter.bump", "held"),
    "bound method": ("m.Counter(3).bump", "held(1)"),
    "static method": ("m.Counter.static", "held()"),
    "class method": ("m.Counter.cls", "held()"),
    "instance": ("m.Counter(3)", "held.bump(1), held.direct(), list(held)"),
    "class": ("m.Counter", "held(2).bump(1)"),
    "python class": ("m.Plain", "held().method()"),
    "python instance": ("m.Plain()", "held.method()"),
    "python method": ("m.Plain.method", "held"),
    "iterator": ("m.Iterator()", "next(held)"),
    "exception with traceback": ("caught(m.failing)", "repr(held.__traceback__.tb_frame)"),
    "capsule": ("m.capsule()", "repr(held)"),
    "capsule of the C interface": ("m.__pyx_capi__['exported']", "repr(held)"),
    "memoryview": ("m.view()", "held[3]"),
    "array slice": ("m.slices(array.array('d', [1, 2, 3]))", "held[0]"),
    "enum": ("m.Colour.RED", "held.name, repr(held)"),
    "fused function": ("m.fused", "held(2), held(2.5)"),
    "fused specialisation": ("m.fused['int']", "held(2)"),
    "cached function": ("m.cached", "held(2)"),
    "property": ("m.Counter.__dict__['double']", "held"),
    "slot wrapper": ("m.Counter.__init__", "held"),
    "globals": ("m.function.__globals__", "len(held)"),
    "partial": ("functools.partial(m.function, 3)", "held()"),
    "map": ("map(m.twice, [1])", "list(held)"),
    "subclass": ("type('Sub', (m.Counter,), {})", "held(3).bump(1)"),
    "instance of a subclass": ("type('Sub', (m.Counter,), {})(3)", "held.bump(1)"),
    "wrapped": ("m.decorator(len)", "held([1])"),
    "cycle": ("cycle(m)", "held.o[0]"),
    "weak reference callback": ("weakref.ref(anchor, m.twice)", "held()"),
    "module": ("m.__relib__", "held"),
}

# What keeps no code in use, however it is referred to.
FREE = {
    "nothing": "None",
    "defaults": "m.function.__defaults__",
    "code object": "m.function.__code__",
    "exception without traceback": "caught(m.failing).with_traceback(None)",
    "name": "m.function.__name__",
    "result": "m.cached([].__class__)",
    "weak reference": "weakref.ref(m.Counter)",
    "isinstance of an abstract class": "isinstance(m.Counter(1), typing.Iterable) and None",
    "generic alias": "typing.Optional[int]",
    "garbage cycle": "cycle(m) and None",
    "finished generator": "list(m.generator(3))",
}

HELPERS = """
# Once they are at their end, these no longer need the code.
USED_UP = {"generator", "started generator", "coroutine", "asynchronous generator", "map"}
import array, asyncio, atexit, copyreg, functools, typing, weakref
class Anchor: pass
anchor = Anchor()
def started(g):
    next(g)
    return g
def caught(f):
    try: f()
    except ValueError as error: return error
def cycle(m):
    node = m.Node()
    node.o = [node]
    return node
def drive(awaitable):
    async def run(): return await awaitable
    return asyncio.run(run())
"""


@pytest.fixture(scope="module")
def project(shared_project: Project) -> Project:
    shared_project.write("mod.pyx", MODULE)
    return shared_project


@pytest.mark.parametrize("kind", HELD)
def test_what_is_held_works_on_and_goes_in_the_end(project: Project, kind: str) -> None:
    what, use = HELD[kind]
    project.run(
        HELPERS
        + f"""
module = relib.load("mod.pyx")
m = module.module
held = {what}
del m
report = module.unload()
assert not report.unloaded, "this is held"
assert mapped("mod") == 1 and report.pins
({use})
if {kind!r} not in USED_UP:
    relib.reap()
    assert mapped("mod") == 1
    ({use})
del held
until(lambda: not mapped("mod") or gc.collect() and False)
assert relib.retired() == []
"""
    )


@pytest.mark.parametrize("kind", FREE)
def test_what_holds_no_code_lets_it_go_at_once(project: Project, kind: str) -> None:
    project.run(
        HELPERS
        + f"""
module = relib.load("mod.pyx")
m = module.module
held = {FREE[kind]}
del m
report = module.unload()
assert report.unloaded, report
assert not mapped("mod")
repr(held)
"""
    )
