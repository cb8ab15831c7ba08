"""Nothing in the life of a process makes relib crash it: its end, forks, threads, odd settings."""

from __future__ import annotations

import pytest
from conftest import Project

FEATURES = """
    # cython: language_level=3
    import builtins, threading
    from libc.stdlib cimport malloc, free
    cdef extern from "unistd.h" nogil:
        ctypedef Py_ssize_t ssize_t
        ssize_t read(int, void *, size_t)
    cdef class Counter:
        cdef public int n
        cdef object d
        cdef void *memory
        def __cinit__(self): self.memory = malloc(64)
        def __init__(self, n=0): self.n = n; self.d = {}
        cpdef int bump(self): self.n += 1; return self.n
        def __dealloc__(self): free(self.memory)
    noted = []
    def note(n): noted.append(n)
    cdef Counter hidden = Counter(1)
    state = [Counter(2), {"x": Counter(3)}]
    def generator(n):
        for i in range(n): yield i
    async def coroutine(): return 1
    def closure(x):
        def inner(y): return x + y
        return inner
    ctypedef fused number:
        int
        double
    def fused(number x): return x + x
    cpdef enum Colour:
        RED = 1
    def total(double[:] v):
        cdef double s = 0
        for i in range(v.shape[0]): s += v[i]
        return s
    def failing(): raise ValueError("boom")
    def wait(int fd):
        cdef char c
        with nogil: read(fd, &c, 1)
        return hidden.bump()
    def call(f): return f()
    def forever():
        cdef long n = 0
        while True: n += 1
    def start(f):
        t = threading.Thread(target=f, daemon=True)
        t.start()
        return t
"""

USE = """
import array
def use(m):
    c = m.Counter(1); c.bump()
    list(m.generator(3)); m.closure(1)(2); m.fused(2); m.fused(2.5); m.Colour.RED
    assert m.total(array.array("d", [1, 2])) == 3
    try: m.coroutine().send(None)
    except StopIteration: pass
    try: m.failing()
    except ValueError: pass
"""


def scenario(text: str) -> str:
    import textwrap

    return USE + textwrap.dedent(text)


@pytest.fixture(scope="module")
def project(shared_project: Project) -> Project:
    shared_project.write("mod.pyx", FEATURES)
    return shared_project


def test_two_thousand_cycles_leave_nothing_behind(project: Project) -> None:
    project.run(
        scenario(
            """
            build = relib.build("mod.pyx")
            def cycle():
                module = relib.load(build)
                use(module.module)
                assert module.unload().unloaded
            def look(): return len(open("/proc/self/maps").readlines()), descriptors(), threads()
            for _ in range(500): cycle()
            gc.collect()
            seen, memory = look(), rss()
            for _ in range(1500): cycle()
            gc.collect()
            after = look()
            assert after[1:] == seen[1:] and abs(after[0] - seen[0]) <= 4, (seen, after)
            assert rss() - memory < 1500 * 512, (rss() - memory) / 1500
            assert not mapped("mod") and relib.retired() == []
            """
        )
    )


