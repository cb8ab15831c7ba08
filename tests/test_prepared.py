"""Python.h in the form that tcc reads faster says what the real one says."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from compilations import MODULE_C, Workplace, evaluate, forget_environment

from relib.building import prepared
from relib.building.prepared import Prepared, prepare
from relib.config import cache_directory

pytestmark = pytest.mark.skipif(shutil.which("tcc") is None, reason="tcc is not there")

PYTHON = Path(sysconfig.get_path("include"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    forget_environment(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "project").mkdir()
    return Workplace(tmp_path / "project", {"cc": "tcc", "cflags": ""})


def flags_of(place: Workplace) -> list[str]:
    from relib.extension import Extension

    extension = Extension("fast", (place.root / "fast.c",))
    return place.toolchain().compile_flags(extension, ())


def prepared_for(place: Workplace, source: Path) -> Prepared | None:
    return prepare(source, ["tcc"], flags_of(place), place.root, place.workdir)


def kept() -> list[Path]:
    headers = cache_directory() / "headers"
    return list(headers.iterdir()) if headers.exists() else []


def preprocessed(place: Workplace, source: Path, *first: str) -> list[str]:
    done = subprocess.run(
        ["tcc", *first, *flags_of(place), "-E", "-P", str(source)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


USES_MACROS = """
Py_ssize_t sizes[] = {PY_VERSION_HEX, sizeof(Py_buffer), PYTHON_API_VERSION};
static void use(PyObject *o) {
    Py_INCREF(o); Py_DECREF(o); Py_CLEAR(o); assert(o != NULL); errno = EINTR;
    PyList_SET_ITEM(o, 0, Py_NewRef(Py_None)); (void)Py_IS_TYPE(o, &PyList_Type);
    printf("%zd", (Py_ssize_t)PyTuple_GET_SIZE(o)); isfinite(INT64_C(7) + UINT32_C(8));
}
"""


@pytest.mark.parametrize(
    "lead",
    [
        "#include <Python.h>",
        '#define PY_SSIZE_T_CLEAN /* a comment */\n#include "Python.h"',
        "// first\n#ifndef N\n#define N 1\n#endif\n#include <math.h>\n#include <Python.h>",
        "#define Py_LIMITED_API 0x030B0000\n#include <Python.h>",
        "#undef NDEBUG\n#include <stdio.h>\n\n#  include <Python.h>  /* all */",
    ],
)
def test_a_source_is_the_same_to_the_compiler(place: Workplace, lead: str) -> None:
    body = "" if "LIMITED" in lead else USES_MACROS
    source = place.write("fast.c", f"{lead}\n#include <Python.h>\n#include <errno.h>\n{body}")
    made = prepared_for(place, source)
    assert made is not None
    assert preprocessed(place, source, f"-I{made.directory}") == preprocessed(place, source)


def test_a_cython_module_is_the_same_to_the_compiler(place: Workplace) -> None:
    _, source = place.cython("fast.pyx", "from libc.math cimport sin\ndef f(x): return sin(x)\n")
    made = prepared_for(place, source)
    assert made is not None
    assert preprocessed(place, source, f"-I{made.directory}") == preprocessed(place, source)


@pytest.mark.parametrize(
    "lead",
    [
        "int before;\n#include <Python.h>",
        '#include "own.h"\n#include <Python.h>',
        "#if 1\n#include <Python.h>\n#endif",
        "#include <stdio.h>",
    ],
)
def test_what_does_not_begin_as_most_sources_do_is_compiled_as_it_is(
    place: Workplace, lead: str
) -> None:
    place.write("own.h", "\n")
    assert prepared_for(place, place.write("fast.c", lead + "\n")) is None


def test_it_is_made_once_for_all_sources_and_projects(place: Workplace, tmp_path: Path) -> None:
    other = Workplace(tmp_path / "other", place.options)
    other.root.mkdir()
    made = [
        prepared_for(where, where.write(name, f"#include <Python.h>\nint n = {len(name)};\n"))
        for where in (place, other)
        for name in ("a.c", "fast.c")
    ]
    assert made[0] is not None
    assert made == made[:1] * 4
    assert len(kept()) == 1


def test_the_files_that_it_stands_for_are_the_dependencies(place: Workplace) -> None:
    source = place.write("fast.c", MODULE_C.replace("ANSWER", "42"))
    compiled = place.compile(source)
    assert evaluate(compiled.library, "fast.answer()") == "42"
    assert kept()
    assert PYTHON / "Python.h" in compiled.dependencies
    assert PYTHON / "object.h" in compiled.dependencies
    assert not [path for path in compiled.dependencies if cache_directory() in path.parents]


def test_another_header_makes_another_one(place: Workplace, tmp_path: Path) -> None:
    copy = tmp_path / "include"
    shutil.copytree(PYTHON, copy)
    place.options["cflags"] = f"-I{copy}"
    source = place.write("fast.c", MODULE_C)
    for answer in ("1", "22"):
        (copy / "patchlevel.h").write_text(
            (PYTHON / "patchlevel.h").read_text() + f"\n#define ANSWER {answer}\n"
        )
        compiled = place.compile(source)
        assert evaluate(compiled.library, "fast.answer()") == answer
        assert copy / "patchlevel.h" in compiled.dependencies


def test_macros_of_every_kind_mean_the_same(place: Workplace, tmp_path: Path) -> None:
    copy = tmp_path / "include"
    shutil.copytree(PYTHON, copy)
    (copy / "patchlevel.h").write_text(
        (PYTHON / "patchlevel.h").read_text()
        + """
