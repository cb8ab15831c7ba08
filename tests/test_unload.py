"""Module.unload(): what a module keeps for itself goes with it; what others keep works on."""

from __future__ import annotations

import pytest
from conftest import Project

STATE = """
    # cython: language_level=3
    import contextvars, functools, logging, re, threading
    from libc.stdlib cimport malloc, free
    counts = {"dealloc": 0, "del": 0}
    def note(what): counts[what] += len([x for x in (1,)])
    cdef class Bare:
        cdef int n
        def __init__(self, n=0): self.n = n
        def get(self): return self.n
    cdef class Noisy:
        cdef void *memory
        def __cinit__(self): self.memory = malloc(16)
        def __dealloc__(self):
            free(self.memory)
            note("dealloc")
    cdef class Node:
        cdef public object o
        def __dealloc__(self): note("dealloc")
    cdef class Table:
        cdef dict items
        cdef list order
        def __init__(self): self.items = {"self": self}; self.order = [Bare(1), self.items]
    class Plain:
        shared = None
        def __init__(self): self.me = self
        def __del__(self): note("del")
    cdef object hidden = None
    cdef Bare typed = None
    cdef list objects = []
    x = None
    host = None
    def node(o):
        made = Node()
        made.o = o
        return made
    def cycle():
        made = node(None)
        made.o = [made, Noisy(), Bare(1), Plain()]
        return made
    def closure(o):
        def inner(): return o
        return inner
    def default(o):
        def inner(a=o, *, b=(o,)): return a, b
        return inner
    def attribute(o):
        class Local:
            value = o
        return Local
    def metaclass(o):
        class Meta(type): value = o
        class Local(metaclass=Meta): pass
        return Local
    def generator(o):
        def run():
            try: yield o
            finally: note("del")
        made = run()
        next(made)
        return made
    async def coroutine(): return Bare(1)
    def cached():
        @functools.lru_cache
        def inner(n): return [Bare(n), Noisy()]
        inner(1)
        inner(2)
        return inner
    def in_c(o):
        global hidden, typed
        hidden = o
        typed = Bare(1)
        objects.append(o)
    def raised():
        try: raise ValueError(Bare(1))
        except ValueError as error: return error
    def context():
        variable = contextvars.ContextVar("variable", default=Bare(1))
        inner = contextvars.copy_context()
        inner.run(variable.set, Bare(2))
        return variable, inner
    def local():
        made = threading.local()
        made.x = Noisy()
        return made
    def log():
        logging.getLogger(__name__).debug("%s", 1)
        return logging.getLogger(__name__)
    def pattern(): return re.compile("(a)+b").match("aab")
    def locks():
        made = threading.Lock(), threading.RLock(), threading.Condition(), threading.Event()
        with made[0], made[1]: return made
    def bound(): return node(1).__class__, [].append, Bare(1).get, Bare.get
    def view():
        cdef double[:] v
        import array
        v = array.array("d", [1, 2])
        return v[1:]
    cdef double[:] kept = None
    cdef class Matrix:
        cdef double[:] values
        def __init__(self, values): self.values = values
    def matrix():
        global kept
        import array
        kept = array.array("d", [1, 2])
        return Matrix(array.array("d", [1, 2]))
    def many(): return [Bare(n) for n in range(10_000)]
    def hosts(heap):
        global host
        host = heap
    def put(o):
        global x
        x = o
"""

KINDS = [
    "m.Bare(1)",
    "m.Noisy()",
    "[m.Bare(1), [m.Noisy()]]",
    "(m.Bare(1), (m.Noisy(),))",
    "{'a': m.Bare(1), m.Bare(2): m.Noisy()}",
    "{m.Bare(1)}",
    "frozenset([m.Noisy()])",
    "m.node(m.Bare(1))",
    "m.cycle()",
    "m.Table()",
    "m.Plain()",
    "m.closure(m.Bare(1))",
    "m.closure(m.cycle())",
    "m.default(m.Bare(1))",
    "m.default(m.Noisy())",
    "m.attribute(m.Bare(1))",
    "m.attribute(m.cycle())",
    "m.metaclass(m.Noisy())",
    "m.generator(m.Bare(1))",
    "m.generator(m.cycle())",
    "m.cached()",
    "m.in_c(m.Bare(1))",
    "m.raised()",
    "m.context()",
    "m.local()",
    "m.log()",
    "m.pattern()",
    "m.locks()",
    "m.bound()",
    "m.view()",
    "[m.view(), m.view()]",
    "m.matrix()",
    "m.many()",
    "m.hosts(host)",
    "m.node(host)",
    "type('Sub', (m.Bare,), {})(1)",
    "type('Sub', (m.Node,), {'o2': m.Noisy()})()",
    "Mine(m.Bare(1))",
    "Mine(m.cycle())",
    "functools.partial(m.closure, m.Noisy())",
    "weakref.ref(mine, m.put)",
    "types.SimpleNamespace(a=m.Bare(1))",
    "collections.deque([m.Bare(1)])",
    "collections.OrderedDict(a=m.Noisy())",
    "collections.defaultdict(m.Bare)",
    "iter([m.Bare(1)])",
    "zip([m.Bare(1)], m.generator(1))",
    "m.closure(m)",
    "types.MethodType(m.put, m.Bare(1))",
    "property(m.put)",
    "staticmethod(m.put)",
    "[Mine(m.Bare(1))] * 2",
    "[functools.partial(m.closure, m.Bare(1))] * 3",
    "[functools.lru_cache(m.closure)] * 2",
    "[Mine([Mine(m.put)] * 2)] * 2",
    "[[m.put] * 600] * 2",
]


