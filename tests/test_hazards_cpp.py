"""C++: what its runtime keeps of a library is run down, or keeps the code mapped."""

from __future__ import annotations

import pytest
from compilers import CXX_COMPILERS
from conftest import Project

MODULE = """
    #include <Python.h>
    #include <atomic>
    #include <chrono>
    #include <condition_variable>
    #include <cstdio>
    #include <functional>
    #include <iostream>
    #include <map>
    #include <memory>
    #include <mutex>
    #include <stdexcept>
    #include <string>
    #include <thread>
    #include <unistd.h>
    static void say(const char *what) {{
        FILE *f = std::fopen("said", "a");
        std::fputs(what, f); std::fputs("\\n", f); std::fclose(f); }}
    {code}
    static PyMethodDef methods[] = {{{{"use", use, METH_VARARGS, NULL}}, {{NULL, NULL, 0, NULL}}}};
    static struct PyModuleDef definition = {{PyModuleDef_HEAD_INIT, "mod", NULL, 0, methods,
                                            NULL, NULL, NULL, NULL}};
    PyMODINIT_FUNC PyInit_mod(void) {{ return PyModuleDef_Init(&definition); }}
"""

CODE = {
    "static objects": """
        struct Noisy { const char *name; Noisy(const char *n) : name(n) { say("begin"); }
                       ~Noisy() { say("end"); } };
        static Noisy one("one"), two("two");
        static PyObject *use(PyObject *, PyObject *) {
            static Noisy local("local");
            Py_RETURN_NONE; }""",
    "inline variables and templates": """
        template <class T> struct Registry {
            static inline std::map<std::string, T> all;
            static Registry &get() { static Registry one; return one; } };
        inline int counter = 0;
        static PyObject *use(PyObject *, PyObject *) {
            Registry<int>::all["a"] = ++counter;
            Registry<std::string>::all["b"] = "x";
            Registry<int>::get();
            return PyLong_FromLong(counter); }""",
    "streams": """
        static PyObject *use(PyObject *, PyObject *) {
            std::cerr.flush();
            std::cout << std::hex << 255 << std::endl;
            return PyLong_FromLong(1); }""",
    "exceptions": """
        struct Mine : std::runtime_error { using std::runtime_error::runtime_error; };
        static PyObject *use(PyObject *, PyObject *) {
            for (int i = 0; i < 10; i++) {
                try {
                    try { throw Mine("mine"); }
                    catch (...) { std::rethrow_exception(std::current_exception()); }
                } catch (const std::exception &e) {
                    if (std::string(e.what()) != "mine") Py_RETURN_FALSE; } }
            Py_RETURN_TRUE; }""",
    "functions and threads": """
        static std::function<int(int)> twice = [](int x) { return 2 * x; };
        static PyObject *use(PyObject *, PyObject *) {
            int result = 0;
            std::thread thread([&] { result = twice(21); });
            thread.join();
            return PyLong_FromLong(result); }""",
    "a table of virtual functions": """
        struct Base { virtual ~Base() {} virtual int f() = 0; };
        struct Derived : Base { int f() override { return 3; } };
        static std::unique_ptr<Base> kept(new Derived);
        static PyObject *use(PyObject *, PyObject *) {
            std::shared_ptr<Base> other = std::make_shared<Derived>();
            return PyLong_FromLong(kept->f() + dynamic_cast<Derived &>(*other).f()); }""",
}

cxx = pytest.mark.parametrize("cxx", CXX_COMPILERS)


@pytest.mark.parametrize("what", CODE)
def test_it_is_run_down_and_unmapped(project: Project, what: str) -> None:
    project.write("mod.cpp", MODULE.format(code=CODE[what]))
    outcome = project.run(
        """
        first = []
        for cycle in range(4):
            module = relib.load("mod.cpp")
            first.append(module.module.use())
            assert first[-1] == first[0]  # its data is new
            report = module.unload()
            assert report.unloaded and not mapped("mod"), report
        if os.path.exists("said"):
            assert open("said").read().split() == (["begin"] * 3 + ["end"] * 3) * 4
        """
    )
    assert not outcome.errors


THREAD_LOCAL = """
    struct Noisy { int n = 1; Noisy() { say("begin"); } ~Noisy() { say("end"); } };
    static thread_local Noisy mine;
    static PyObject *use(PyObject *, PyObject *) { return PyLong_FromLong(mine.n++); }
"""


