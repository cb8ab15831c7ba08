"""relib.load(): every kind of source becomes a module of the program."""

from __future__ import annotations

import shutil

import pytest
from compilers import CXX_COMPILERS
from conftest import Project, c_compiler

FIB = """
    # cython: language_level=3
    cdef class Counter:
        cdef public int n
        def __init__(self, n=0): self.n = n
        cpdef int bump(self, int by=1):
            self.n += by
            return self.n
        def __iter__(self):
            for i in range(self.n):
                yield i

    def fib(long n):
        cdef long a = 0, b = 1, i
        for i in range(n):
            a, b = b, a + b
        return a
"""

C_MODULE = """
    #include <Python.h>
    static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(42); }
    static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
    static struct PyModuleDef definition = {
        PyModuleDef_HEAD_INIT, "spam", NULL, 0, methods, NULL, NULL, NULL, NULL};
    PyMODINIT_FUNC PyInit_spam(void) { return PyModuleDef_Init(&definition); }
"""

SINGLE_PHASE = C_MODULE.replace("NULL, 0, methods", "NULL, -1, methods").replace(
    "PyModuleDef_Init", "PyModule_Create"
)

CPP_MODULE = """
    #include <Python.h>
    #include <stdexcept>
    #include <string>
    #include <vector>
    struct Noisy { std::vector<int> v; Noisy() : v(10) {} ~Noisy() { v.clear(); } };
    static Noisy global;
    static PyObject *answer(PyObject *, PyObject *) {
        try { throw std::runtime_error(std::string("forty-two")); }
        catch (const std::exception &error) { return PyUnicode_FromString(error.what()); }
    }
    static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
    static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "spam", NULL, 0, methods,
                                            NULL, NULL, NULL, NULL};
    PyMODINIT_FUNC PyInit_spam(void) { return PyModuleDef_Init(&definition); }
"""


@c_compiler
def test_a_pyx_file_needs_no_configuration(project: Project, cc: str) -> None:
    project.write("fast.pyx", FIB)
    seen = project.run(
        """
        fast = relib.load("fast.pyx")
        import fast as imported
        assert imported is fast.module is sys.modules["fast"]
        assert (fast.name, fast.version) == ("fast", 1)
        assert imported.fib(50) == 12586269025
        counter = imported.Counter(3)
        assert list(counter) == [0, 1, 2] and counter.bump() == 4
        assert imported.__name__ == "fast" and imported.__spec__.name == "fast"
        assert imported.__file__ == os.path.abspath("fast.pyx")
        assert imported.Counter.__module__ == "fast"
        say([mapped("fast"), fast.build.unique_name])
        """,
        CC=cc,
    )
    number, unique = seen.value
    assert number == 1
    assert unique.startswith("fast__r")


def test_a_python_file_is_compiled(project: Project) -> None:
    project.write(
        "pure.py",
        """
        import cython
        @cython.cfunc
        def _twice(x: cython.int) -> cython.int:
            return 2 * x
        def twice(x):
            return _twice(x)
        compiled = cython.compiled
        """,
    )
    assert project.run(
        """
        pure = relib.load("pure.py").module
        say([pure.twice(21), pure.compiled, hasattr(pure, "_twice")])
        """
    ).value == [42, True, False]


@c_compiler
@pytest.mark.parametrize("text", [C_MODULE, SINGLE_PHASE], ids=["multi-phase", "single-phase"])
def test_a_c_file_is_loaded_and_goes(project: Project, cc: str, text: str) -> None:
    project.write("spam.c", text)
    assert (
        project.run(
            """
        for cycle in range(3):
            spam = relib.load("spam.c")
            assert spam.module.answer() == 42
            report = spam.unload()
            assert report.unloaded, report
            assert report.bytes > 0
        say(mapped("spam"))
        """,
            CC=cc,
        ).value
        == 0
    )


@pytest.mark.parametrize("cxx", CXX_COMPILERS)
def test_a_cpp_file_with_exceptions_is_loaded_and_goes(project: Project, cxx: str) -> None:
    project.write("spam.cpp", CPP_MODULE)
    assert (
        project.run(
            """
        for cycle in range(3):
            spam = relib.load("spam.cpp")
            assert spam.module.answer() == "forty-two"
            assert spam.unload().unloaded
        say(mapped("spam"))
        """,
            CXX=cxx,
        ).value
        == 0
    )


def test_a_module_of_a_package_gets_its_dotted_name(project: Project) -> None:
    project.write("pkg/__init__.py", "")
    project.write("pkg/sub/__init__.py", "")
    project.write("pkg/sub/sibling.py", "VALUE = 7")
    project.write("pkg/sub/fast.pyx", "from .sibling import VALUE\ndef f(): return VALUE")
    assert project.run(
        """
        fast = relib.load("pkg/sub/fast.pyx")
        import pkg.sub.fast
        assert pkg.sub.fast is fast.module
        assert pkg.sub.fast.f.__module__ == "pkg.sub.fast"
        result = [fast.name, pkg.sub.fast.f(), pkg.sub.fast.__package__]
        report = fast.unload()
        say([*result, hasattr(pkg.sub, "fast"), report.unloaded])
        """
    ).value == ["pkg.sub.fast", 7, "pkg.sub", False, True]