SETTINGS = {
    "without the collector": "gc.disable()",
    "with everything frozen": "use(relib.load('mod.pyx').module); gc.freeze()",
    "with a frozen module": "use(relib.load('mod.pyx').module); gc.freeze(); gc.disable()",
    "with a quick collector": "gc.set_threshold(1, 1, 1)",
    "while memory is traced": "import tracemalloc; tracemalloc.start(5)",
    "while calls are traced": "sys.settrace(lambda *a: None)",
    "while lines are traced": "tracer = lambda *a: tracer; sys.settrace(tracer)",
    "while calls are profiled": "sys.setprofile(lambda *a: None)",
    "with an audit hook": "sys.addaudithook(lambda *a: None)",
    "with a small stack": "sys.setrecursionlimit(200)",
    "with warnings as errors": "import warnings; warnings.simplefilter('error')",
    "with quick switches": (
        "sys.setswitchinterval(1e-6);"
        "threading.Thread(target=lambda: [sum(range(99)) for _ in range(30000)]).start()"
    ),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_it_unloads(project: Project, setting: str) -> None:
    outcome = project.run(
        scenario(
            f"""
            {SETTINGS[setting]}
            for cycle in range(5):
                module = relib.load("mod.pyx")
                use(module.module)
                report = module.unload()
                assert report.unloaded and not mapped("mod"), report
            """
        )
    )
    assert not outcome.errors


def test_it_unloads_with_a_checking_allocator(project: Project) -> None:
    outcome = project.run(
        scenario(
            """
            for cycle in range(20):
                module = relib.load("mod.pyx")
                m = module.module
                use(m)
                held = [m.Counter(1), m.generator(3), m.closure, m.Counter]
                del m
                module.unload()
                while held:
                    held.pop()
                    relib.reap()
                until(lambda: not mapped("mod"))
            """
        ),
        PYTHONMALLOC="debug",
        PYTHONDEVMODE="1",
        MALLOC_PERTURB_="165",
    )
    assert not outcome.errors


def test_fifty_pinned_versions_all_work_and_all_go(project: Project) -> None:
    project.run(
        scenario(
            """
            module = relib.load("mod.pyx")
            held = []
            for version in range(50):
                m = module.module
                held.append([m.Counter(version), m.closure(version), m.Colour.RED])
                del m
                module.reload(force=True)
            assert len(relib.retired()) == 50
            for version, (counter, inner, colour) in enumerate(held):
                assert counter.bump() == version + 1 and inner(1) == version + 1
                assert colour.name == "RED"
            del counter, inner, colour
            import random
            random.Random(1).shuffle(held)
            while held:
                held.pop()
            until(lambda: not relib.retired() or gc.collect() and False)
            use(module.module)
            assert module.unload().unloaded and not mapped("mod")
            """
        )
    )


def test_a_forked_child_can_use_reload_and_exit(project: Project) -> None:
    outcome = project.run(
        scenario(
            """
            import subprocess
            faulthandler.cancel_dump_traceback_later()  # a child would wait for its thread
            module = relib.load("mod.pyx")
            m = module.module
            r, w = os.pipe()
            held = [m.Counter(1), m.closure(1)]
            waiting = m.start(lambda wait=m.wait: wait(r))
            del m
            module.reload(force=True)
            assert len(relib.retired()) == 1
            for how in ("exit", "reload", "unload"):
                pid = os.fork()
                if pid == 0:
                    status = 1
                    try:
                        assert held[0].bump() and held[1](1) == 2
                        use(module.module)
                        if how != "exit":
                            module.reload(force=True)
                            use(module.module)
                        if how == "unload":
                            held.clear()
                            module.unload()
                            relib.reap()
                        status = 0
                    finally:
                        if how == "exit":
                            sys.exit(status)
                        os._exit(status)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, how
            assert subprocess.run([sys.executable, "-c", "1"]).returncode == 0
            os.write(w, b"x")
            waiting.join()
            held.clear()
            until(lambda: len(relib.retired()) == 0 or gc.collect() and False)
            use(module.module)
            """
        )
    )
    assert "Error" not in outcome.errors


def test_fork_handlers_of_a_module_pin_it(project: Project) -> None:
    project.run(
        scenario(
            """
            module = relib.load("mod.pyx")
            faulthandler.cancel_dump_traceback_later()
            os.register_at_fork(before=lambda f=module.module.closure(1): f(1),
                                after_in_child=lambda f=module.module.Colour: f.RED)
            report = module.unload()
            assert not report.unloaded
            pid = os.fork()
            if pid == 0: os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            """
        )
    )


def test_a_spawned_process_loads_its_own(project: Project) -> None:
    project.write(
        "child.py",
        """
        import relib
        def work(n):
            module = relib.load("mod.pyx")
            result = module.module.closure(n)(1)
            module.unload()
            return result
        """,
    )
    project.run(
        scenario(
            """
            import multiprocessing, child
            module = relib.load("mod.pyx")
            if __name__ == "__main__":
                context = multiprocessing.get_context("spawn")
                with context.Pool(1) as pool:
                    assert pool.map(child.work, [1, 2]) == [2, 3]
                use(module.module)
            """
        )
    )


ENDS = {
    "loaded": "held = [m.Counter(1), m.generator(3), m.closure(2)]; next(held[1])",
    "retired": "held = m.Counter(1); del m; module.reload(force=True)",
    "unloaded but pinned": "held = [m.Counter(1), m.closure(1)]; del m; module.unload()",
    "a cycle of pinned objects": (
        "c = m.Counter(1); held = [c]; held.append(held); del m, c; module.unload()"
    ),
    "pinned by sys": "sys.held = m.Counter(1); del m; module.unload()",
    "pinned by an exit function": (
        "import atexit; atexit.register(m.closure(1), 2); del m; module.unload()"
    ),
    "a thread in C": (
        "r, w = os.pipe(); t = m.start(lambda f=m.wait: f(r)); del m; module.unload()"
    ),
    "a thread in Python": (
        "e = threading.Event(); m.start(lambda f=m.call: f(e.wait)); del m; module.unload()"
    ),
    "os._exit": "held = m.Counter(1); del m; module.unload(); os._exit(0)",
    "many versions": (
        "held = []; "
        "[(held.append(module.module.Counter(1)), module.reload(force=True)) for _ in range(5)]"
    ),
    "an exception hook": (
        "sys.unraisablehook = m.note; sys.excepthook = m.note; del m; module.unload()"
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_process_ends_quietly(project: Project, end: str) -> None:
    outcome = project.run(
        scenario(
            f"""
            module = relib.load("mod.pyx")
            m = module.module
            use(m)
            {ENDS[end]}
            """
        )
    )
    assert not outcome.errors
