"""Tiers: which compiler builds, what it is told, and what happens where it cannot."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from building_project import Project
from compilations import evaluate, forget_environment
from compilers import needs

from relib.building.builder import Build, build_extension
from relib.building.tiers import Plan, plans
from relib.building.toolchain import Toolchain, find_toolchain
from relib.config import load_config
from relib.errors import BuildError, ConfigError

TIERS = ("instant", "optimized")
OF_COMPILER = """
    #if defined(__TINYC__)
    #define ANSWER 1
    #elif defined(__OPTIMIZE__)
    #define ANSWER 3
    #else
    #define ANSWER 2
    #endif
"""
TCC, PLAIN, OPTIMIZED = 1, 2, 3
MODULE = """
    #include <Python.h>
    static struct PyModuleDef def = { PyModuleDef_HEAD_INIT, "fast", 0, 0, 0 };
    PyMODINIT_FUNC PyInit_fast(void) {
        PyObject *module = PyModule_Create(&def);
        if (module) PyModule_AddIntConstant(module, "answer", ANSWER);
        return module;
    }
"""


@pytest.fixture(autouse=True)
def nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_environment(monkeypatch)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with nothing set; its own compiler optimises a little."""
    return Project(tmp_path / "project", tier="auto", cflags="-O1 -g0")


def build(
    project: Project, source: str = "fast.c", tier: str | None = None, **fields: object
) -> Build:
    return build_extension(project.extension(source, **fields), project.config, tier=tier)


def answer(built: Build, expression: str = "fast.answer") -> str:
    return evaluate(built.library, expression)


def compiler(built: Build) -> int:
    """Which kind of compiler has compiled OF_COMPILER + MODULE."""
    return int(answer(built))


def write(project: Project, before: str = "", module: str = MODULE, name: str = "fast.c") -> None:
    project.write(name, OF_COMPILER + before + module)


def without(monkeypatch: pytest.MonkeyPatch, directory: Path, *programs: str) -> None:
    """Take programs off the PATH."""
    directory.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        if not Path(place).is_dir():
            continue
        for program in Path(place).iterdir():
            link = directory / program.name
            if program.name not in programs and not link.is_symlink():
                link.symlink_to(program)
    monkeypatch.setenv("PATH", str(directory))


# --- selection -----------------------------------------------------------------------------------


@needs("tcc")
def test_instant_is_tcc_where_it_can(project: Project) -> None:
    write(project)
    built = build(project, tier="instant")
    assert (compiler(built), built.tier, built.diagnostics) == (TCC, "instant", ())


def test_optimized_is_the_project_s_own(project: Project) -> None:
    write(project)
    built = build(project, tier="optimized")
    assert (compiler(built), built.tier) == (OPTIMIZED, "optimized")


@pytest.mark.parametrize("absent", [("tcc",), ("tcc", "clang")])
def test_without_tcc_instant_is_another_compiler_that_does_not_optimise(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, absent: tuple[str, ...]
) -> None:
    without(monkeypatch, tmp_path / "bin", *absent)
    write(project)
    built = build(project, tier="instant")
    assert (compiler(built), built.tier, built.diagnostics) == (PLAIN, "instant", ())


def test_an_extension_s_own_flags_cannot_make_an_instant_build_slow(project: Project) -> None:
    project.options["cc"] = "gcc"
    write(project, 'int f(void) { __asm__("nop"); return 0; }\n')
    built = build(project, tier="instant", extra_compile_args=("-O3", "-DKEPT"))
    assert compiler(built) == PLAIN


def test_the_tier_is_a_setting(project: Project) -> None:
    write(project)
    project.options["tier"] = "instant"
    assert build(project).tier == "instant"
    assert build(project, tier="optimized").tier == "optimized"
    project.options["tier"] = "optimized"
    assert build(project).tier == "optimized"


def test_an_optimized_build_that_is_there_answers_at_once(project: Project) -> None:
    write(project)
    optimized = build(project, tier="optimized")
    again = build(project, tier="instant")
    assert (again.cached, again.tier, again.library) == (True, "optimized", optimized.library)


