"""From C and C++ sources to a shared object, and every way in which that goes wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from building_project import environ_with_relib, wait_for_end
from compilations import (
    MODULE_C,
    Workplace,
    evaluate,
    forget_environment,
    read_elf,
)
from compilers import C_COMPILERS, CXX_COMPILERS

from relib.building import processes
from relib.building.depfiles import read_depfile
from relib.errors import (
    BuildError,
    BuildTimeout,
    CompilerMissing,
    SourceMissing,
    SourceUnreadable,
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    forget_environment(monkeypatch)
    return Workplace(tmp_path)


def module(place: Workplace, answer: str = "42", name: str = "fast.c") -> Path:
    return place.write(name, MODULE_C.replace("ANSWER", answer))


# --- what is made --------------------------------------------------------------------------------


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_a_module_is_built_under_its_unique_name(place: Workplace, compiler: str) -> None:
    place.options["cc"] = compiler
    compiled = place.compile(module(place))
    assert compiled.library == place.workdir / "fast__r7_3f2a91c4.so"
    assert set(compiled.seconds) == {"compile", "link"}
    assert compiled.diagnostics == ()
    assert evaluate(compiled.library, "fast.answer(), fast.__name__") == (
        "(42, 'fast__r7_3f2a91c4')"
    )


@pytest.mark.parametrize("compiler", [p for p in C_COMPILERS if p.values != ("tcc",)])
def test_only_the_init_function_is_exported(place: Workplace, compiler: str) -> None:
    place.options["cc"] = compiler
    source = module(place)
    source.write_text(source.read_text() + "int visible(void) { return 1; }\n")
    symbols = read_elf(place.compile(source).library, "--dyn-syms")
    defined = [line.split() for line in symbols.splitlines() if " DEFAULT " in line]
    names = {words[7] for words in defined if words[6] != "UND" and words[3] != "SECTION"}
    assert names == {"PyInit_fast__r7_3f2a91c4"}


@pytest.mark.parametrize("compiler", [p for p in C_COMPILERS if p.values != ("tcc",)])
def test_it_takes_two_mappings_whatever_the_distribution_hardens(
    place: Workplace, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.options["cc"] = compiler
    monkeypatch.setenv("LDFLAGS", "-Wl,-z,relro,-z,separate-code")
    headers = read_elf(place.compile(module(place)).library, "-l")
    assert headers.count(" LOAD ") == 2
    assert "GNU_RELRO" not in headers


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_it_asks_neither_for_an_executable_stack_nor_to_stay(
    place: Workplace, compiler: str
) -> None:
    place.options["cc"] = compiler
    library = place.compile(module(place)).library
    stack = [line for line in read_elf(library, "-l").splitlines() if "GNU_STACK" in line]
    assert len(stack) == 1
    assert " RW " in stack[0]
    assert "NODELETE" not in read_elf(library, "-d")


UNIQUE_CPP = """
    #include <Python.h>
    #include <map>
    #include <stdexcept>
    #include <string>
    template <class T> struct Counter {
        static T &count() { static T value; return value; }
        static T other;
    };
    template <class T> T Counter<T>::other;
    static PyObject *answer(PyObject *, PyObject *) {
        std::map<std::string, int> words{{"a", 41}};
        try { words.at("b"); } catch (const std::out_of_range &) { Counter<int>::other = 1; }
        return PyLong_FromLong(words["a"] + Counter<int>::other + Counter<int>::count());
    }
    static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {}};
    static PyModuleDef_Slot slots[] = {{}};
    static PyModuleDef module = {PyModuleDef_HEAD_INIT, "fast", "", 0, methods, slots};
    PyMODINIT_FUNC PyInit_fast(void) { return PyModuleDef_Init(&module); }