@cxx
def test_a_thread_local_object_of_another_thread_keeps_it(project: Project, cxx: str) -> None:
    project.write("mod.cpp", MODULE.format(code=THREAD_LOCAL))
    outcome = project.run(
        """
        module = relib.load("mod.cpp")
        gate, ready = threading.Event(), threading.Event()
        uses = [module.module.use]
        def work():
            uses.pop()()
            ready.set()
            gate.wait()
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        ready.wait()
        report = module.unload()
        until(lambda: [pin.kind for v in relib.retired() for pin in v.pins] == ["mapped"])
        assert mapped("mod") == 1
        gate.set()
        thread.join()
        until(lambda: not mapped("mod"))
        assert open("said").read().split() == ["begin", "end"]
        """,
        CXX=cxx,
    )
    assert not outcome.errors


@cxx
def test_a_thread_local_object_of_the_main_thread_does_no_harm(project: Project, cxx: str) -> None:
    project.write("mod.cpp", MODULE.format(code=THREAD_LOCAL))
    outcome = project.run(
        """
        for cycle in range(3):
            module = relib.load("mod.cpp")
            assert module.module.use() == 1
            report = module.unload()
            assert report.unloaded or [pin.kind for pin in report.pins] == ["mapped"], report
        """,
        CXX=cxx,
    )
    assert not outcome.errors


def test_a_detached_thread_of_the_library_keeps_it(project: Project) -> None:
    code = """
        static PyObject *use(PyObject *, PyObject *args) {
            int fd;
            if (!PyArg_ParseTuple(args, "i", &fd)) return NULL;
            std::atomic<bool> running(false);
            std::thread([fd, &running] {
                char c;
                running = true;
                (void)!::read(fd, &c, 1);
                say("end");
            }).detach();
            while (!running) std::this_thread::yield();
            Py_RETURN_NONE; }"""
    project.write("mod.cpp", MODULE.format(code=code))
    outcome = project.run(
        """
        module = relib.load("mod.cpp")
        r, w = os.pipe()
        module.module.use(r)
        report = module.unload()
        assert [pin.kind for pin in report.pins] == ["thread"], report
        assert mapped("mod") == 1 and not relib.reap()
        os.write(w, b"x")
        until(lambda: not mapped("mod"))
        assert open("said").read() == "end\\n"
        """
    )
    assert not outcome.errors


def test_exceptions_cross_from_one_version_to_the_next(project: Project) -> None:
    text = MODULE.format(code=CODE["exceptions"])
    project.write("mod.cpp", text)
    outcome = project.run(
        """
        module = relib.load("mod.cpp")
        held = module.module.use
        for version in range(3):
            open("mod.cpp", "a").write(f"\\n// version {version}\\n#define V {version}\\n")
            module.reload()
            assert module.module.use() is True and held() is True
        del held
        until(lambda: mapped("mod") == 1)
        """
    )
    assert not outcome.errors


def test_what_only_the_loader_keeps_is_still_mapped(project: Project) -> None:
    """Nothing of Python's refers to it: there is no one to ask to let go but the thread."""
    project.write("mod.cpp", MODULE.format(code=THREAD_LOCAL))
    outcome = project.run(
        """
        from dataclasses import replace
        module = relib.load("mod.cpp")
        gate, ready = threading.Event(), threading.Event()
        uses = [module.module.use]
        def work():
            uses.pop()()
            ready.set()
            gate.wait()
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        ready.wait()
        report = module.unload()
        if [pin.kind for pin in report.pins] != ["mapped"]:  # a frame of the call, which ends
            until(lambda: [pin.kind for v in relib.retired() for pin in v.pins] == ["mapped"])
            [version] = relib.retired()
            report = replace(report, pins=tuple(version.pins))
        try:
            report.require_unloaded()
        except relib.StillMapped as error:
            assert error.name == "mod" and [pin.kind for pin in error.pins] == ["mapped"]
            assert "still mapped" in str(error)
        else:
            raise AssertionError(report)
        assert mapped("mod") == 1
        gate.set()
        thread.join()
        until(lambda: not mapped("mod"))
        assert relib.retired() == []
        """
    )
    assert not outcome.errors