def test_auto_takes_the_optimized_build_that_is_there(project: Project) -> None:
    write(project)
    assert build(project).tier == "instant"
    optimized = build(project, tier="optimized")
    assert not optimized.cached
    again = build(project)
    assert (again.cached, again.tier, again.library) == (True, "optimized", optimized.library)
    assert build(project, tier="instant").library != optimized.library


def test_both_tiers_are_kept(project: Project) -> None:
    write(project)
    first = {tier: build(project, tier=tier) for tier in TIERS}
    for tier in TIERS:
        again = build(project, tier=tier)
        assert (again.cached, again.tier) == (True, tier)
        assert again.library == first[tier].library


def test_an_unknown_tier_is_an_error(project: Project) -> None:
    write(project)
    with pytest.raises(ConfigError, match="'fast'"):
        build(project, tier="fast")


@needs("tcc")
def test_a_compiler_that_is_named_does_not_keep_tcc_from_instant_builds(project: Project) -> None:
    project.options["cc"] = "gcc"
    write(project)
    assert compiler(build(project, tier="instant")) == TCC
    # but where tcc cannot, it is the one that was named
    families = [
        plan.toolchain.family
        for plan in plans(project.extension("fast.c"), project.config, "instant")
        if plan.toolchain is not None
    ]
    assert families == ["tcc", "gcc", "gcc"]


@needs("g++")
def test_cplusplus_is_built_by_the_project_s_own_compiler(project: Project) -> None:
    write(project, name="fast.cpp")
    built = build(project, "fast.cpp", tier="instant")
    assert (compiler(built), built.diagnostics) == (PLAIN, ())


# --- flags ---------------------------------------------------------------------------------------

CHECKS = """
    #if !defined(FROM_CFLAGS) || FROM_CFLAGS != 5
    #error "-D is not honoured"
    #endif
    #ifdef TAKEN_BACK
    #error "-U is not honoured"
    #endif
    #include "found.h"
    #if __STDC_VERSION__ != 201710L
    #error "-std is not honoured"
    #endif
    #ifdef __STRICT_ANSI__
    #error "gnu17 is not strict"
    #endif
"""


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("named", [None, "gcc"])
def test_macros_directories_and_the_standard_hold_in_both_tiers(
    project: Project, tier: str, named: str | None
) -> None:
    place = project.write("my headers/found.h", "#define FOUND 42\n").parent
    project.options |= {
        "cc": named,
        "cflags": f"-O1 -DFROM_CFLAGS=5 -DTAKEN_BACK -UTAKEN_BACK '-I{place}' -std=gnu17",
    }
    project.write("fast.c", CHECKS + MODULE.replace("ANSWER", "FOUND"))
    assert answer(build(project, tier=tier)) == "42"


@needs("tcc")
@pytest.mark.parametrize(("flag", "strict"), [("-std=c99", 1), ("-std=gnu99", 0)])
def test_an_older_standard_is_seen_by_the_code(project: Project, flag: str, strict: int) -> None:
    seen = "#ifdef __STRICT_ANSI__\n#define STRICT 1\n#else\n#define STRICT 0\n#endif\n"
    project.options["cflags"] = flag
    project.write("fast.c", seen + MODULE.replace("ANSWER", "__STDC_VERSION__ * 10 + STRICT"))
    assert answer(build(project, tier="instant")) == str(1999010 + strict)


# --- falling back --------------------------------------------------------------------------------

UNFIT = [
    pytest.param("#include <complex.h>\nstatic double _Complex z;\n", (), "", id="complex"),
    pytest.param(
        'static int f(void) { __asm__ volatile ("nop"); return 0; }\n',
        (),
        "inline assembly",
        id="assembly",
    ),
    pytest.param(
        "static int four __attribute__((vector_size(16)));\n", (), "vector_size", id="attribute"
    ),
    pytest.param(
        "static int f(int n) {\n#pragma omp parallel for\nfor (int i = 0; i < n; i++); return 0; }"
        "\n",
        (),
        "OpenMP",
        id="pragma",
    ),
    pytest.param("static int x;\n", ("-fopenmp",), "OpenMP", id="flag"),
    pytest.param("static __thread int x;\n", (), "", id="thread-local"),
]