"""

UNLOAD = """
import ctypes, _ctypes, sys
ctypes.CDLL("libstdc++.so.6")
library = ctypes.CDLL(sys.argv[1])
library.PyInit_fast__r7_3f2a91c4
mapped = lambda: sys.argv[1] in open("/proc/self/maps").read()
assert mapped()
_ctypes.dlclose(library._handle)
print("mapped" if mapped() else "gone")
"""


@pytest.mark.parametrize("compiler", CXX_COMPILERS)
def test_cplusplus_can_be_unmapped_again(place: Workplace, compiler: str) -> None:
    place.options["cxx"] = compiler
    library = place.compile(place.write("fast.cpp", UNIQUE_CPP), language="c++").library
    assert evaluate(library, "fast.answer()") == "42"
    assert "UNIQUE" not in read_elf(library, "-s")
    done = subprocess.run(
        [sys.executable, "-c", UNLOAD, str(library)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "gone"


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_c_and_cplusplus_go_together(place: Workplace, compiler: str) -> None:
    place.options["cc"] = compiler
    c = place.write("a/part.c", "int c_part(void) { return 40; }")
    cpp = place.write(
        "b/part.cpp",
        """
        #include <string>
        extern "C" int c_part(void);
        extern "C" int cpp_part(void) { return c_part() + (int)std::string("ab").size(); }
        """,
    )
    main = module(place, "cpp_part()")
    main.write_text("int cpp_part(void);\n" + main.read_text())
    library = place.compile(main, c, cpp).library
    assert evaluate(library, "fast.answer()") == "42"


PYX = """
    cimport cython
    cdef class Box:
        cdef int value
        cdef public object thing
        def __init__(self, value): self.value = value
        def upto(self):
            for i in range(self.value):
                yield i
    def total(double[:, ::1] m):
        cdef double s = 0
        cdef Py_ssize_t i, j
        with nogil:
            for i in range(m.shape[0]):
                for j in range(m.shape[1]):
                    s += m[i, j]
        return s
    async def later(x):
        return x + 1
    cpdef int add(int a, int b=3) except -1:
        if a < 0:
            raise ValueError("negative")
        return a + b
    ctypedef fused number:
        int
        double
    def twice(number x):
        return x * 2
    cpdef enum Color:
        RED = 1
    def outer(n):
        def inner(k):
            return n + k
        return inner
