"""What compilers say, read back as data and shown to a person."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
from compilations import Workplace
from compilers import C_COMPILERS, needs

from relib.building import tinycc
from relib.building.diagnostics import Diagnostic, parse_compiler, show
from relib.building.processes import compiler_environment

GCC_AND_CLANG = [p for p in C_COMPILERS if p.values != ("tcc",)]


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def said(place: Workplace, *command: str) -> str:
    """What a compiler prints."""
    done = subprocess.run(
        command,
        cwd=place.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=compiler_environment(),
        check=False,
    )
    return os.fsdecode(done.stdout)


def parse(place: Workplace, *command: str, pyx: tuple[Path, ...] = ()) -> tuple[Diagnostic, ...]:
    return parse_compiler(said(place, *command), cwd=place.root, pyx_sources=pyx)


def errors(diagnostics: tuple[Diagnostic, ...]) -> list[Diagnostic]:
    return [d for d in diagnostics if d.severity == "error"]


# --- C and C++ that the user wrote ---------------------------------------------------------------


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_an_error_has_its_place_and_its_line(place: Workplace, compiler: str) -> None:
    source = place.write("a dir/x.c", "int fine;\nint f(void) { return nosuch; }\n")
    (error,) = errors(parse(place, compiler, "-c", "a dir/x.c", "-o", "x.o"))
    assert (error.file, error.line) == (source, 2)
    assert error.source == "int f(void) { return nosuch; }"
    assert "nosuch" in error.message
    assert error.column in (0, error.source.index("nosuch") + 1)


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_an_error_in_a_header_is_placed_there(place: Workplace, compiler: str) -> None:
    header = place.write("h.h", "#error in the header\n")
    place.write("x.c", '#include "h.h"\n')
    (error,) = errors(parse(place, compiler, "-c", "x.c"))
    assert (error.file, error.line) == (header, 1)
    assert "in the header" in error.message


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_warnings_are_told_from_errors(place: Workplace, compiler: str) -> None:
    place.write("x.c", "#warning careful\n")
    (warning,) = parse(place, compiler, "-c", "x.c")
    assert (warning.severity, warning.line) == ("warning", 1)


@pytest.mark.parametrize("compiler", GCC_AND_CLANG)
def test_the_column_counts_characters(place: Workplace, compiler: str) -> None:
    source = place.write("x.c", '\tconst char *ä = "日本", *b = nosuch;\n')
    (error,) = errors(parse(place, *flags(compiler), "-c", "x.c"))
    line = source.read_text().splitlines()[0]
    assert error.source == line
    assert error.column == line.index("nosuch") + 1


def flags(compiler: str) -> list[str]:
    return [compiler, *(["-fdiagnostics-column-unit=byte"] if compiler == "gcc" else [])]


@pytest.mark.parametrize("compiler", GCC_AND_CLANG)
def test_colours_do_not_confuse(place: Workplace, compiler: str) -> None:
    place.write("x.c", "int f(void) { return nosuch; }\n")
    output = said(place, compiler, "-fdiagnostics-color=always", "-c", "x.c")
    assert "\x1b[" in output
    (error,) = errors(parse_compiler(output, cwd=place.root))
    assert "nosuch" in error.message


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_a_quoted_line_that_looks_like_a_message_is_none(place: Workplace, compiler: str) -> None:
    place.write("x.c", 'int x = nosuch("y.c:1:2: error: not one");\n')
    assert all("not one" not in d.message for d in parse(place, compiler, "-c", "x.c"))


def test_notes_are_kept_but_for_the_idle_ones(place: Workplace) -> None:
    place.write("x.cpp", "void f(int);\nvoid g() { f(1, 2); nosuch; nosuch; }\n")
    diagnostics = parse(place, "g++", "-c", "x.cpp")
    notes = [d for d in diagnostics if d.severity == "note"]
    assert notes
    assert all("each undeclared" not in d.message for d in notes)


@pytest.mark.parametrize("compiler", GCC_AND_CLANG)
def test_options_that_are_unknown_are_told(place: Workplace, compiler: str) -> None:
    place.write("x.c", "")
    (error,) = errors(parse(place, compiler, "--no-such-option", "-c", "x.c"))
    assert "--no-such-option" in error.message
    assert error.line == 0


@needs("clang")
def test_flags_that_a_step_has_no_use_for_are_no_warning(place: Workplace) -> None:
    place.write("x.c", "int x;")
    output = said(place, "clang", "-Wl,-O1", "-c", "x.c")
    assert "warning" in output
    assert parse_compiler(output, cwd=place.root) == ()


# --- the linker ----------------------------------------------------------------------------------


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_a_missing_library_is_one_error(place: Workplace, compiler: str) -> None:
    place.write("x.c", "int x;")
    (error,) = parse(place, compiler, "-shared", "-fPIC", "x.c", "-lnosuchlib", "-o", "x.so")
    assert error.severity == "error"
    assert "nosuchlib" in error.message


@pytest.mark.parametrize("debug", ["-g0", "-g"])
@pytest.mark.parametrize("compiler", GCC_AND_CLANG)
def test_an_undefined_reference_is_one_error(place: Workplace, compiler: str, debug: str) -> None:
    place.write("x.c", "int nosuch(void);\nint f(void) { return nosuch(); }\n")
    options = ("-shared", "-fPIC", debug, "-Wl,-z,defs")
    (error,) = parse(place, compiler, *options, "x.c", "-o", "x.so")
    assert "undefined reference to" in error.message
    assert "nosuch" in error.message
    assert error.file == place.root / "x.c"
    assert error.line == (2 if debug == "-g" else 0)


def test_what_is_defined_twice_is_one_error(place: Workplace) -> None:
    place.write("x.c", "int twice = 1;\n")
    place.write("y.c", "int twice = 2;\n")
    (error,) = parse(place, "gcc", "-shared", "-fPIC", "-g0", "x.c", "y.c", "-o", "x.so")
    assert "multiple definition of" in error.message


def test_a_linker_that_only_sums_up_is_still_heard(place: Workplace) -> None:
    (error,) = parse_compiler("collect2: error: ld returned 1 exit status\n", cwd=place.root)
    assert "ld returned 1" in error.message


def test_lld_is_understood(place: Workplace) -> None:
    output = (
        "ld.lld: error: undefined symbol: nosuch\n"
        ">>> referenced by x.c:2\n"
        ">>>               /tmp/x.o:(f)\n"
        "clang: error: linker command failed with exit code 1 (use -v to see invocation)\n"
    )
    (error,) = parse_compiler(output, cwd=place.root)
    assert (error.file, error.message) == (Path("ld.lld"), "undefined symbol: nosuch")


# --- C that Cython generated ---------------------------------------------------------------------

# One fault, on line 10; RIGHT has none.
FAULTY = """
    cdef extern from *:
        int nosuch(int)
        ctypedef int nosuch_t

    cdef class Box:
        cdef int value
        cdef object other

        cdef int get(self):
            return nosuch(self.value)

    def f(a):
        return a + 1
