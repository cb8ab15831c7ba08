"""What is read from sources without Cython is what Cython reads."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from declared_project import write

from relib.declared.cimports import package_include_dirs, survey
from relib.declared.source_facts import read_facts
from relib.declared.source_header import Header, parse_c_header, parse_cython_header, parse_list
from relib.errors import ProjectError

# setuptools before Cython.Build: it puts its own distutils in the place of Python's, and some
# versions are told off for it.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import setuptools
    from Cython.Build import Dependencies

PATH = Path("fast.pyx")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a b  c",
        "[a, b, c]",
        "[]",
        "[ ]",
        "[a]",
        'a " " b',
        "'a b' c",
        '[a, ",a", "a,", ",", ]',
        '["a b", c d, e]',
        "a,b",
        '"a\\"b"',
        "-Wl,-rpath,/x -lm",
        "A B=2 C=",
    ],
)
def test_lists_are_read_as_cython_reads_them(text: str) -> None:
    assert parse_list(text) == Dependencies.parse_list(text)


@pytest.mark.parametrize(
    "text",
    [
        "# distutils: libraries = m\n",
        "\n\n   #distutils:language=c++\n#   cython: language = c\n\nx=1\n",
        "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n# distutils: include_dirs = a [b]\n",
        "# cython: boundscheck=False\n# cython: libraries = m\n",
        '"""doc"""\n# distutils: libraries = m\n',
        "x = 1\n# distutils: libraries = m\n",
        "# distutils : libraries = m\n",
        "# distutils: libraries\n",
        "# distutils: libraries = a\n# distutils: libraries = b\n",
        "# distutils: define_macros = A B=1 C= D=x=y\n# distutils: undef_macros = E\n",
        "# distutils: sources = [a.c, b.c]\n# distutils: depends = a.h\n",
        "# distutils: extra_compile_args = -O0 -g0\n# distutils: extra_link_args=-s\n",
        "# distutils: library_dirs=/a\n# distutils: runtime_library_dirs=/a\n"
        "# distutils: extra_objects=a.o\n",
    ],
)
def test_headers_are_read_as_cython_reads_them(text: str) -> None:
    expected = dict(Dependencies.DistutilsInfo(text).values)
    header = parse_cython_header(text, PATH)
    assert header.language == expected.pop("language", None)
    macros = expected.pop("define_macros", None)
    if macros is not None:
        expected["define_macros"] = [n if v is None else f"{n}={v}" for n, *v in macros for v in v]
    assert {key: list(items) for key, items in header.lists.items()} == expected


def test_quotes_in_an_item_and_comments_after_a_list_are_understood() -> None:
    assert parse_list("m  # the maths") == ["m"]
    assert parse_list('A="1 2" B') == ['A="1 2"', "B"]
    assert parse_list('"#" x # y') == ["#", "x"]
    assert parse_list('a "b c') == ["a", '"b', "c"]


def test_settings_without_meaning_are_left_out() -> None:
    text = "# distutils: name = x\n# distutils: np_pythran = True\n# distutils: export_symbols=x\n"
    assert parse_cython_header(text, PATH) == Header()


def test_an_unknown_setting_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="fast.pyx:2: unknown setting 'libary_dirs'; did you mean"):
        parse_cython_header("\n# distutils: libary_dirs = /a\n", PATH)


def test_a_language_that_cannot_be_built_is_refused_with_its_line() -> None:
    with pytest.raises(
        ProjectError, match=r"fast.pyx:2: the language must be c or c\+\+"
    ) as caught:
        parse_cython_header("#\n# distutils: language = rust\n", PATH)
    assert caught.value.line == 2


def test_c_sources_have_headers_in_their_comments() -> None:
    one = parse_c_header("// distutils: libraries = m\n// distutils: language = c++\nint x;", PATH)
    assert one == Header("c++", {"libraries": ("m",)})
    block = """
        /* fast.c
         * distutils: libraries = [m, z]
         *
         * distutils: define_macros = A=1 */
        /* distutils: depends = a.h */
        #include <math.h>
        // distutils: libraries = no
    """
    assert parse_c_header(block, PATH).lists == {
        "libraries": ("m", "z"),
        "define_macros": ("A=1",),
        "depends": ("a.h",),
    }
    assert parse_c_header("/* a */ int x;\n// distutils: libraries = no\n", PATH) == Header()


def test_a_header_wins_over_what_is_declared_as_in_cythonize() -> None:
    text = (
        "# distutils: libraries = a b\n# distutils: define_macros = A\n"
        "# distutils: language = c++\n# distutils: include_dirs = x\n"
    )
    declared = setuptools.Extension(
        "n",
        ["n.pyx"],
        libraries=["b", "c"],
        define_macros=[("B", "1")],
        undef_macros=["C"],
        language="c",
        extra_objects=["o.o"],
    )
    base = Dependencies.DistutilsInfo(exn=declared)
    expected = Dependencies.DistutilsInfo(text).merge(base).values
    for key, value in base.values.items():  # as create_extension_list() does
        expected.setdefault(key, value)
    joined = parse_cython_header(text, PATH).over(
        Header(
            "c",
            {
                "libraries": ("b", "c"),
                "define_macros": ("B=1",),
                "undef_macros": ("C",),
                "extra_objects": ("o.o",),
            },
        )
    )
    assert joined.language == expected["language"] == "c++"
    assert joined.lists["libraries"] == tuple(expected["libraries"]) == ("a", "b", "c")
    assert joined.lists["define_macros"] == ("A",)
    assert expected["define_macros"] == [("A", None)]
    for key in ("undef_macros", "extra_objects", "include_dirs"):
        assert joined.lists[key] == tuple(expected[key])


CIMPORTS = '''
# cimport comment
"""
cimport docstring
"""
cimport cython
cimport numpy as np, libc.math
from cpython.object cimport PyObject, Py_EQ as EQ
from . cimport sibling
from .. cimport (uncle,
                 aunt)
from ..cousin cimport thing
IF X:
    cimport conditional
cimport \\
    continued
text = "cimport text"
text2 = 'from x cimport y'
cdef extern from "own.h":
    pass
cdef extern from '<system.h>' nogil:
    pass
cdef extern from *:
    """
    cimport verbatim
    """
include "part.pxi"
def f(): return "not \\" cimport"
import cython.cimports.pure
from cython.cimports.libc import stdlib
from cython.cimports import numpy
import plain
from plain import cimported
'''


def test_cimports_are_found_where_cython_finds_them(tmp_path: Path) -> None:
    path = tmp_path / "fast.pyx"
    path.write_text(CIMPORTS)
    facts = read_facts(path)
    assert set(facts.cimports) >= {
        "numpy",
        "libc.math",
        "cpython.object",
        ".sibling",
        "..uncle",
        "..aunt",
        "..cousin",
        "..cousin.thing",
        "conditional",
        "continued",
        "pure",
        "libc",
        "libc.stdlib",
    }
    unwanted = {"comment", "docstring", "text", "x", "verbatim", "cython", "plain", "x.y", "EQ"}
    assert not set(facts.cimports) & unwanted
    assert facts.includes == ("part.pxi",)
    assert facts.externs == ("own.h", "<system.h>")


def test_cimports_agree_with_cython(tmp_path: Path) -> None:
    path = tmp_path / "fast.pyx"
    path.write_text(CIMPORTS)
    cimports, includes, externs, _ = Dependencies.parse_dependencies(str(path))
    facts = read_facts(path)
    # Cython leaves the " as EQ" in its name, and the dots of "from . cimport" one too many
    named = {name for name in cimports if " " not in name and not name.startswith(".")}
    named = {name for name in named if name.split(".")[0] != "cython" and name}
    assert named <= set(facts.cimports)
    assert tuple(includes) == facts.includes
    assert tuple(externs) == facts.externs


@pytest.mark.parametrize(
    ("contents", "cimports"),
    [
        (b"\xef\xbb\xbfcimport bom\n", ("bom",)),
        (b"# coding: latin-1\n# \xe9\ncimport latin\n", ("latin",)),
        (b"# coding: no-such\ncimport unknown\n", ("unknown",)),
        (b"cimport dos\r\ncimport dos2\r\n", ("dos", "dos2")),
        (b"\xff\xfe\x00 broken \n", ()),
        (b'cimport ok\n"""never closed', ("ok",)),
        (b"", ()),
    ],
)
def test_any_file_can_be_read(tmp_path: Path, contents: bytes, cimports: tuple[str, ...]) -> None:
    path = tmp_path / "fast.pyx"
    path.write_bytes(contents)
    assert read_facts(path).cimports == cimports