@pytest.fixture(scope="module")
def stateful(shared_project: Project) -> Project:
    shared_project.write("mod.pyx", STATE)
    return shared_project


def test_what_a_module_keeps_for_itself_goes_with_it(stateful: Project) -> None:
    outcome = stateful.run(
        f"""
        import collections, functools, types, weakref
        class Mine:
            def __init__(self, *held): self.held = held
        mine = Mine()
        host = {{n: [n] for n in range(100_000)}}
        failures = {{}}
        for kind in {KINDS!r}:
            print(kind, flush=True)
            module = relib.load("mod.pyx")
            m = module.module
            m.put(eval(kind))
            counts = m.counts
            del m
            report = module.unload()
            if not report.unloaded or mapped("mod"):
                failures[kind] = str(report)
                until(lambda: not mapped("mod") or gc.collect() and False)
            if "cycle" in kind:
                assert counts["dealloc"] >= 2 and counts["del"], (kind, counts)
        assert not failures, failures
        assert len(host) == 100_000
        """
    )
    assert not outcome.errors


def test_instances_in_c_variables_go_last(stateful: Project) -> None:
    stateful.run(
        """
        for kind in ("Noisy", "cycle"):
            module = relib.load("mod.pyx")
            module.module.in_c(getattr(module.module, kind)())
            # What their __dealloc__ looks up is None by then, as at Python's own end.
            assert module.unload().unloaded and not mapped("mod")
        """
    )


def test_cycles_leave_nothing_behind(stateful: Project) -> None:
    stateful.run(
        """
        def cycle():
            module = relib.load(build)
            m = module.module
            m.put([m.Bare(1), m.Noisy(), m.cycle(), m.Table(), m.closure(m.Bare(2)),
                   m.view(), m.matrix(), m.generator(m.Bare(1)), m.cached(), m.raised(),
                   m.local(), m.pattern()])
            m.in_c(m.Bare(1))
            del m
            report = module.unload()
            assert report.unloaded, report
        build = relib.build("mod.pyx")
        for _ in range(60): cycle()
        gc.collect()
        def mappings(): return len(open("/proc/self/maps").readlines())
        def look(): return heap(), descriptors(), threads(), mappings()
        looks = [look()]
        for _ in range(3):
            for _ in range(100): cycle()
            gc.collect()
            looks.append(look())
        # A table of Python's that doubles once is no growth for each cycle.
        growth = min(later[0] - sooner[0] for sooner, later in zip(looks, looks[1:])) / 100
        assert growth < 64, growth
        before, after = looks[0], looks[-1]
        assert after[1:3] == before[1:3]
        assert after[3] <= before[3] + 4, (before, after)
        """
    )