def test_a_package_outside_the_path_is_found_beside_its_module(project: Project) -> None:
    project.write("elsewhere/pkg/__init__.py", "HERE = 1")
    project.write("elsewhere/pkg/fast.pyx", "from . import HERE\ndef f(): return HERE")
    assert project.run(
        """
        before = list(sys.path)
        fast = relib.load("elsewhere/pkg/fast.pyx")
        say([fast.name, fast.module.f(), sys.path == before])
        """
    ).value == ["pkg.fast", 1, True]


def test_a_compiled_package_has_a_path(project: Project) -> None:
    project.write("pkg/__init__.pyx", "from . import plain\nVALUE = plain.VALUE")
    project.write("pkg/plain.py", "VALUE = 3")
    assert project.run(
        """
        pkg = relib.load("pkg/__init__.pyx")
        import pkg.plain
        say([relib.get("pkg").name, sys.modules["pkg"].VALUE, pkg.plain.VALUE])
        """
    ).value == ["pkg", 3, 3]


def test_several_sources_make_one_module(project: Project) -> None:
    project.write("native.h", "int triple(int);")
    project.write("native.c", '#include "native.h"\nint triple(int x) { return 3 * x; }')
    project.write(
        "wrap.pyx",
        """
        # distutils: sources = native.c
        # distutils: define_macros = BY=3
        cdef extern from "native.h":
            int triple(int)
        cdef extern from *:
            int BY
        def f(x): return triple(x), BY
        """,
    )
    assert project.run("say(relib.load('wrap.pyx').module.f(5))").value == [15, 3]


def test_numpy_is_found_when_it_is_cimported(project: Project) -> None:
    pytest.importorskip("numpy")
    project.write(
        "arrays.pyx",
        """
        # cython: language_level=3
        import numpy as np
        cimport numpy as cnp
        cnp.import_array()
        def total(double[:] values):
            cdef double s = 0
            cdef Py_ssize_t i
            for i in range(values.shape[0]): s += values[i]
            return s
        def make(int n): return np.arange(n, dtype=float)
        """,
    )
    assert (
        project.run(
            """
        for cycle in range(3):
            arrays = relib.load("arrays.pyx")
            assert arrays.module.total(arrays.module.make(5)) == 10.0
            arrays.unload()
            # numpy's own threads may be starting, and cannot be examined meanwhile
            until(lambda: not mapped("arrays"))
        say(mapped("arrays"))
        """
        ).value
        == 0
    )


def test_loading_the_same_source_again_gives_the_same_module(project: Project) -> None:
    project.write("fast.pyx", FIB)
    assert project.run(
        """
        first = relib.load("fast.pyx")
        say([relib.load("./fast.pyx") is first, relib.get("fast") is first,
             list(relib.modules()), relib.retired()])
        """
    ).value == [True, True, ["fast"], []]


def test_a_name_that_is_taken_is_refused(project: Project) -> None:
    project.write("a/fast.pyx", "def f(): return 1")
    project.write("b/fast.pyx", "def f(): return 2")
    project.write("json.pyx", "def f(): return 3")
    project.run(
        """
        relib.load("a/fast.pyx")
        for source in ("b/fast.pyx", "json.pyx"):
            try:
                relib.load(source)
            except relib.AlreadyLoaded as error:
                assert "name=" in str(error)
            else:
                raise AssertionError(source)
        assert relib.load("b/fast.pyx", name="other").module.f() == 2
        assert sys.modules["fast"].f() == 1
        """
    )


def test_a_build_can_be_loaded_later(project: Project) -> None:
    project.write("fast.pyx", "def f(): return 1")
    project.run(
        """
        build = relib.build("fast.pyx")
        assert not mapped("fast") and "fast" not in sys.modules
        assert relib.build("fast.pyx").cached
        fast = relib.load(build)
        assert fast.module.f() == 1 and fast.build.fingerprint == build.fingerprint
        assert fast.reload() is None
        """
    )