def look(source: Path, *include_path: str) -> tuple[Header, set[str], tuple[str, ...]]:
    found = survey(source, include_path, lambda file, key, item: f"{file.name}:{item}")
    return found.header, set(found.extern_dirs), found.packages


def test_settings_are_taken_over_from_cimported_pxd_files(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "main.pyx": "# distutils: libraries = a\n# distutils: define_macros = M\ncimport one\n",
            "main.pxd": "# distutils: libraries = b\n# distutils: define_macros = P\n",
            "one.pxd": "# distutils: language = c++\n# distutils: libraries = c\ncimport two\n",
            "two.pxd": "# distutils: language = c\n# distutils: include_dirs = d\ncimport one\n",
        },
    )
    header, _, _ = look(tmp_path / "main.pyx")
    assert header.language == "c++"
    assert header.lists == {
        "libraries": ("main.pyx:a", "main.pxd:b", "one.pxd:c"),
        "define_macros": ("main.pyx:M",),
        "include_dirs": ("two.pxd:d",),
    }


def test_pxd_files_are_found_in_packages_include_paths_and_sys_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "pkg" / "sub"
    package.mkdir(parents=True)
    for directory in (package, package.parent):
        (directory / "__init__.py").touch()
    setting = "# distutils: libraries = {}\n"
    (package / "near.pxd").write_text(setting.format("near"))
    (package.parent / "up.pxd").write_text(setting.format("up"))
    (tmp_path / "rooted.pxd").write_text(setting.format("rooted"))
    for place in ("included", "on_path"):
        (tmp_path / place / "x" / place).mkdir(parents=True)
        (tmp_path / place / "x" / place / "__init__.pxd").write_text(setting.format(place))
    (tmp_path / "included" / "dotted.name.pxd").write_text(setting.format("dotted"))
    monkeypatch.syspath_prepend(tmp_path / "on_path")
    source = package / "fast.pyx"
    source.write_text(
        "from . cimport near\nfrom .. cimport up\nfrom ....too cimport far\ncimport rooted\n"
        "from x cimport included\ncimport x.on_path, dotted.name, nowhere\n"
    )
    header, _, _ = look(source, str(tmp_path / "included"))
    names = {item.partition(":")[2] for item in header.lists["libraries"]}
    assert names == {"near", "up", "rooted", "included", "on_path", "dotted"}