"""

USE_PYX = (
    "list(fast.Box(3).upto()), fast.add(4), fast.twice(2), fast.twice(2.5), fast.outer(3)(4), "
    "fast.Color.RED.value, fast.later(1).__name__, "
    "fast.total(memoryview(bytearray(48)).cast('d', (2, 3))), "
    "__import__('unittest').TestCase().assertRaises(ValueError, fast.add, -1)"
)


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_cython_runs_on_every_compiler(place: Workplace, compiler: str) -> None:
    place.options["cc"] = compiler
    source, generated = place.cython("fast.pyx", PYX)
    compiled = place.compile(generated, sources=(source,))
    assert evaluate(compiled.library, USE_PYX) == (
        "([0, 1, 2], 7, 4, 5.0, 7, 1, 'later', 0.0, None)"
    )


def test_cython_is_told_to_be_unloadable(place: Workplace) -> None:
    source, generated = place.cython("fast.pyx", "def f(): return 1\n")
    record = place.root / "record"
    place.options["cc"] = str(place.script("cc", f'echo "$*" >> "{record}"\nexec gcc "$@"\n'))
    place.compile(generated, sources=(source,))
    words = record.read_text().split()
    assert "-DCYTHON_USE_TYPE_SPECS=1" in words
    assert "-DCYTHON_USE_MODULE_STATE=1" in words
    assert "-DCYTHON_USE_FREELISTS=0" in words


def test_sources_of_one_name_do_not_collide(place: Workplace) -> None:
    one = place.write("one/part.c", "int one(void) { return 40; }")
    two = place.write("two/part.c", "int two(void) { return 2; }")
    main = module(place, "one() + two()")
    main.write_text("int one(void), two(void);\n" + main.read_text())
    assert evaluate(place.compile(main, one, two).library, "fast.answer()") == "42"


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_warnings_are_returned_once(place: Workplace, compiler: str) -> None:
    place.options["cc"] = compiler
    header = place.write("x.h", "#warning only a warning\n")
    main = module(place)
    main.write_text(f'#include "{header.name}"\n' + main.read_text())
    other = place.write("other.c", f'#include "{header.name}"\n')
    (warning,) = place.compile(main, other).diagnostics
    assert (warning.file, warning.line, warning.severity) == (header, 1, "warning")
    assert "only a warning" in warning.message
    assert warning.source == "#warning only a warning"


# --- what it depends on --------------------------------------------------------------------------


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_every_file_that_was_read_is_a_dependency(place: Workplace, compiler: str) -> None:
    place.options["cc"] = compiler
    odd = place.write("in c/a #b$c.h", "#define PART 40\n")
    deep = place.write("in c/deep.h", '#include "a #b$c.h"\n')
    forced = place.write("forced.h", "#define FORCED 2\n")
    main = module(place, "PART + FORCED")
    main.write_text('#include "deep.h"\n' + main.read_text())
    place.write("extra.c", "int extra;")
    extra = place.root / "extra.o"
    subprocess.run(["gcc", "-c", "-fPIC", "extra.c", "-o", extra], cwd=place.root, check=True)
    compiled = place.compile(
        main,
        include_dirs=(str(place.root / "in c"),),
        # relative ones start at the project's root
        extra_compile_args=("-include", "forced.h"),
        extra_objects=("extra.o",),
    )
    assert evaluate(compiled.library, "fast.answer()") == "42"
    assert {main, odd, deep, forced, extra} <= set(compiled.dependencies)
    assert any(path.name == "Python.h" for path in compiled.dependencies)
    assert all(path.is_absolute() and path.exists() for path in compiled.dependencies)


def test_generated_files_are_no_dependencies(place: Workplace) -> None:
    shown = place.write("fast.pyx", "")
    generated = module(place, name="work dir/fast.c")
    compiled = place.compile(generated, sources=(shown,))
    assert not any(path.is_relative_to(place.workdir) for path in compiled.dependencies)


def test_a_static_library_is_a_dependency(place: Workplace) -> None:
    place.write("part.c", "int part(void) { return 42; }")
    for command in (["gcc", "-fPIC", "-c", "part.c"], ["ar", "rc", "libpart.a", "part.o"]):
        subprocess.run(command, cwd=place.root, check=True)
    main = module(place, "part()")
    main.write_text("int part(void);\n" + main.read_text())
    compiled = place.compile(main, library_dirs=(str(place.root),), libraries=("part",))
    assert evaluate(compiled.library, "fast.answer()") == "42"
    assert place.root / "libpart.a" in compiled.dependencies


def test_depfiles_are_read_as_make_reads_them(tmp_path: Path) -> None:
    depfile = tmp_path / "x.d"
    depfile.write_text(
        "a\\ b/x.o: x.c \\\n /abs/h\\#1.h two\\ words.h cash$$.h \\\n back\\\\\\ slash.h a\\b.h\n"
        "/abs/h\\#1.h:\n"
    )
    assert read_depfile(depfile, base=Path("/base")) == tuple(
        Path("/base") / name
        for name in ("x.c", "/abs/h#1.h", "two words.h", "cash$.h", "back\\ slash.h", "a\\b.h")
    )


def test_parent_directories_are_resolved_through_links(tmp_path: Path) -> None:
    (tmp_path / "real/inner").mkdir(parents=True)
    (tmp_path / "real/x.h").touch()
    (tmp_path / "link").symlink_to("real/inner")
    depfile = tmp_path / "x.d"
    depfile.write_text("x.o: link/../x.h\n")
    assert read_depfile(depfile, base=tmp_path) == (tmp_path / "real/x.h",)


# --- how it is run -------------------------------------------------------------------------------


def rendezvous(place: Workplace) -> str:
    """A compiler of which two must run at the same time, else neither goes on."""
    for name in ("here", "there"):
        os.mkfifo(place.root / name)
    return str(
        place.script(
            "cc",
            f"""
            case " $* " in *" -c "*)
                case "$*" in
                    *fast.c*) echo > "{place.root}/there"; read x < "{place.root}/here";;
                    *) read x < "{place.root}/there"; echo > "{place.root}/here";;
                esac;;
            esac
            exec gcc "$@"
            """,
        )
    )


def test_sources_are_compiled_at_the_same_time(place: Workplace) -> None:
    place.options |= {"cc": rendezvous(place), "jobs": 2, "compile_timeout": 60}
    other = place.write("other.c", "int other;")
    assert place.compile(module(place), other).library.exists()


def test_no_more_than_the_given_jobs_run_at_once(place: Workplace) -> None:
    lock = place.root / "lock"
    place.options["cc"] = str(
        place.script(
            "cc",
            f"""
            case " $* " in *" -c "*) mkdir "{lock}" || exit 3;; esac
            gcc "$@"; status=$?
            rmdir "{lock}" 2>/dev/null
            exit $status
            """,
        )
    )
    place.options["jobs"] = 1
    others = [place.write(f"other{n}.c", f"int other{n};") for n in range(3)]
    assert place.compile(module(place), *others).library.exists()


def stuck(place: Workplace) -> tuple[Path, Path]:
    """A compiler that starts a process and never ends; and a pipe that tells both their numbers."""
    pipe = place.root / "pipe"
    os.mkfifo(pipe)
    script = place.script(
        "cc",
        f"""
        case " $* " in *" -c "*) ;; *) exec gcc "$@";; esac
        sleep 1000 &
        echo $$ $! > "{pipe}"
        wait
        """,
    )
    return script, pipe


def test_a_compiler_that_takes_too_long_is_ended_with_all_it_started(place: Workplace) -> None:
    script, pipe = stuck(place)
    place.options["cc"] = str(script)
    source = module(place)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    for timeout in (0.5, 5, 50):  # so long that the script gets to its last line
        place.options["compile_timeout"] = timeout
        with pytest.raises(BuildTimeout, match=f"{timeout} s") as caught:
            place.compile(source)
        if output := os.read(reader, 100):
            break
    os.close(reader)
    processes = [int(word) for word in output.split()]
    assert len(processes) == 2
    for process in processes:
        wait_for_end(process)
    assert caught.value.command[0] == str(script)
    assert "compile-timeout" in str(caught.value)


INTERRUPTED = """
import sys
from pathlib import Path
from compilations import Workplace
place = Workplace(Path(sys.argv[1]), {"cc": sys.argv[2]})
try:
    place.compile(place.root / "fast.c")
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_ends_the_compilers(place: Workplace) -> None:
    script, pipe = stuck(place)
    module(place)
    with subprocess.Popen(
        [sys.executable, "-P", "-c", INTERRUPTED, place.root, script],
        stdout=subprocess.PIPE,
        text=True,
        env=environ_with_relib(),
    ) as builder:
        processes = [int(word) for word in pipe.read_text().split()]
        assert len(processes) == 2
        builder.send_signal(signal.SIGINT)
        output, _ = builder.communicate()
    assert output == "interrupted\n"
    for process in processes:
        wait_for_end(process)