@needs("tcc")
@pytest.mark.parametrize(("text", "flags", "why"), UNFIT)
def test_what_tcc_cannot_be_trusted_with_is_built_by_another_and_said_once(
    project: Project,
    caplog: pytest.LogCaptureFixture,
    text: str,
    flags: tuple[str, ...],
    why: str,
) -> None:
    caplog.set_level(logging.INFO, "relib")
    project.options["cc"] = "gcc"  # OpenMP needs a library that clang may not have
    write(project, text)
    fields = {"extra_compile_args": flags, "extra_link_args": flags}
    built = build(project, tier="instant", **fields)
    assert (compiler(built), built.tier) == (PLAIN, "instant")
    [note] = [d for d in built.diagnostics if d.severity == "note"]
    assert "built with gcc, since tcc cannot be used" in note.message
    assert why in note.message
    assert note.file == project.root / "fast.c"
    said = [record for record in caplog.records if "tcc" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.INFO]
    assert why in said[0].getMessage()

    caplog.clear()
    write(project, text + "static int another;\n")
    again = build(project, tier="instant", **fields)
    assert (again.cached, compiler(again), again.diagnostics) == (False, PLAIN, ())
    assert not caplog.records


def recording_tcc(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a tcc first on the PATH that writes down when it compiles."""
    directory.mkdir()
    calls = directory / "calls"
    calls.touch()
    script = directory / "tcc"
    script.write_text(
        f'#!/bin/sh\ncase " $* " in *" -shared "*) echo "$*" >> {calls} ;; esac\n'
        f'exec {shutil.which("tcc")} "$@"\n'
    )
    script.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return calls


@needs("tcc")
def test_a_compiler_is_not_tried_again_while_the_reason_is_there(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = recording_tcc(tmp_path / "bin", monkeypatch)

    def tried() -> int:
        return len(calls.read_text().splitlines())

    project.options["cc"] = "gcc"
    unfit = "static double _Complex z;\n"
    write(project, unfit)
    assert compiler(build(project, tier="instant")) == PLAIN
    assert tried() == 1
    write(project, unfit + "static int more;\n")
    assert compiler(build(project, tier="instant")) == PLAIN
    assert tried() == 1
    # another extension has reasons of its own
    project.write("other.c", OF_COMPILER + MODULE.replace("fast", "other"))
    build(project, "other.c", tier="instant")
    assert tried() == 2
    # and when the line is gone, so is the reason
    write(project, "static int more;\n")
    assert compiler(build(project, tier="instant")) == TCC
    assert tried() == 3


@needs("tcc")
def test_a_reason_in_a_header_lasts_for_as_long_as_it_is_included(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = recording_tcc(tmp_path / "bin", monkeypatch)
    project.options["cc"] = "gcc"
    project.write("far.h", "static double _Complex z;\n")
    for number in range(3):
        write(project, f'#include "far.h"\nstatic int v{number};\n')
        assert compiler(build(project, tier="instant")) == PLAIN
    assert len(calls.read_text().splitlines()) == 1
    write(project)
    assert compiler(build(project, tier="instant")) == TCC


@needs("tcc")
def test_assembly_in_a_header_of_the_project_counts(project: Project) -> None:
    project.options["cc"] = "gcc"
    project.write("near.h", 'static int f(void) { __asm__("nop"); return 0; }\n')
    write(project, '#include "near.h"\n')
    assert compiler(build(project, tier="instant")) == PLAIN


@needs("tcc")
def test_what_is_known_is_known_in_the_next_process_too(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from relib.building import obstacles

    calls = recording_tcc(tmp_path / "bin", monkeypatch)
    project.options["cc"] = "gcc"
    write(project, "static double _Complex z;\n")
    build(project, tier="instant")
    monkeypatch.setattr(obstacles, "_known", {})
    write(project, "static double _Complex z;\nstatic int x;\n")
    assert build(project, tier="instant").diagnostics == ()
    assert len(calls.read_text().splitlines()) == 1


@pytest.mark.parametrize("named", [None, "gcc"])
def test_an_error_is_the_better_compiler_s(project: Project, named: str | None) -> None:
    project.options["cc"] = named
    project.write("fast.c", "#include <Python.h>\nint f(void) { return undeclared_name; }\n")
    with pytest.raises(BuildError) as caught:
        build(project, tier="instant")
    assert not caught.value.command[0].endswith("tcc")
    [error] = [d for d in caught.value.diagnostics if d.severity == "error"]
    assert (error.line, error.source.strip()) == (2, "int f(void) { return undeclared_name; }")
    assert error.column > 1  # which tcc does not tell
    # nothing was learnt from it
    write(project)
    assert not any(d.severity == "note" for d in build(project, tier="instant").diagnostics)


def test_code_that_must_be_optimised_is_built_with_the_project_s_own_flags(
    project: Project,
) -> None:
    project.options["cc"] = "gcc"
    demand = "#ifndef __OPTIMIZE__\n#error must be optimised\n#endif\n"
    write(project, demand)
    built = build(project, tier="instant")
    assert (compiler(built), built.tier) == (OPTIMIZED, "optimized")
    again = build(project, tier="instant")
    assert (again.cached, again.tier) == (True, "optimized")
    assert any("must be optimised" in d.message for d in built.diagnostics)


# --- Cython --------------------------------------------------------------------------------------

SOURCE = """
    cdef class Counter:
        cdef public int n
        cpdef int bump(self, int by=1):
            self.n += by
            return self.n

    def total(double[:] values):
        cdef double result = 0
        cdef Py_ssize_t i
        for i in range(values.shape[0]):
            result += values[i]
        return result

    def each(int n):
        for i in range(n):
            yield i * i
"""


def test_both_tiers_of_a_cython_module_give_the_same_answers(tmp_path: Path) -> None:
    """In one process, one after the other, through the library's front door."""
    import json
    import subprocess
    import sys

    from building_project import environ_with_relib

    project = Project(tmp_path)
    project.write("fast.pyx", SOURCE)
    script = """
import array, json, relib, sys
answers = []
fast = relib.load("fast.pyx")
for tier in ("instant", "optimized", "instant"):
    built = relib.building.builder.build_extension(fast.extension, fast.config, tier=tier)
    fast.unload()
    fast = relib.load("fast.pyx", config=relib.load_config(fast.config.root, tier=tier))
    module, counter = fast.module, fast.module.Counter()
    answers.append([
        built.tier, counter.bump(2), counter.bump(), module.total(array.array("d", [1, 2.5])),
        list(module.each(4)),
    ])
    del module, counter
print(json.dumps(answers))
"""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", script],
        cwd=tmp_path,
        env=environ_with_relib({"CFLAGS": "-O1 -g0", "RELIB_TIER": "instant"}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    answers = json.loads(ran.stdout)
    assert [each[0] for each in answers] == ["instant", "optimized", "instant"]
    assert [each[1:] for each in answers] == [[2, 3, 3.5, [0, 1, 4, 9]]] * 3


def test_numpy_s_headers_are_left_to_another_compiler(project: Project) -> None:
    numpy = pytest.importorskip("numpy")
    project.write(
        "fast.pyx",
        "cimport numpy as np\nnp.import_array()\nanswer = 42\n",
    )
    built = build(project, "fast.pyx", tier="instant", include_dirs=(numpy.get_include(),))
    assert built.tier == "instant"
    if shutil.which("tcc"):
        assert sum(d.severity == "note" for d in built.diagnostics) == 1
    assert answer(built, "__import__('sys') and 42") == "42"


# --- the memory of compilers ---------------------------------------------------------------------


def test_what_a_compiler_is_is_kept_for_the_next_program(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from relib.building import compilers

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compilers, "_known", {})
    config = load_config(project.root, {}, cc="gcc")
    first = plans(project.extension("fast.c"), config, "optimized").first.toolchain
    kept = tmp_path / "cache" / "relib" / "compilers.json"
    assert stat.S_IMODE(kept.stat().st_mode) & 0o022 == 0

    def asked(*_: object) -> None:
        raise AssertionError("the compiler was asked again")

    monkeypatch.setattr(compilers, "_known", {})
    monkeypatch.setattr(compilers, "_ask", asked)
    assert plans(project.extension("fast.c"), config, "optimized").first.toolchain == first
    # not if others may have written to it
    kept.chmod(0o666)
    monkeypatch.setattr(compilers, "_known", {})
    with pytest.raises(AssertionError):
        _ = plans(project.extension("fast.c"), config, "optimized").first


QUIETLY_OTHER = [
    pytest.param(
        "#ifdef __GNUC__\n#define PACKED __attribute__((packed))\n#else\n#define PACKED\n#endif\n"
        "struct PACKED pair { char a; int b; };\n",
        "sizeof(struct pair)",
        id="attributes for GNU C",
    ),
    pytest.param(
        "enum __attribute__((packed)) kind { ONE };\n", "sizeof(enum kind)", id="packed enum"
    ),
    pytest.param(
        "enum kind { ONE } __attribute__((__packed__));\n", "sizeof(enum kind)", id="enum packed"
    ),
    pytest.param(
        "typedef int wide __attribute__((__mode__(__word__)));\n", "sizeof(wide)", id="word"
    ),
    pytest.param(
        "typedef int wide __attribute__((__mode__(__pointer__)));\n", "sizeof(wide)", id="pointer"
    ),
    pytest.param("#pragma weak nowhere\nextern int nowhere(void);\n", "nowhere ? 1 : 2", id="weak"),
]


@needs("tcc")
@pytest.mark.parametrize("in_header", [False, True])
@pytest.mark.parametrize(("text", "expression"), QUIETLY_OTHER)
def test_what_tcc_would_compile_to_something_else_is_built_by_another(
    project: Project, text: str, expression: str, in_header: bool
) -> None:
    if in_header:
        project.write("other.h", text)
        text = '#include "other.h"\n'
    module = text + MODULE.replace("ANSWER", f"(long)({expression})")
    project.write("fast.c", module)
    instant = answer(build(project, tier="instant"))
    assert instant == answer(build(project, tier="optimized"))


@needs("tcc")
@pytest.mark.parametrize(("header", "reason"), [("<sysexits.h>", True), ("vec.h", False)])
def test_a_header_beside_the_source_does_not_answer_for_the_system_s(
    project: Project, header: str, reason: bool
) -> None:
    project.write("sysexits.h", "#define EX_USAGE 77\n")
    project.write("vec.h", "#define EX_USAGE 77\n")
    project.write("fast.pyx", f'cdef extern from "{header}":\n    int EX_USAGE\nn = EX_USAGE\n')
    notes = [note.message for note in build(project, "fast.pyx", tier="instant").diagnostics]
    assert [
        note for note in notes if "a header of the project's called sysexits.h" in note
    ] == notes
    assert bool(notes) == reason


@needs("tcc")
def test_a_doubt_about_a_header_is_remembered(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = recording_tcc(tmp_path / "bin", monkeypatch)
    project.write("other.h", "enum __attribute__((packed)) kind { ONE };\n")
    write(project, '#include "other.h"\n')
    built = build(project, tier="instant")
    [note] = [d for d in built.diagnostics if d.severity == "note"]
    assert "a packed enum" in note.message
    tried = calls.read_text()
    write(project, '#include "other.h"\nstatic int more;\n')
    assert compiler(build(project, tier="instant")) != TCC
    assert calls.read_text() == tried


def test_compilers_are_looked_for_at_the_same_time(project: Project) -> None:
    """No lock is shared by the builds of one process: a forked child would find it locked."""
    extension, together = project.extension("fast.c"), threading.Barrier(2)

    def find() -> Toolchain:
        together.wait(60)
        return find_toolchain("c", project.config)

    found = [Plan(extension, project.config, "optimized", find) for _ in range(2)]
    with ThreadPoolExecutor(2) as executor:
        assert len(set(executor.map(lambda plan: plan.recipe, found))) == 1