def test_what_a_finalizer_hands_to_the_program_pins_and_works(project: Project) -> None:
    project.write(
        "mod.pyx",
        """
        # cython: language_level=3
        import builtins
        def function(): return Bare(len(builtins.seen)), [x for x in (1, 2)]
        cdef class Bare:
            cdef int n
            def __init__(self, n=0): self.n = n
        cdef class Noisy:
            cdef public object o
            def __dealloc__(self): builtins.seen.append(function)
        cdef class Reborn:
            cdef public object o
            def __del__(self): builtins.seen.append(self)
            def __call__(self): return function()
        x = None
        def make(cls, cyclic, listed):
            global x
            x = cls()
            if cyclic: x.o = x
            if listed: x = [x]; x.append(x)
        def default(cls):
            def inner(a=cls()): pass
            global x
            x = inner
        """,
    )
    outcome = project.run(
        """
        import builtins
        builtins.seen = []
        makers = [lambda m, cls, c=c, l=l: m.make(cls, c, l) for c in (0, 1) for l in (0, 1)]
        for make in [*makers, lambda m, cls: m.default(cls)]:
            for cls in ("Noisy", "Reborn"):
                module = relib.load("mod.pyx")
                make(module.module, getattr(module.module, cls))
                report = module.unload()
                assert not report.unloaded and len(seen) == 1, (report, seen)
                for _ in range(3):
                    try: seen[0]()
                    except TypeError: pass  # it has been finalized: its names are None
                seen.clear()
                until(lambda: not mapped("mod") or gc.collect() and False)
        """
    )
    assert not outcome.errors


def test_the_public_module_says_that_it_has_been_unloaded(stateful: Project) -> None:
    stateful.run(
        """
        import inspect, pickle
        module = relib.load("mod.pyx")
        public = module.module
        assert module.unload().unloaded
        def imported():
            sys.modules["mod"] = public
            try:
                from mod import Bare
            finally:
                del sys.modules["mod"]
        for use in (lambda: public.Bare, lambda: hasattr(public, "Bare"), lambda: dir(public),
                    lambda: setattr(public, "x", 1), lambda: delattr(public, "Bare"),
                    lambda: getattr(public, "Bare", None), imported, module.reload,
                    module.rollback, module.unload):
            try:
                use()
            except relib.ModuleUnloaded as error:
                assert error.name == "mod" and "relib.load" in str(error)
            else:
                raise AssertionError(inspect.getsource(use))
        assert "mod" in repr(public) and "unloaded" in repr(public) and "unloaded" in repr(module)
        assert "Bare" not in vars(public) and public.__name__ == "mod"
        inspect.ismodule(public), public == public, hash(public), str(public)
        again = relib.load("mod.pyx")
        assert again is not module and again.module is not public
        assert again.module.Bare(3).get() == 3 and sys.modules["mod"] is again.module
        assert module.unloaded and not again.unloaded
        """
    )


def test_a_finalizer_that_runs_last_may_bring_the_module_back(project: Project) -> None:
    project.write(
        "mod.pyx",
        """
        # cython: language_level=3
        cdef object hidden = None
        def f(): return "f", [x for x in (1, 2)]
        def keep(held, seen):
            try: yield
            finally: seen.append(held)
        class Del:
            def __init__(self, *held): self.held = held; self.me = self
            def __del__(self): self.held[1].append(self.held[0])
        def hide(o):
            global hidden
            hidden = o
        """,
    )
    outcome = project.run(
        """
        seen = []
        def keep(held, seen):
            try: yield
            finally: seen.append(held)
        def generator(m, make):
            made = make(m.f, seen)
            next(made)
            return made
        def show(m, o): m.shown = o
        for put in (show, lambda m, o: m.hide(o)):
            for make in (lambda m: generator(m, keep), lambda m: generator(m, m.keep),
                         lambda m: m.Del(m.f, seen)):
                module = relib.load("mod.pyx")
                put(module.module, make(module.module))
                report = module.unload()
                assert not report.unloaded and len(seen) == 1, (report, seen)
                [pin] = report.pins
                assert pin.kind == "object", pin
                assert seen[0]() == ("f", [1, 2])
                relib.reap()
                assert mapped("mod") == 1 and seen[0]() == ("f", [1, 2])
                seen.clear()
                until(lambda: not mapped("mod"))
        """
    )
    assert not outcome.errors


def test_what_is_unloaded_and_held_is_loaded_anew_beside_it(project: Project) -> None:
    project.write(
        "mod.pyx",
        """
        calls = 0
        def count():
            global calls
            calls += 1
            return calls
        """,
    )
    project.run(
        """
        module = relib.load("mod.pyx")
        held = module.module.count
        assert held() == 1
        report = module.unload()
        assert not report.unloaded and "count" in str(report), report
        again = relib.load("mod.pyx")
        assert again is not module and sys.modules["mod"] is again.module
        # each has data of its own
        assert (held(), again.module.count(), held(), again.module.count()) == (2, 1, 3, 2)
        assert held is not again.module.count and mapped("mod") == 2
        assert [version.name for version in relib.retired()] == ["mod"]
        del held
        until(lambda: mapped("mod") == 1)
        assert relib.retired() == [] and again.module.count() == 3
        again.unload().require_unloaded()
        assert not mapped("mod")
        """
    )
