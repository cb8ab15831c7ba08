from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import venv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from building_project import environ_with_relib, wait_for_end
from privileges import without_privileges

import relib
from relib.building import translate as translate_module
from relib.building.pool import pool
from relib.building.translate import Translation, cython_version, prepare, translate
from relib.config import load_config
from relib.errors import (
    BuildError,
    BuildTimeout,
    DiskFull,
    SourceMissing,
    SourceUnreadable,
    WorkerDied,
)
from relib.extension import Extension

# not the checkout's, where another one is installed and tested
PACKAGE = Path(relib.__file__).parent

Blocked = Callable[[], tuple[Path, Callable[[], int]]]


class Project:
    """Sources in a directory, and their translation."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        return path

    def translate(
        self,
        source: Path,
        name: str | None = None,
        *,
        options: dict[str, object] | None = None,
        shared: str | None = None,
        **fields: object,
    ) -> Translation:
        extension = Extension(name or source.stem, (source,), **fields)  # type: ignore[arg-type]
        config = load_config(self.root, {}, **(options or {}))
        return translate(extension, source, self.root / "out.c", config=config, shared=shared)

    def read(self, done: Translation) -> set[str]:
        """The names of the project's files that were read."""
        return {
            str(path.relative_to(self.root))
            for path in done.dependencies
            if path.is_relative_to(self.root)
        }


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def no_process() -> None:
    """As at the start of a program: nothing has been translated yet."""
    pool.stop()


@pytest.fixture
def blocked(project: Project) -> Blocked:
    """A source whose translation waits for a pipe, and a function that waits until it does.

    The function returns the pipe's other end.
    """

    def make() -> tuple[Path, Callable[[], int]]:
        pipe = project.root / "pipe.pxi"
        if not pipe.exists():
            os.mkfifo(pipe)

        def wait() -> int:
            # Opening a pipe for writing waits for a reader.
            with ThreadPoolExecutor(1) as executor:
                return executor.submit(os.open, pipe, os.O_WRONLY).result(60)

        return project.write("blocked.pyx", 'include "pipe.pxi"\n'), wait

    return make


