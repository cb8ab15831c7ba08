"""Threads inside a version's code keep it mapped and are named; it goes when they leave."""

from __future__ import annotations

import pytest
from conftest import Project

CYTHON = """
    # cython: language_level=3
    cdef extern from "unistd.h" nogil:
        ctypedef Py_ssize_t ssize_t
        ssize_t read(int, void *, size_t)
    def wait(int fd):
        cdef char c
        with nogil: read(fd, &c, 1)
    def call(f): return f()
    cdef void waits(int fd) noexcept:
        cdef char c
        with nogil: read(fd, &c, 1)
    def wait_by_call(f, int fd):
        f()
        waits(fd)
"""

C = """
    #include <Python.h>
    #include <pthread.h>
    #include <unistd.h>
    static int ends[2];
    static volatile int stop, running;
    static void *blocked(void *unused) {
        char c; running = 1; (void)!read(ends[0], &c, 1); return NULL; }
    static void *spinning(void *unused) { running = 1; while (!stop) {} return NULL; }
    static void *passing(void *unused) { return NULL; }
    static PyObject *start(PyObject *self, PyObject *what) {
        pthread_t thread;
        int kind = (int)PyLong_AsLong(what);
        stop = running = 0;
        if (pipe(ends) != 0 || pthread_create(&thread, NULL,
            kind == 0 ? blocked : kind == 1 ? spinning : passing, NULL) != 0 ||
            pthread_detach(thread) != 0) return PyErr_SetFromErrno(PyExc_OSError);
        while (kind != 2 && !running) {}
        return Py_BuildValue("(iN)", ends[1], PyCapsule_New((void *)&stop, NULL, NULL));
    }
    static PyObject *end(PyObject *self, PyObject *unused) {
        stop = 1; (void)!write(ends[1], "x", 1); Py_RETURN_NONE; }
    static PyMethodDef methods[] = {{"start", start, METH_O, NULL}, {"end", end, METH_NOARGS, NULL},
                                    {NULL, NULL, 0, NULL}};
    static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "mod", NULL, 0, methods};
    PyMODINIT_FUNC PyInit_mod(void) { return PyModuleDef_Init(&definition); }
"""

OPENMP = """
    #include <Python.h>
    #include <omp.h>
    static PyObject *count(PyObject *self, PyObject *unused) {
        long total = 0;
        #pragma omp parallel for reduction(+:total) num_threads(3)
        for (int i = 0; i < 1000; i++) total += i;
        return PyLong_FromLong(total);
    }
    static PyMethodDef methods[] = {{"count", count, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
    static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "mod", NULL, 0, methods};
    PyMODINIT_FUNC PyInit_mod(void) { return PyModuleDef_Init(&definition); }
"""

INSIDE = """
import ctypes
r, w = os.pipe()
gate, ready = threading.Event(), threading.Event()
def start(name, target, *args):
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    thread.start()
    return thread
def in_system_call(thread):
    path = f"/proc/self/task/{thread.native_id}/syscall"
    until(lambda: open(path).read().split()[0] not in ("running", "-1"))
"""


def scenario(text: str) -> str:
    import textwrap

    return INSIDE + textwrap.dedent(text)


@pytest.mark.parametrize(
    ("begin", "finish"),
    [
        ("start('worker', m.wait, r)", "os.write(w, b'x')"),
        ("start('worker', lambda f=m.wait: f(r))", "os.write(w, b'x')"),
        ("start('worker', m.wait_by_call, ready.set, r)", "os.write(w, b'x')"),
        ("start('worker', m.call, gate.wait)", "gate.set()"),
        ("start('worker', lambda f=m.call: f(lambda: f(gate.wait)))", "gate.set()"),
    ],
    ids=["target", "in C", "in a C function", "in a callback", "in nested callbacks"],
)
def test_a_thread_of_python_inside(shared_project: Project, begin: str, finish: str) -> None:
    shared_project.write("mod.pyx", CYTHON)
    outcome = shared_project.run(
        scenario(
            f"""
            module = relib.load("mod.pyx")
            m = module.module
            thread = {begin}
            del m
            in_system_call(thread)
            report = module.reload(force=True)  # functions go on as the new version's
            [pin] = report.pins
            assert (pin.kind, pin.thread_name) == ("thread", "worker"), pin
            assert pin.thread_id == thread.native_id
            for _ in range(3):
                relib.reap()
                assert mapped("mod") == 2
            {finish}
            thread.join()
            del thread
            until(lambda: mapped("mod") == 1)
            assert module.unload().unloaded and not mapped("mod")
            """
        )
    )
    assert not outcome.errors