INTERRUPTED_AT_ONCE = """
import signal, subprocess
from pathlib import Path
from relib.building import processes
started = []

class Popen(subprocess.Popen):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        started.append(self)
        signal.raise_signal(signal.SIGINT)

subprocess.Popen = Popen
try:
    processes.run_all([["sleep", "600"]], jobs=1, timeout=600, cwd=Path.cwd())
except KeyboardInterrupt:
    print([process.poll() for process in started])
"""


def test_an_interrupt_right_after_a_compiler_has_started_ends_it(place: Workplace) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", INTERRUPTED_AT_ONCE],
        cwd=place.root,
        capture_output=True,
        text=True,
        timeout=60,
        env=environ_with_relib(),
    )
    assert done.stdout == f"[{-signal.SIGKILL}]\n", done.stderr


def test_a_failure_is_seen_where_exit_statuses_are_not(place: Workplace) -> None:
    """A host that ignores SIGCHLD gets no exit status from its children."""
    place.write("fast.c", "#error on purpose\n")
    script = """
        import signal, sys
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        from pathlib import Path
        from compilations import Workplace
        from relib.errors import BuildError
        place = Workplace(Path(sys.argv[1]))
        try:
            place.compile(place.root / "fast.c")
        except BuildError as error:
            print(error.diagnostics[0].message)
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", dedent(script), place.root],
        capture_output=True,
        text=True,
        check=True,
        env=environ_with_relib(),
    )
    assert "on purpose" in done.stdout


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_an_error_is_told_with_its_place(place: Workplace, compiler: str) -> None:
    place.options["cc"] = compiler
    source = place.write("fast.c", "int fine;\nint f(void) { return nosuch; }\n")
    with pytest.raises(BuildError) as caught:
        place.compile(source)
    error = caught.value
    (diagnostic,) = [d for d in error.diagnostics if d.severity == "error"]
    assert (diagnostic.file, diagnostic.line) == (source, 2)
    assert diagnostic.source == "int f(void) { return nosuch; }"
    assert "nosuch" in diagnostic.message
    assert error.name == "pkg.fast"
    assert ("-shared" if compiler == "tcc" else "-c") in error.command
    assert "nosuch" in error.output
    assert f"{source}:2" in str(error)


def test_errors_of_several_sources_are_told_together(place: Workplace) -> None:
    place.options |= {"cc": rendezvous(place), "jobs": 2, "compile_timeout": 60}
    one, two = place.write("fast.c", "#error one\n"), place.write("two.c", "#error two\n")
    with pytest.raises(BuildError) as caught:
        place.compile(one, two)
    assert [d.file for d in caught.value.diagnostics] == [one, two]


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_a_library_that_is_not_there_is_named(place: Workplace, compiler: str) -> None:
    place.options["cc"] = compiler
    with pytest.raises(BuildError, match="does not link") as caught:
        place.compile(module(place), libraries=("nosuchlib",))
    (diagnostic,) = caught.value.diagnostics
    assert "nosuchlib" in diagnostic.message


def test_a_missing_source_is_named(place: Workplace) -> None:
    with pytest.raises(SourceMissing, match=r"gone\.c") as caught:
        place.compile(place.root / "gone.c")
    assert caught.value.path == str(place.root / "gone.c")


def test_a_source_that_cannot_be_read_is_named(place: Workplace) -> None:
    directory = place.root / "dir.c"
    directory.mkdir()
    with pytest.raises(SourceUnreadable, match=r"dir\.c"):
        place.compile(directory)


def test_a_source_that_goes_while_it_is_compiled_is_missing(place: Workplace) -> None:
    source = module(place)
    script = f'case " $* " in *" -c "*) rm "{source}";; esac\nexec gcc "$@"\n'
    place.options["cc"] = str(place.script("cc", script))
    with pytest.raises(SourceMissing):
        place.compile(source)


def test_a_file_that_is_neither_c_nor_cplusplus_is_refused(place: Workplace) -> None:
    with pytest.raises(BuildError, match=r"x\.f90"):
        place.compile(place.write("x.f90", ""))


def test_a_compiler_that_goes_after_it_was_found_is_missing(place: Workplace) -> None:
    script = place.script("cc", 'exec gcc "$@"\n')
    place.options["cc"] = str(script)
    toolchain = place.toolchain()
    script.unlink()
    place.toolchain = lambda language="c": toolchain  # type: ignore[method-assign]
    with pytest.raises(CompilerMissing, match=str(script)):
        place.compile(module(place))


def test_a_compiler_that_is_killed_is_told_so(place: Workplace) -> None:
    script = 'case " $* " in *" -c "*) kill -9 $$;; esac\nexec gcc "$@"\n'
    place.options["cc"] = str(place.script("cc", script))
    with pytest.raises(BuildError, match="SIGKILL"):
        place.compile(module(place))


def test_a_compiler_that_makes_nothing_has_failed(place: Workplace) -> None:
    script = 'case " $* " in *" -c "*) exit 0;; esac\nexec gcc "$@"\n'
    place.options["cc"] = str(place.script("cc", script))
    with pytest.raises(BuildError, match="no whole file"):
        place.compile(module(place))


def test_without_pythons_headers_the_message_says_what_to_install(place: Workplace) -> None:
    # what gcc says when they are not there
    script = (
        'case " $* " in *" -c "*) echo "fast.c:1:10: fatal error: Python.h: No such file or '
        'directory"; exit 1;; esac\nexec gcc "$@"\n'
    )
    place.options["cc"] = str(place.script("cc", script))
    with pytest.raises(BuildError, match="python3-dev"):
        place.compile(module(place))


FULL = """
set -e
mount -t tmpfs -o size=64k none "$1/work dir"
exec "$2" -P -c "$3" "$1" "$4"
"""

FULL_BUILD = """
import sys
from pathlib import Path
from compilations import Workplace
from relib.errors import DiskFull
place = Workplace(Path(sys.argv[1]), {"cc": sys.argv[2], "cflags": "-O0"})
try:
    place.compile(place.root / "fast.c")