def test_a_missing_symbol_is_named(project: Project) -> None:
    project.write(
        "spam.c",
        C_MODULE.replace("return PyLong_FromLong(42)", "return PyLong_FromLong(nowhere())").replace(
            "#include <Python.h>", "#include <Python.h>\nextern int nowhere(void);"
        ),
    )
    project.run(
        """
        try:
            relib.load("spam.c")
        except relib.LoadError as error:
            assert "nowhere" in str(error), error
        else:
            raise AssertionError
        assert "spam" not in sys.modules and not mapped("spam")
        """
    )


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return NULL;", "without setting an exception"),
        ('PyErr_SetString(PyExc_ValueError, "no luck"); return NULL;', "no luck"),
        (
            'PyErr_SetString(PyExc_ValueError, "no luck"); return PyModuleDef_Init(&definition);',
            "no luck",
        ),
    ],
)
def test_an_init_function_that_fails_is_reported(project: Project, body: str, words: str) -> None:
    project.write("spam.c", C_MODULE.replace("return PyModuleDef_Init(&definition);", body))
    project.run(
        f"""
        try:
            relib.load("spam.c")
        except relib.LoadError as error:
            assert {words!r} in str(error), error
        else:
            raise AssertionError
        until(lambda: not mapped("spam"))
        assert "spam" not in sys.modules
        """
    )


def test_a_file_without_init_function_is_reported(project: Project) -> None:
    project.write("other.c", C_MODULE)
    project.run(
        """
        try:
            relib.load("other.c")
        except relib.LoadError as error:
            assert "PyInit_other" in str(error), error
        else:
            raise AssertionError
        until(lambda: not mapped("other"))
        """
    )


def test_an_exception_in_the_body_leaves_nothing_behind(project: Project) -> None:
    project.write(
        "fast.pyx", "cdef class C: pass\nkept = C()\ndef f(): raise KeyError('body')\nf()"
    )
    project.run(
        """
        try:
            relib.load("fast.pyx")
        except relib.ExecError as error:
            assert isinstance(error.__cause__, KeyError)
            assert isinstance(error, ImportError)
        assert "fast" not in sys.modules and relib.get("fast") is None
        until(lambda: not mapped("fast"))
        assert relib.retired() == []
        """
    )


def test_a_damaged_library_is_a_mismatch(project: Project) -> None:
    project.write("fast.pyx", "def f(): return 1")
    project.run(
        """
        import dataclasses, pathlib, shutil
        build = relib.build("fast.pyx")
        other = dataclasses.replace(build, python="cpython-27-x86_64-linux-gnu")
        data = bytearray(build.library.read_bytes())
        data[18] ^= 0xFF  # another machine's, whichever this is
        def damaged(name, contents):
            directory = shutil.copytree(build.library.parent, pathlib.Path(name).absolute())
            (directory / build.library.name).write_bytes(contents)
            return directory / build.library.name
        short, foreign = damaged("short", data[:40]), damaged("foreign", data)
        for bad in (other, dataclasses.replace(build, relib=0),
                    dataclasses.replace(build, cython="0.1"),
                    *(dataclasses.replace(build, library=path) for path in (short, foreign))):
            try:
                relib.load(bad)
            except relib.BuildMismatch as error:
                assert "build it again" in str(error) or "build again" in str(error)
                assert (error.name, error.path) == ("fast", str(bad.library))
            except relib.LoadError as error:
                raise AssertionError(repr(error))
            else:
                raise AssertionError(bad)
            assert "fast" not in sys.modules
        assert relib.load(build).module.f() == 1
        """
    )


CYTHON_CPP = """
    # distutils: language = c++
    from libcpp.string cimport string
    from libcpp.vector cimport vector
    cdef extern from *:
        \"\"\"
        #include <stdexcept>
        static int checked(int value) {{
            if (value < 0) throw std::out_of_range("below zero");
            return value * {factor};
        }}
        \"\"\"
        int checked(int value) except +
    cdef class Bag:
        cdef vector[int] items
        cdef string name
        def add(self, int value):
            self.items.push_back(checked(value))
            self.name.append(b"x")
        def all(self): return self.items, self.name
"""


@pytest.mark.parametrize("cxx", ["g++", "clang++"])
def test_cython_that_asks_for_cplusplus(project: Project, cxx: str) -> None:
    """With members that have destructors, and with exceptions that become Python's."""
    if shutil.which(cxx) is None:
        pytest.skip(f"{cxx} is not installed")
    project.write("bag.pyx", CYTHON_CPP.format(factor=1))
    assert (
        project.run(
            f"""
        import textwrap
        source = textwrap.dedent({CYTHON_CPP!r}).lstrip()
        module = relib.load("bag.pyx")
        for factor in (1, 2, 3):
            if factor > 1:
                open("bag.pyx", "w").write(source.format(factor=factor))
                assert module.reload().require_unloaded()
            bag = module.module.Bag()
            bag.add(1); bag.add(2)
            assert bag.all() == ([factor, 2 * factor], b"xx")
            try:
                bag.add(-1)
            except IndexError as error:  # what Cython makes of std::out_of_range
                assert str(error) == "below zero"
            else:
                raise AssertionError
            assert bag.all() == ([factor, 2 * factor], b"xx") and mapped("bag") == 1
            del bag
        module.unload().require_unloaded()
        say(mapped("bag"))
        """,
            CXX=cxx,
        ).value
        == 0
    )
