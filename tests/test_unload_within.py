"""Module.unload() called from the module's own code: that stays until the call has returned."""

from __future__ import annotations

from conftest import Project

WITHIN = """
    # cython: language_level=3
    import builtins, relib
    def inside(*ignored):
        builtins.reports.append(relib.get("mod").unload())
        return builtins.reports
    def generator():
        yield 1
        yield inside()
        yield 3
    async def coroutine(): return inside()
    cdef class Dealloc:
        cdef object o
        def __init__(self, cyclic=False):
            if cyclic: self.o = self
        def __dealloc__(self): inside()
    class Del:
        def __del__(self): inside()
    def deep(n): return deep(n - 1) if n else inside()
    def comprehension(): return [inside() for _ in range(1)]
    def raising():
        try: raise ValueError
        finally: inside()
    class Descriptor:
        def __get__(self, o, t): return inside()
    class Holder: value = Descriptor()
    cdef class Compared:
        def __lt__(self, other): return bool(inside())
        def __hash__(self): return len(inside())
        def __iter__(self): return iter(inside())
        def __getattr__(self, name): return inside()
        def __enter__(self): return self
        def __exit__(self, *a): inside()
    def use_with():
        with Compared(): pass
"""

PLACES = {
    "a function": "m.inside()",
    "a deep call": "m.deep(50)",
    "a comprehension": "m.comprehension()",
    "a finally clause": "expect(ValueError, m.raising)",
    "a generator": "g = m.generator(); next(g); next(g); assert next(g) == 3",
    "a coroutine": "asyncio.run(m.coroutine())",
    "__dealloc__": "d = m.Dealloc(); del d",
    "__del__": "d = m.Del(); del d",
    "a finalizer during a collection": "d = m.Dealloc(True); del d; gc.collect()",
    "a weak reference's callback": "a = A(); w = weakref.ref(a, m.inside); del m, a",
    "a finalizer": "a = A(); weakref.finalize(a, m.inside); del m, a",
    "a thread": "t = threading.Thread(target=m.inside); t.start(); t.join()",
    "a signal handler": (
        "signal.signal(signal.SIGUSR1, m.inside); os.kill(os.getpid(), signal.SIGUSR1);"
        "until(lambda: reports); signal.signal(signal.SIGUSR1, signal.SIG_DFL)"
    ),
    "a key function": "expect(TypeError, lambda: sorted([1], key=m.inside) < 1)",
    "a comparison": "m.Compared() < 1",
    "__hash__": "hash(m.Compared())",
    "__iter__": "list(m.Compared())",
    "__getattr__": "m.Compared().x",
    "__exit__": "m.use_with()",
    "a descriptor": "m.Holder().value",
    "a callback of the collector": "gc.callbacks.append(once); del m; gc.collect()",
    "a trace function": "sys.settrace(once); del m; (lambda: 0)(); sys.settrace(None)",
    "a context": "contextvars.copy_context().run(m.inside)",
    "an audit hook": "sys.addaudithook(once); del m; sys.audit('relib.test')",
}


def test_a_module_can_be_unloaded_from_within(project: Project) -> None:
    project.write("mod.pyx", WITHIN)
    outcome = project.run(
        f"""
        import asyncio, builtins, contextvars, weakref
        builtins.reports = []
        class A: pass
        def once(*ignored):
            if once in gc.callbacks: gc.callbacks.remove(once)
            if sys.gettrace(): sys.settrace(None)
            if relib.get("mod") and not reports:
                reports.append(relib.get("mod").unload())
        def expect(kind, function):
            try: function()
            except kind: return
            raise AssertionError
        def run(place):
            m = relib.load("mod.pyx").module
            exec(place, {{**globals(), "m": m}})
        for name, place in {PLACES!r}.items():
            print(name, flush=True)
            run(place)
            [report] = reports
            assert report.version is None, name
            del report
            reports.clear()
            until(lambda: not mapped("mod") or gc.collect() and False)
            assert relib.get("mod") is None and "mod" not in sys.modules
        """
    )
    assert not outcome.errors


def test_a_module_can_be_unloaded_at_exit_by_itself(project: Project) -> None:
    project.write("mod.pyx", WITHIN)
    outcome = project.run(
        """
        import atexit, builtins
        builtins.reports = []
        atexit.register(relib.load("mod.pyx").module.inside)
        """
    )
    assert not outcome.errors