def test_a_thread_that_nothing_else_shows_is_named(project: Project) -> None:
    project.write("mod.c", C)
    outcome = project.run(
        """
        for kind in (0, 1):
            module = relib.load("mod.c")
            end, stop = module.module.start(kind)
            del stop
            report = module.unload()
            [pin] = report.pins
            assert pin.kind == "thread" and pin.thread_id and pin.thread_name, pin
            assert str(pin.thread_id) in str(pin), pin
            assert mapped("mod") == 1 and not relib.reap()
            [version] = relib.retired()
            again = version.held[0].end
            again()
            del again, version
            until(lambda: not mapped("mod"))
        """
    )
    assert not outcome.errors


def test_a_thread_that_is_just_being_started_or_ending(project: Project) -> None:
    project.write("mod.c", C)
    project.run(
        """
        build = relib.build("mod.c")
        for cycle in range(100):
            module = relib.load(build)
            for _ in range(3):
                module.module.start(2)
            module.unload()
            until(lambda: not mapped("mod"))
        """
    )


def test_the_process_ends_with_threads_of_c_inside(project: Project) -> None:
    project.write("mod.c", C)
    for kind in (0, 1):
        outcome = project.run(
            f"""
            module = relib.load("mod.c")
            module.module.start({kind})
            assert not module.unload().unloaded
            """
        )
        assert not outcome.errors


def test_idle_threads_of_openmp(project: Project) -> None:
    project.write("mod.c", OPENMP)
    project.run(
        """
        for cycle in range(3):
            module = relib.load("mod.c", extra_compile_args=("-fopenmp",),
                                extra_link_args=("-fopenmp",))
            assert module.module.count() == 499500
            report = module.unload()
            kinds = {pin.kind for pin in report.pins}
            assert kinds <= {"thread", "pointer", "key"}
            assert report.unloaded == (not kinds), report
            until(lambda: not mapped("mod"))  # one may not have got to its idling yet
        """,
        CC="gcc",
    )


def test_threads_use_what_is_unloaded_under_them(project: Project) -> None:
    project.write(
        "mod.pyx",
        """
        # cython: language_level=3
        cdef class C:
            cdef public int n
            def bump(self, k): self.n += k; return self.n
        def f(x): return [C() for _ in range(x)]
        def g(n):
            for i in range(n): yield C()
        """,
    )
    project.run(
        """
        build = relib.build("mod.pyx")
        relib.load(build)
        stop, failures, count = threading.Event(), [], [0]
        def use():
            while not stop.is_set():
                try:
                    module = relib.get("mod")
                    m = module and module.module
                    if m is None: continue
                    things = m.f(5)
                    for thing in m.g(3): things.append(thing)
                    for thing in things: thing.bump(2)
                    count[0] += 1
                except (relib.ModuleUnloaded, AttributeError):
                    pass
                except Exception as error:
                    failures.append(repr(error))
        sys.setswitchinterval(1e-4)  # so that what unloads has its turn soon
        workers = [threading.Thread(target=use, daemon=True) for _ in range(3)]
        for worker in workers: worker.start()
        for cycle in range(100):
            relib.get("mod").unload()
            relib.load(build)
        stop.set()
        for worker in workers: worker.join()
        assert count[0] and not failures, failures[:3]
        relib.get("mod").unload()
        until(lambda: not mapped("mod") or gc.collect() and False)
        """
    )