"""

RIGHT = FAULTY.replace("return nosuch(self.value)", "return 1")


def compile_generated(place: Workplace, compiler: str, text: str) -> tuple[Diagnostic, ...]:
    source, generated = place.cython("pkg/fast.pyx", text)
    include = f"-I{sysconfig.get_path('include')}"
    strict = (
        tinycc.added_compile_flags()
        if compiler == "tcc"
        else ["-Werror=implicit-function-declaration"]
    )
    command = (compiler, "-fPIC", "-O0", *strict, include, "-c", str(generated), "-o", "x.o")
    return parse(place, *command, pyx=(source,))


@pytest.mark.parametrize("compiler", GCC_AND_CLANG)
def test_an_error_in_generated_c_is_placed_in_the_pyx(place: Workplace, compiler: str) -> None:
    found = compile_generated(place, compiler, FAULTY)
    (error,) = [d for d in found if d.severity == "error"]
    assert error.file == place.root / "pkg/fast.pyx"
    assert (error.line, error.source) == (10, "        return nosuch(self.value)")
    assert error.column == error.source.index("nosuch") + 1


@pytest.mark.parametrize("compiler", C_COMPILERS)
@pytest.mark.parametrize(
    ("declared", "line"),
    [("cdef int value\n    cdef nosuch_t wrong", 7), ("cdef nosuch_t value", 6)],
)
def test_a_wrong_type_is_found_where_it_is_written(
    place: Workplace, compiler: str, declared: str, line: int
) -> None:
    text = RIGHT.replace("cdef int value", declared.replace("\n", "\n    "), 1)
    found = errors(compile_generated(place, compiler, text))
    # one mistake, and not the dozens that follow from it in Cython's own code
    assert {(d.file.name, d.line) for d in found} == {("fast.pyx", line)}
    assert "nosuch_t" in found[0].source


def test_a_wrong_type_in_a_function_is_found_where_it_is_written(place: Workplace) -> None:
    text = RIGHT.replace("return a + 1", "cdef nosuch_t wrong\n        wrong = a\n        return a")
    found = compile_generated(place, "gcc", text)
    first = next(d for d in found if d.severity == "error")
    assert (first.file.name, first.line, first.column) == ("fast.pyx", 13, 10)


def test_included_files_are_found_too(place: Workplace) -> None:
    included = place.write("pkg/part.pxi", "cdef int twice(int x):\n    return nosuch(x)\n")
    text = RIGHT + '    include "part.pxi"\n'
    found = compile_generated(place, "gcc", text)
    (error,) = [d for d in found if d.severity == "error"]
    assert (error.file, error.line) == (included, 2)


def test_the_pyx_is_found_wherever_cython_ran(place: Workplace) -> None:
    """Cython names a source relative to the directory that it ran in."""
    source, generated = place.cython("pkg/fast.pyx", FAULTY)
    text = generated.read_text()
    number = next(n for n, line in enumerate(text.splitlines(), 1) if "= nosuch(" in line)
    for name in (str(source), "pkg/fast.pyx", f"../..{source}", "fast.pyx"):
        generated.write_text(re.sub(r'/\* "fast\.pyx":', f'/* "{name}":', text))
        message = f"{generated}:{number}:5: error: 'nosuch' is wrong"
        (error,) = parse_compiler(message, cwd=Path("/"), pyx_sources=(source,))
        assert (error.file, error.line) == (source, 10)


def test_what_no_line_stands_for_stays_in_the_c(place: Workplace) -> None:
    source, generated = place.cython("fast.pyx", FAULTY)
    lines = generated.read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if "Runtime support code" in line) + 5
    message = f"{generated}:{number}:5: error: something is wrong"
    (error,) = parse_compiler(message, cwd=place.root, pyx_sources=(source,))
    assert (error.file, error.line) == (generated, number)


def test_warnings_about_cythons_own_code_are_left_out(place: Workplace) -> None:
    source, generated = place.cython("fast.pyx", "def f(): pass\n")
    message = f"{generated}:3:1: warning: unused something\n"
    assert parse_compiler(message, cwd=place.root, pyx_sources=(source,)) == ()


# --- shown ---------------------------------------------------------------------------------------


def test_each_is_shown_once_with_its_line_and_a_mark() -> None:
    error = Diagnostic(Path("/p/fast.pyx"), 3, 5, "error", "undeclared name", "    retrun x")
    warning = Diagnostic(Path("/p/fast.pyx"), 0, 0, "warning", "careful")
    assert show([error, warning, error], color=False) == (
        "/p/fast.pyx:3:5: error: undeclared name\n"
        "    retrun x\n"
        "    ^\n"
        "/p/fast.pyx: warning: careful"
    )


def test_colour_is_used_only_when_wanted() -> None:
    error = Diagnostic(Path("/p/x.c"), 1, 1, "error", "wrong", "x")
    coloured = show([error], color=True)
    assert "\x1b[1;31merror:\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == show([error], color=False)
    assert "\x1b" not in show([error], color=False)


def test_files_below_the_current_directory_are_named_briefly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = Diagnostic(tmp_path / "pkg/x.c", 1, 0, "error", "wrong")
    assert show([error], color=False) == "pkg/x.c:1: error: wrong"


def test_the_mark_stands_under_tabs_and_wide_characters() -> None:
    error = Diagnostic(Path("/x.c"), 1, 5, "error", "wrong", "\t日e\N{COMBINING ACUTE ACCENT}x")
    assert show([error], color=False).splitlines()[-1] == "\t   ^"


def test_a_source_line_cannot_steer_the_terminal() -> None:
    error = Diagnostic(Path("/x.c"), 1, 1, "error", "wrong \x1b[2J", "\x1b]0;title\x07 \udcff")
    shown = show([error], color=False)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\udc80-\udcff]", shown)
    shown.encode()


def test_a_very_long_line_is_cut_around_the_column() -> None:
    line = "a" * 5000 + "HERE" + "b" * 5000
    shown = show([Diagnostic(Path("/x.c"), 1, 5001, "error", "wrong", line)], color=False)
    _, source, mark = shown.splitlines()
    assert len(source) <= 200
    assert source[mark.index("^") :].startswith("HERE")