def in_a_process(script: str, root: Path, *, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a script that may use `translated(name)` and `pool`."""
    return subprocess.run(
        [sys.executable, "-P", "-c", prelude(root) + textwrap.dedent(script)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
        check=False,
    )


def environment() -> dict[str, str]:
    return environ_with_relib({"PYTHONUNBUFFERED": "1"})


def prelude(root: Path) -> str:
    return textwrap.dedent(
        f"""
        import json, os, signal, sys, threading
        from pathlib import Path
        from relib.building.pool import pool
        from relib.building.translate import translate
        from relib.config import load_config
        from relib.extension import Extension

        root = Path({str(root)!r})
        config = load_config(root, {{}})

        def translated(name):
            source = root / name
            extension = Extension(source.stem, (source,))
            c_file = root / f"{{source.stem}}_{{os.getpid()}}.c"
            return translate(extension, source, c_file, config=config, shared=None)
        """
    )


# --- what comes out ------------------------------------------------------------------------------


def test_a_pyx_file_becomes_c(project: Project) -> None:
    source = project.write("fast.pyx", "cpdef int twice(int x): return 2 * x\n")
    done = project.translate(source, "pkg.fast")
    assert done.c_file == project.root / "out.c"
    assert "PyInit_fast" in done.c_file.read_text()
    assert done.dependencies == (source,)
    assert done.diagnostics == ()


def test_the_c_names_its_sources_by_absolute_paths(project: Project) -> None:
    source = project.write("fast.pyx", 'include "more.pxi"\ncpdef int twice(int x): return 2 * x\n')
    included = project.write("more.pxi", "cpdef int thrice(int x): return 3 * x\n")
    text = project.translate(source).c_file.read_text()
    assert f'/* "{source}":2\n' in text
    assert f'/* "{included}":1\n' in text
    assert f'  "{source}",\n' in text  # for tracebacks


def test_pure_python_mode_takes_types_from_a_pxd(project: Project) -> None:
    source = project.write("pure.py", "def twice(x): return 2 * x\n")
    project.write("pure.pxd", "cpdef int twice(int x)\n")
    done = project.translate(source)
    assert "int __pyx_f_4pure_twice(int" in done.c_file.read_text()
    assert project.read(done) == {"pure.py", "pure.pxd"}


@pytest.mark.parametrize("header", ["", "# distutils: language = c\n"])
def test_the_language_is_the_extension_s(project: Project, header: str) -> None:
    source = project.write("fast.pyx", f"{header}cdef int x = 3\n")
    assert "#ifndef __cplusplus" in project.translate(source, language="c++").c_file.read_text()
    assert "#ifndef __cplusplus" not in project.translate(source).c_file.read_text()


def test_the_shared_module_is_named_after_the_version(project: Project) -> None:
    source = project.write("fast.pyx", "def f(int[:] x): return x[0]\n")
    alone = project.translate(source).c_file.read_text()
    assert "relib._anchor" not in alone
    text = project.translate(source, shared=translate_module.DEFAULT_SHARED).c_file.read_text()
    assert f"relib._anchor.shared_{cython_version().replace('.', '_')}" in text
    assert len(text) < len(alone) / 2


@pytest.mark.parametrize("text", ["", "# nothing\n", "\ufeff# nothing but a mark\n"])
def test_an_empty_source_is_a_module(project: Project, text: str) -> None:
    done = project.translate(project.write("empty.pyx", text))
    assert "PyInit_empty" in done.c_file.read_text()


def test_a_source_may_say_its_encoding(project: Project) -> None:
    source = project.write("old.pyx", "# coding: latin-1\nname = 'é'\n".encode("latin-1"))
    assert "PyInit_old" in project.translate(source).c_file.read_text()


def test_the_c_is_the_same_whatever_was_translated_before(project: Project) -> None:
    sources = [
        project.write("a.pyx", "cpdef enum Color:\n    RED = 1\ndef f(int[:] x): return x\n"),
        project.write("b.pyx", "# cython: boundscheck=False\ncdef class A:\n    cdef int[:] x\n"),
        project.write("c.pyx", "async def g():\n    yield f'{g!r}'\n"),
    ]
    fresh = []
    for source in sources:
        pool.stop()
        fresh.append(project.translate(source).c_file.read_bytes())
    for index in (2, 0, 1, 1, 0, 2):
        assert project.translate(sources[index]).c_file.read_bytes() == fresh[index]


# --- directives ----------------------------------------------------------------------------------


def test_directives_of_the_extension_come_before_the_configuration_s(project: Project) -> None:
    source = project.write("fast.pyx", "def f(int a, int b): return a // b\n")
    by_zero = "integer division or modulo by zero"
    assert by_zero in project.translate(source).c_file.read_text()
    options: dict[str, object] = {"directives": {"cdivision": True}}
    assert by_zero not in project.translate(source, options=options).c_file.read_text()
    again = project.translate(source, options=options, directives=(("cdivision", "False"),))
    assert by_zero in again.c_file.read_text()
    assert by_zero in project.translate(source).c_file.read_text()  # nothing stays behind


def test_the_language_level_can_be_configured(project: Project) -> None:
    source = project.write("old.pyx", "print 'two'\n")
    with pytest.raises(BuildError):
        project.translate(source, options={"directives": {"language_level": 3}})
    project.translate(source, directives=(("language_level", 2),))
    source.write_text("# cython: language_level=2\nprint 'two'\n")
    project.translate(source, directives=(("language_level", "3"),))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("boundschek", True, "boundschek"), ("boundscheck", "perhaps", "boundscheck")],
)
def test_a_wrong_directive_is_a_build_error(
    project: Project, name: str, value: object, message: str
) -> None:
    source = project.write("fast.pyx", "x = 1\n")
    with pytest.raises(BuildError, match=message):
        project.translate(source, directives=((name, value),))


# --- what it depends on --------------------------------------------------------------------------


def test_every_file_that_is_read_is_a_dependency(project: Project) -> None:
    for directory in ("pkg", "pkg/sub"):
        project.write(f"{directory}/__init__.py", "")
    source = project.write(
        "pkg/main.pyx",
        """
        from pkg.first cimport A
        from . cimport sibling
        from .sub.deep cimport D
        include "parts/one.pxi"
        include "other.pxi"
        """,
    )
    project.write("pkg/main.pxd", "cdef int declared\n")
    project.write("pkg/first.pxd", "from pkg.second cimport B\ncdef class A(B): pass\n")
    project.write("pkg/second.pxd", 'include "inside.pxi"\ncdef class B: pass\n')
    project.write("pkg/inside.pxi", "cdef enum:\n    SIZE = 3\n")
    project.write("pkg/sibling.pxd", "cdef int x\n")
    project.write("pkg/sub/deep.pxd", "cdef class D: pass\n")
    project.write("pkg/parts/one.pxi", 'include "two.pxi"\n')
    project.write("pkg/parts/two.pxi", "y = 2\n")
    project.write("includes/other.pxi", "z = 3\n")
    project.write("pkg/unused.pxd", "cdef int unused\n")
    project.write("pkg/first.pyx", "cdef class A(B): pass\n")
    done = project.translate(source, "pkg.main", cython_include_path=("includes",))
    assert done.dependencies[0] == source
    assert project.read(done) == {
        "pkg/main.pyx",
        "pkg/main.pxd",
        "pkg/first.pxd",
        "pkg/second.pxd",
        "pkg/inside.pxi",
        "pkg/sibling.pxd",
        "pkg/sub/deep.pxd",
        "pkg/parts/one.pxi",
        "pkg/parts/two.pxi",
        "includes/other.pxi",
    }


def test_files_of_installed_packages_are_dependencies(project: Project) -> None:
    source = project.write("fast.pyx", "from libc.math cimport sin\ndef f(double x): return sin(x)")
    names = {path.name for path in project.translate(source).dependencies}
    assert names == {"fast.pyx", "math.pxd"}


def test_a_changed_pxd_is_read_anew(project: Project) -> None:
    source = project.write("fast.pyx", "cimport sizes\ndef f(): return sizes.SIZE\n")
    project.write("sizes.pxd", "cdef enum:\n    SIZE = 12345\n")
    assert "12345" in project.translate(source).c_file.read_text()
    project.write("sizes.pxd", "cdef enum:\n    SIZE = 54321\n")
    text = project.translate(source).c_file.read_text()
    assert "54321" in text
    assert "12345" not in text


def test_a_pxd_that_would_be_read_is_absent_until_it_is_there(project: Project) -> None:
    source = project.write("fast.pyx", "def twice(x): return 2 * x\n")
    done = project.translate(source)
    pxd = project.root / "fast.pxd"
    assert pxd in done.absent
    pxd.write_text("cpdef int twice(int x)\n")
    done = project.translate(source)
    assert pxd in done.dependencies
    assert pxd not in done.absent
    pxd.unlink()
    assert pxd in project.translate(source).absent


def test_a_pxd_earlier_on_the_path_is_absent(project: Project) -> None:
    source = project.write("fast.pyx", "cimport sizes\ndef f(): return sizes.SIZE\n")
    project.write("late/sizes.pxd", "cdef enum:\n    SIZE = 12345\n")
    project.write("early/README", "")
    done = project.translate(source, cython_include_path=("early", "late"))
    assert project.root / "early/sizes.pxd" in done.absent
    project.write("early/sizes.pxd", "cdef enum:\n    SIZE = 54321\n")
    done = project.translate(source, cython_include_path=("early", "late"))
    assert "54321" in done.c_file.read_text()


def test_nothing_is_absent_where_software_is_installed(project: Project) -> None:
    source = project.write("fast.pyx", "from libc.math cimport sin\nfrom cpython cimport ref\n")
    absent = project.translate(source).absent
    assert project.root / "libc.math.pxd" in absent
    places = {"site-packages", "lib-dynload", "Cython"}
    assert not [path for path in absent if places & set(path.parts)]


def test_the_search_path_is_the_program_s_own(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = project.write("src/fast.pyx", "cimport sizes\ndef f(): return sizes.SIZE\n")
    project.write("elsewhere/sizes.pxd", "cdef enum:\n    SIZE = 12345\n")
    with pytest.raises(BuildError, match=r"sizes\.pxd"):
        project.translate(source)
    monkeypatch.setattr(sys, "path", [*sys.path, str(project.root / "elsewhere")])
    assert "12345" in project.translate(source).c_file.read_text()


# --- what it says --------------------------------------------------------------------------------


def test_all_errors_are_reported_once_each(project: Project) -> None:
    source = project.write(
        "bad.pyx",
        """\
        ctypedef fused number:
            int
            double
        def f(number x):
            return one + x
        def g():
            cdef int n = 'text'
            return two
        def h(): return three
        """,
    )
    with pytest.raises(BuildError) as caught:
        project.translate(source)
    error = caught.value
    errors = [d for d in error.diagnostics if d.severity == "error"]
    places = [(d.line, d.column) for d in errors]
    assert places == [(5, 12), (7, 18), (8, 12), (9, 17)]
    assert all(d.file == source for d in errors)
    (last,) = [d for d in errors if d.line == 9]
    assert last.message == "undeclared name not builtin: three"
    assert last.source == "def h(): return three"
    assert last.source[last.column - 1 :] == "three"
    assert str(source) in str(error)
    assert "3 more" in str(error)
    assert not (project.root / "out.c").exists()


def test_a_syntax_error_has_its_place(project: Project) -> None:
    source = project.write("bad.pyx", "def f():\n\tif True\n\t\treturn 1\n")
    with pytest.raises(BuildError) as caught:
        project.translate(source)
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.line, diagnostic.column) == (2, 9)
    assert diagnostic.source == "\tif True"
    assert diagnostic.message == "Expected ':', found 'NEWLINE'"


def test_an_error_in_another_file_has_that_file(project: Project) -> None:
    source = project.write("fast.pyx", "cimport wrong\n")
    pxd = project.write("wrong.pxd", "cdef class A(Undefined): pass\n")
    with pytest.raises(BuildError) as caught:
        project.translate(source)
    assert caught.value.diagnostics[0].file == pxd


def test_a_cimport_that_is_not_found_is_a_build_error(project: Project) -> None:
    source = project.write("fast.pyx", "\ncimport nowhere\n")
    with pytest.raises(BuildError) as caught:
        project.translate(source)
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.line, diagnostic.column) == (2, 9)
    assert "'nowhere.pxd' not found" in diagnostic.message


def test_bytes_that_are_no_text_are_an_error_at_their_place(project: Project) -> None:
    source = project.write("bad.pyx", b"x = 1\ny = '\xff\xfe'\n")
    with pytest.raises(BuildError) as caught:
        project.translate(source)
    assert caught.value.diagnostics[0].line == 2
    assert "ecod" in caught.value.diagnostics[0].message


def test_warnings_do_not_keep_it_from_being_built(project: Project) -> None:
    source = project.write("fast.pyx", "def f():\n    return 1\n    return 2\n")
    (diagnostic,) = project.translate(source).diagnostics
    assert diagnostic.severity == "warning"
    assert diagnostic.message == "Unreachable code"
    assert (diagnostic.file, diagnostic.line) == (source, 3)


def test_a_crash_of_cython_is_a_build_error_with_its_traceback(project: Project) -> None:
    # A memoryview's transpose without a declared type (Cython 3.1 to 3.3).
    source = project.write("crash.pyx", "def f(int[:, ::1] b):\n    b2 = b.T\n    return b2\n")
    with pytest.raises(BuildError) as caught:
        project.translate(source)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.severity == "error"
    assert "Cython crashed" in diagnostic.message
    assert diagnostic.line == 2
    assert "AttributeError" in caught.value.output
    assert "ExprNodes.py" in caught.value.output
    project.translate(project.write("fine.pyx", "x = 1\n"))


# --- sources that cannot be read -----------------------------------------------------------------


def test_a_missing_source(project: Project) -> None:
    with pytest.raises(SourceMissing) as caught:
        project.translate(project.root / "none.pyx")
    assert caught.value.path == str(project.root / "none.pyx")


def test_a_source_that_is_a_directory(project: Project) -> None:
    (project.root / "dir.pyx").mkdir()
    with pytest.raises(SourceUnreadable):
        project.translate(project.root / "dir.pyx")


@pytest.mark.usefixtures("no_process")
@without_privileges
def test_a_source_without_permission(project: Project) -> None:
    source = project.write("secret.pyx", "x = 1\n")
    source.chmod(0)
    with pytest.raises(SourceUnreadable):
        project.translate(source)
    pool.stop()  # it is without privileges too


def test_an_included_file_that_is_a_directory(project: Project) -> None:
    source = project.write("fast.pyx", 'include "dir.pxi"\n')
    (project.root / "dir.pxi").mkdir()
    with pytest.raises(SourceUnreadable) as caught:
        project.translate(source)
    assert caught.value.path == str(project.root / "dir.pxi")


def test_a_c_file_that_cannot_be_written(project: Project) -> None:
    source = project.write("fast.pyx", "x = 1\n")
    config = load_config(project.root, {})
    with pytest.raises(BuildError, match=r"none/out\.c"):
        translate(Extension("fast", (source,)), source, project.root / "none/out.c", config=config)


def test_no_room_for_the_c_is_its_own_error(tmp_path: Path) -> None:
    answer = {"error": [errno.ENOSPC, "No space left on device", "/out.c"], "output": ""}
    error = translate_module._failure("fast", tmp_path / "fast.pyx", answer, ())
    assert isinstance(error, DiskFull)


def test_cython_is_named_when_it_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "relib").symlink_to(PACKAGE)  # and nothing that is installed beside it
    script = (
        "import sys\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from relib.building.translate import cython_version\n"
        "try: cython_version()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith("BuildError Cython is not installed")


# --- the process ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_process")
def test_one_process_translates_many_sources(project: Project) -> None:
    source = project.write("fast.pyx", "x = 1\n")
    project.translate(source)
    before = pool.processes()
    for _ in range(3):
        project.translate(source)
    assert pool.processes() == before
    assert len(before) == 1


@pytest.mark.usefixtures("no_process")
def test_a_process_can_be_started_beforehand(project: Project) -> None:
    prepare()
    before = pool.processes()
    assert len(before) == 1
    project.translate(project.write("fast.pyx", "x = 1\n"))
    assert pool.processes() == before


@pytest.mark.usefixtures("no_process")
def test_a_process_that_dies_at_work_twice_fails_that_build_only(
    project: Project, blocked: Blocked
) -> None:
    source, wait = blocked()
    with ThreadPoolExecutor() as executor:
        build = executor.submit(project.translate, source)
        for _ in range(2):
            wait()
            (pid,) = pool.processes()
            os.kill(pid, signal.SIGSEGV)
            wait_for_end(pid)
        with pytest.raises(WorkerDied, match="SIGSEGV") as caught:
            build.result(60)
    assert "Fatal Python error: Segmentation fault" in caught.value.output
    project.translate(project.write("fine.pyx", "x = 1\n"))


@pytest.mark.usefixtures("no_process")
def test_a_translation_that_hangs_is_ended(project: Project, blocked: Blocked) -> None:
    project.translate(project.write("fine.pyx", "x = 1\n"))
    (pid,) = pool.processes()
    source, _ = blocked()
    with pytest.raises(BuildTimeout, match=r"compile_timeout = 0\.5"):
        project.translate(source, options={"compile_timeout": 0.5})
    assert pool.processes() == []
    wait_for_end(pid)
    project.translate(project.write("fine.pyx", "x = 1\n"))


@pytest.mark.usefixtures("no_process")
def test_ctrl_c_does_not_reach_a_build(project: Project, blocked: Blocked) -> None:
    source, wait = blocked()
    with ThreadPoolExecutor() as executor:
        build = executor.submit(project.translate, source)
        end = wait()
        (pid,) = pool.processes()
        assert os.getsid(pid) == pid  # not of the terminal's group
        os.kill(pid, signal.SIGINT)
        os.close(end)
        # It goes on, to find that a pipe is not what it wants.
        with pytest.raises(BuildError, match="seekable") as caught:
            build.result(60)
    assert type(caught.value) is BuildError
    assert pool.processes() == [pid]


def test_threads_may_translate_at_the_same_time(project: Project) -> None:
    config = load_config(project.root, {})

    def build(number: int) -> str:
        source = project.write(f"m{number}.pyx", f"def f(): return {number}{number}{number}1\n")
        c_file = project.root / f"m{number}.c"
        extension = Extension(f"m{number}", (source,))
        return translate(extension, source, c_file, config=config).c_file.read_text()

    with ThreadPoolExecutor(4) as executor:
        texts = list(executor.map(build, range(10, 18)))
    assert all(f"{n}{n}{n}1" in text for n, text in zip(range(10, 18), texts, strict=True))


def test_the_program_s_streams_are_its_own(project: Project) -> None:
    project.write("fast.pyx", "def f():\n    return 1\n    return 2\n")
    project.write("bad.pyx", "x = undeclared\n")
    done = in_a_process(
        """
        assert translated("fast.pyx").diagnostics
        try:
            translated("bad.pyx")
        except Exception as error:
            assert error.diagnostics
        pool.stop()
        os.write(1, sys.stdin.read().encode())
        """,
        project.root,
        stdin="for the program\n",
    )
    assert (done.stdout, done.stderr, done.returncode) == ("for the program\n", "", 0)


def test_cython_is_not_imported_by_the_program(project: Project) -> None:
    project.write("fast.pyx", "x = 1\n")
    done = in_a_process(
        """
        translated("fast.pyx")
        print([name for name in sys.modules if name.lower().startswith("cython")])
        """,
        project.root,
    )
    assert done.stdout == "[]\n", done.stderr


def test_it_works_with_warnings_as_errors(project: Project) -> None:
    project.write("fast.pyx", "x = 1\n")
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-X",
            "dev",
            "-W",
            "error",
            "-c",
            prelude(project.root) + "translated('fast.pyx')",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment() | {"PYTHONWARNINGS": "error"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_forked_child_has_a_process_of_its_own(project: Project) -> None:
    project.write("fast.pyx", "x = 1\n")
    done = in_a_process(
        """
        translated("fast.pyx")
        ours = pool.processes()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            before = pool.processes()
            translated("fast.pyx")
            os.write(writer, json.dumps([before, pool.processes()]).encode())
            pool.stop()
            os._exit(0)
        os.close(writer)
        translated("fast.pyx")
        before, theirs = json.loads(os.read(reader, 1000))
        assert os.waitpid(child, 0)[1] == 0
        translated("fast.pyx")
        print(before, len(theirs), theirs != ours, pool.processes() == ours)
        """,
        project.root,
    )
    assert (done.stdout, done.stderr) == ("[] 1 True True\n", "")


@pytest.mark.parametrize("busy", [False, True])
def test_the_process_ends_with_the_program(project: Project, blocked: Blocked, busy: bool) -> None:
    project.write("fast.pyx", "x = 1\n")
    _, wait = blocked()
    script = """
    translated("fast.pyx")
    print(*pool.processes())
    # A child that goes on, and has inherited the connection: forked where Python does not see it.
    import ctypes
    if ctypes.PyDLL(None).fork() == 0:
        signal.pause()
    """
    script += 'translated("blocked.pyx")\n' if busy else "signal.pause()\n"
    program = subprocess.Popen(
        [sys.executable, "-P", "-c", prelude(project.root) + textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    with program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        if busy:
            wait()
        program.kill()
        try:
            wait_for_end(pid)
        finally:
            os.killpg(program.pid, signal.SIGKILL)  # the forked child


def test_an_interrupted_translation_leaves_nothing_half_done(
    project: Project, blocked: Blocked
) -> None:
    blocked()
    project.write("fast.pyx", "x = 1\n")
    done = in_a_process(
        """
        def interrupt():
            os.open(root / "pipe.pxi", os.O_WRONLY)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt).start()
        try:
            translated("blocked.pyx")
        except KeyboardInterrupt:
            print("interrupted", pool.processes())
        print(translated("fast.pyx").c_file.suffix)
        """,
        project.root,
    )
    assert (done.stdout, done.stderr) == ("interrupted []\n.c\n", "")


@pytest.mark.usefixtures("no_process")
def test_a_new_cython_is_used_as_soon_as_it_is_installed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = project.write("fast.pyx", "x = 1\n")
    project.translate(source)
    (pid,) = pool.processes()
    monkeypatch.setattr(translate_module, "cython_version", lambda: "99.0")
    project.translate(source)
    assert pool.processes() != [pid]
    pool.stop()


def test_paths_that_are_not_ascii_come_back_as_they_are(project: Project) -> None:
    source = project.write("naïve/fast.pyx", "x = 1\n")
    assert project.translate(source).dependencies == (source,)


def test_a_project_s_files_count_though_an_environment_is_made_of_its_directory(
    project: Project,
) -> None:
    venv.create(project.root, symlinks=True)
    project.write("fast.pyx", "def twice(x): return 2 * x\n")
    script = 'print(*translated("fast.pyx").absent, sep="\\n")'
    places = [str(Path(relib.__file__).parents[1]), *filter(None, sys.path)]
    done = subprocess.run(
        [project.root / "bin/python", "-c", prelude(project.root) + script],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment() | {"PYTHONPATH": os.pathsep.join(places)},
        check=True,
    )
    assert str(project.root / "fast.pxd") in done.stdout.splitlines()


def test_a_process_that_is_killed_while_it_gets_ready_leaves_no_file(tmp_path: Path) -> None:
    script = """
    import os
    from relib.building.translation import Translator
    translator = Translator()
    translator.translate = lambda request: os._exit(0)
    translator.rehearse()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment() | {"TMPDIR": str(tmp_path)},
        check=False,
        timeout=120,
    )
    assert done.returncode == 0
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be_a_package_is_where_packages_are_looked_for(
    project: Project,
) -> None:
    project.write("my-project/__init__.py", "")
    project.write("my-project/sizes.pxd", "cdef enum:\n    SIZE = 12345\n")
    source = project.write("my-project/fast.pyx", "from sizes cimport SIZE\nx = SIZE\n")
    assert "my-project/sizes.pxd" in project.read(project.translate(source))