except DiskFull as error:
    print(error)
"""


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_a_full_disk_is_told_as_such(place: Workplace, compiler: str) -> None:
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    possible = shutil.which("unshare") is not None and subprocess.run(
        [*alone, "mount", "-t", "tmpfs", "none", place.workdir], capture_output=True, check=False
    )
    if not possible or possible.returncode != 0:
        pytest.skip("no file system of its own for a test here")
    source = module(place)
    source.write_text(
        "static const char big[100000] = {1};\n"
        + source.read_text()
        + ("const char *use(int i) { return big + i; }\n")
    )
    done = subprocess.run(
        [
            *alone,
            *("sh", "-c", FULL, "sh", str(place.root), sys.executable, FULL_BUILD, compiler),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=environ_with_relib(),
    )
    assert done.returncode == 0, done.stderr
    assert "there is no room to build" in done.stdout


def test_a_second_interrupt_leaves_no_compiler_either(monkeypatch: pytest.MonkeyPatch) -> None:
    children = processes._Children()
    for number in range(2):
        process = subprocess.Popen(["sleep", "1000"], process_group=0)
        children.running.append(processes._Child(number, ("sleep",), process, 1000.0))
    first, second = children.running

    def interrupted(timeout: float | None = None) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(first.process, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            children.end()
    assert [child.process.wait(60) for child in (first, second)] == [-signal.SIGKILL] * 2
    children.end()