def test_directories_of_declared_c_headers_are_found(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "main.pyx": 'cimport lib.api\ninclude "parts/p.pxi"\ncdef extern from "gone.h": pass\n',
            "lib/api.pxd": 'cdef extern from "api.h": pass\ncdef extern from "<stdio.h>": pass\n',
            "lib/api.h": "",
            "parts/p.pxi": 'cdef extern from "part.h": pass\ncimport numpy\ninclude "p.pxi"\n',
            "parts/part.h": "",
        },
    )
    _, extern_dirs, packages = look(tmp_path / "main.pyx")
    assert extern_dirs == {str(tmp_path / "lib"), str(tmp_path / "parts")}
    assert packages == ("numpy",)


@pytest.mark.parametrize(
    ("name", "text", "packages"),
    [
        ("a.pyx", "cimport numpy as np\n", ("numpy",)),
        ("a.pyx", "from numpy cimport ndarray\n", ("numpy",)),
        ("a.pyx", "from numpy.random cimport bitgen_t\n", ("numpy",)),
        ("a.py", "from cython.cimports import numpy\n", ("numpy",)),
        ("a.pyx", 'cdef extern from "numpy/arrayobject.h": pass\n', ("numpy",)),
        ("a.pyx", "import numpy\n", ()),
        ("a.c", '#include "numpy/arrayobject.h"\n', ("numpy",)),
        ("a.c", "#  include <numpy/arrayobject.h>\n", ("numpy",)),
        ("a.cpp", "#include <pybind11/pybind11.h>\n", ("pybind11",)),
        ("a.c", '#include "own.h"\n', ("numpy",)),
        ("a.c", '#include "numpylike.h"\n', ()),
    ],
)
def test_packages_with_c_headers_are_noticed(
    tmp_path: Path, name: str, text: str, packages: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "own.h").write_text('#include "own.h"\n#include "numpy/arrayobject.h"\n')
    assert look(tmp_path / name)[2] == packages


def test_a_numpy_in_the_pxd_of_the_same_name_is_noticed(tmp_path: Path) -> None:
    write(tmp_path, {"a.pyx": "x = 1\n", "a.pxd": "cimport numpy\n"})
    assert look(tmp_path / "a.pyx")[2] == ("numpy",)


def test_the_include_directory_of_numpy_is_its_own() -> None:
    numpy = pytest.importorskip("numpy")
    assert package_include_dirs("numpy") == (numpy.get_include(),)


def test_a_package_that_is_not_installed_has_no_include_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    import types

    stand_in = types.ModuleType("pybind11")
    stand_in.__spec__ = None
    monkeypatch.setitem(sys.modules, "pybind11", stand_in)
    assert package_include_dirs("pybind11") == ()
    monkeypatch.delitem(sys.modules, "pybind11")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert package_include_dirs("pybind11") == ()