#define JOIN(a, b) a ## b
#define VARIADIC(a, ...) {a, __VA_ARGS__}
#define ANY(...) {__VA_ARGS__}
#define NAMED(a, b...) {a, b}
#define STRING(a) #a
#define EMPTY()
#define SELF(a) SELF(JOIN(a, a))
"""
    )
    place.options["cflags"] = f"-I{copy}"
    use = (
        "int JOIN(x, y)[] = VARIADIC(40, 41, 42), z[] = ANY(0, 1) EMPTY(); char s[] = STRING(a b);"
    )
    source = place.write("fast.c", f"#include <Python.h>\n{use}\nSELF(a)")
    made = prepared_for(place, source)
    assert made is not None
    assert preprocessed(place, source, f"-I{made.directory}") == preprocessed(place, source)
    # What cannot be kept as it is, is no error: the source is then compiled with the real header.
    text = MODULE_C.replace("ANSWER", "n[2]").replace(
        "static", "int n[] = NAMED(1, 2, 42);\nstatic", 1
    )
    assert evaluate(place.compile(place.write("fast.c", text)).library, "fast.answer()") == "42"


def test_a_header_of_the_project_s_comes_before_the_system_s(place: Workplace) -> None:
    source = place.write("fast.c", MODULE_C.replace("ANSWER", "PATH_MAX"))
    include_dirs = (str(place.root / "own"),)
    before = place.compile(source, include_dirs=include_dirs)
    assert evaluate(before.library, "fast.answer()") == "4096"
    real = next(path for path in map(Path, ("/usr/include/limits.h",)) if path.exists())
    place.write("own/limits.h", f'#include "{real}"\n#undef PATH_MAX\n#define PATH_MAX 7\n')
    after = place.compile(source, include_dirs=include_dirs)
    assert evaluate(after.library, "fast.answer()") == "7"


def test_a_record_of_another_user_is_not_believed(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = place.write("fast.c", "#include <Python.h>\n")
    assert prepared_for(place, source) is not None
    prepared._records.clear()
    monkeypatch.setattr(prepared.os, "geteuid", lambda: 12345)
    assert prepared._record(kept()[0]) is None


def test_only_so_many_are_kept(place: Workplace) -> None:
    headers = cache_directory() / "headers"
    for number in range(40):
        (headers / f"old{number}").mkdir(parents=True)
    assert prepared_for(place, place.write("fast.c", "#include <Python.h>\n")) is not None
    assert len(kept()) == 24
