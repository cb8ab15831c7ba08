"""What is built: from a file alone, from an Extension, or from what a project declares."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from declared_project import config_of, root, write
from privileges import without_privileges

from relib.config import load_config
from relib.errors import (
    BadName,
    ConfigError,
    ProjectError,
    SourceMissing,
    SourceUnreadable,
    UnknownExtension,
)
from relib.extension import Extension
from relib.project import extension_from_file, find_extension, read_project

__all__ = ["root"]


def from_file(path: Path, **fields: Any) -> Extension:
    return extension_from_file(path, config=config_of(path.parent), **fields)


# --- a file alone --------------------------------------------------------------------------------


def test_a_file_alone_needs_nothing(root: Path) -> None:
    write(root, {"fast.pyx": "x = 1\n"})
    extension = from_file(root / "fast.pyx")
    assert extension == Extension("fast", (root / "fast.pyx",))
    assert find_extension("fast.pyx") == (extension, load_config(root))
    assert find_extension(Path("fast.pyx"))[0] == extension
    assert find_extension(str(root / "fast.pyx"))[0] == extension


@pytest.mark.parametrize(
    ("name", "kind", "language"),
    [
        ("a.pyx", "cython", "c"),
        ("a.py", "cython", "c"),
        ("a.c", "c", "c"),
        ("a.cpp", "c++", "c++"),
        ("a.cc", "c++", "c++"),
        ("a.cxx", "c++", "c++"),
        ("a.c++", "c++", "c++"),
        ("a.C", "c++", "c++"),
    ],
)
def test_the_language_comes_from_the_suffix(
    root: Path, name: str, kind: str, language: str
) -> None:
    write(root, {name: ""})
    extension = from_file(root / name)
    assert (extension.kind, extension.language) == (kind, language)


def test_the_whole_header_is_honoured(root: Path) -> None:
    write(
        root,
        {
            "fast.pyx": """# distutils: language = c++
# distutils: libraries = m z
# distutils: include_dirs = include
# distutils: library_dirs = lib
# distutils: runtime_library_dirs = $ORIGIN/lib /opt/lib
# distutils: define_macros = A B=1
# distutils: undef_macros = C
# distutils: extra_compile_args = -O0
# distutils: extra_link_args = -s
# distutils: extra_objects = lib/x.o
# distutils: sources = helper.c
# distutils: depends = helper.h
# cython: language_level = 3
""",
            "helper.c": "",
        },
    )
    assert from_file(root / "fast.pyx") == Extension(
        "fast",
        (root / "fast.pyx", root / "helper.c"),
        depends=(root / "helper.h",),
        define_macros=(("A", None), ("B", "1")),
        undef_macros=("C",),
        include_dirs=(str(root / "include"),),
        library_dirs=(str(root / "lib"),),
        libraries=("m", "z"),
        runtime_library_dirs=("$ORIGIN/lib", "/opt/lib"),
        extra_objects=(str(root / "lib" / "x.o"),),
        extra_compile_args=("-O0",),
        extra_link_args=("-s",),
        language="c++",
    )


def test_paths_in_a_header_start_at_the_file_and_else_at_the_root(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    write(
        root,
        {
            "pyproject.toml": "",
            "include/a.h": "",
            "src/own/a.h": "",
            "src/fast.pyx": "# distutils: include_dirs = include own gone ../include\n",
            "own/a.h": "",
        },
    )
    extension, config = find_extension(root / "src" / "fast.pyx")
    assert config.root == root
    assert extension.include_dirs == tuple(
        str(path)
        for path in (root / "include", root / "src/own", root / "src/gone", root / "include")
    )


def test_a_c_source_has_a_header_too(root: Path) -> None:
    write(
        root,
        {"fast.c": "// distutils: libraries = m\n", "fast2.cpp": "/* distutils: depends=a.h */"},
    )
    assert from_file(root / "fast.c").libraries == ("m",)
    assert from_file(root / "fast2.cpp").depends == (root / "a.h",)


def test_numpys_include_directory_is_added_where_numpy_is_used(root: Path) -> None:
    numpy = pytest.importorskip("numpy")
    write(
        root,
        {
            "a.pyx": "# distutils: include_dirs = /opt/include\ncimport numpy as np\n",
            "b.c": '#include "numpy/arrayobject.h"\n',
            "c.pyx": "import numpy\n",
            "d.pyx": "cimport numpy\n",
            "helper.c": "#include <numpy/arrayobject.h>\n",
            "e.pyx": "# distutils: sources = helper.c\n",
        },
    )
    include = numpy.get_include()
    assert from_file(root / "a.pyx").include_dirs == ("/opt/include", include)
    assert from_file(root / "b.c").include_dirs == (include,)
    assert from_file(root / "c.pyx").include_dirs == ()
    assert from_file(root / "d.pyx", include_dirs=["/x"]).include_dirs == ("/x", include)
    assert from_file(root / "d.pyx", include_dirs=[include]).include_dirs == (include,)
    assert from_file(root / "e.pyx").include_dirs == (include,)
    assert from_file(root / "c.pyx", sources=["helper.c"]).include_dirs == (include,)


def test_the_name_comes_from_the_packages_above(root: Path) -> None:
    write(
        root,
        {
            "not-a-package/__init__.py": "",
            "not-a-package/pkg/__init__.py": "",
            "not-a-package/pkg/sub/__init__.pyx": "",
            "not-a-package/pkg/sub/deep/__init__.pxd": "",
            "not-a-package/pkg/sub/deep/fast.pyx": "",
            "not-a-package/pkg/plain/fast.pyx": "",
        },
    )
    package = root / "not-a-package" / "pkg"
    assert from_file(package / "sub/deep/fast.pyx").name == "pkg.sub.deep.fast"
    assert from_file(package / "sub/__init__.pyx").name == "pkg.sub"
    assert from_file(package / "__init__.py").name == "pkg"
    assert from_file(package / "plain/fast.pyx").name == "fast"
    assert from_file(package / "plain/fast.pyx", name="other.name").name == "other.name"


def test_a_pyx_and_its_pure_python_twin_are_each_themselves(root: Path) -> None:
    write(root, {"pkg/__init__.py": "", "pkg/fast.pyx": "", "pkg/fast.py": "", "pkg/fast.pxd": ""})
    for suffix in (".pyx", ".py"):
        extension = from_file(root / "pkg" / f"fast{suffix}")
        assert extension == Extension("pkg.fast", (root / "pkg" / f"fast{suffix}",))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("my-file.pyx", "name='my_file'"),
        ("3d.pyx", "name='_3d'"),
        ("a.b.pyx", "name='a_b'"),
        ("class.pyx", "'class' is a Python keyword"),
        ("cython.pyx", "Cython's own module"),
        ("größe.pyx", "ASCII"),
        ("my-pkg/__init__.pyx", "'my-pkg' is no Python identifier"),
    ],
)
def test_a_file_that_no_import_can_name_is_refused(root: Path, name: str, says: str) -> None:
    write(root, {name: ""})
    with pytest.raises(BadName) as caught:
        find_extension(root / name)
    assert says in str(caught.value)
    assert str(root / name) in str(caught.value)
    assert find_extension(root / name, name="fine")[0].name == "fine"


@pytest.mark.parametrize("name", ["", "a-b", "a..b", ".a", "a.", "a.class", "None", "größe", "a b"])
def test_a_given_name_must_be_one_that_can_be_imported(root: Path, name: str) -> None:
    write(root, {"fast.pyx": ""})
    with pytest.raises(BadName) as caught:
        find_extension("fast.pyx", name=name)
    assert caught.value.name == name
    assert repr(name) in str(caught.value)


def test_a_missing_source_is_reported_with_the_one_that_was_meant(root: Path) -> None:
    write(root, {"fast.pyx": ""})
    with pytest.raises(SourceMissing) as caught:
        find_extension("fats.pyx")
    expected = f"{root / 'fats.pyx'}: there is no such file; did you mean 'fast.pyx'?"
    assert str(caught.value) == expected
    assert caught.value.path == str(root / "fats.pyx")
    with pytest.raises(SourceMissing):
        find_extension("fast.pyx/inner.pyx")
    with pytest.raises(SourceMissing):
        find_extension("nowhere/fast.pyx")


def test_a_missing_source_is_reported_even_if_setup_py_is_broken(root: Path) -> None:
    write(root, {"setup.py": "setup("})
    with pytest.raises(SourceMissing):
        find_extension("fats.pyx")


def test_a_dangling_link_is_reported_as_one(root: Path) -> None:
    (root / "fast.pyx").symlink_to("gone.pyx")
    with pytest.raises(SourceMissing, match=r"symbolic link to gone\.pyx"):
        find_extension("fast.pyx")


def test_links_stay_as_the_user_sees_them(root: Path) -> None:
    write(root, {"real/source.pyx": ""})
    (root / "fast.pyx").symlink_to("real/source.pyx")
    assert find_extension("fast.pyx")[0] == Extension("fast", (root / "fast.pyx",))


def test_what_is_no_readable_source_is_refused(root: Path) -> None:
    (root / "dir.pyx").mkdir()
    os.mkfifo(root / "fifo.pyx")
    (root / "loop.pyx").symlink_to("loop.pyx")
    write(root, {"notes.txt": "", "lib.so": "", "Makefile": "", "UPPER.PYX": ""})
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.pyx")
        for name, says in {
            "dir.pyx": "is a directory",
            "fifo.pyx": "is a FIFO",
            "socket.pyx": "is a socket",
            "loop.pyx": "cannot be read",
            "notes.txt": "no source that relib builds (.pyx, .py, .c, .cpp",
            "lib.so": "no source",
            "Makefile": "no source",
            "UPPER.PYX": "no source",
            "a\0b.pyx": "cannot be read",
            "x" * 300 + ".pyx": "cannot be read",
        }.items():
            with pytest.raises(SourceUnreadable) as caught:
                find_extension(root / name)
            assert says in str(caught.value)
            assert caught.value.path == str(root / name)
    assert isinstance(caught.value, ImportError)
    with pytest.raises(SourceUnreadable, match="is a directory"):
        find_extension(".")


@without_privileges
def test_a_source_that_may_not_be_read_is_refused(root: Path) -> None:
    write(root, {"fast.pyx": "", "dir/fast.pyx": ""})
    (root / "fast.pyx").chmod(0)
    with pytest.raises(SourceUnreadable, match="Permission denied"):
        find_extension("fast.pyx")
    (root / "dir").chmod(0)
    try:
        with pytest.raises(SourceUnreadable, match="Permission denied"):
            find_extension("dir/fast.pyx")
    finally:
        (root / "dir").chmod(0o700)


def test_a_source_of_the_header_that_is_missing_is_reported(root: Path) -> None:
    write(root, {"fast.pyx": "# distutils: sources = gone.c\n"})
    with pytest.raises(SourceMissing, match=r"gone\.c"):
        find_extension("fast.pyx")


def test_given_fields_override_the_header(root: Path) -> None:
    write(
        root,
        {
            "fast.pyx": "# distutils: libraries = m\n# distutils: sources = a.c\n"
            "# distutils: define_macros = A\n",
            "a.c": "",
            "b.c": "",
        },
    )
    extension, _ = find_extension(
        "fast.pyx",
        libraries=["z"],
        sources=["b.c"],
        include_dirs="inc",
        define_macros={"B": 1, "C": None},
        language="c++",
        directives={"boundscheck": False},
        depends=None,
    )
    assert extension == Extension(
        "fast",
        (root / "fast.pyx", root / "b.c"),
        libraries=("z",),
        include_dirs=(str(root / "inc"),),
        define_macros=(("B", "1"), ("C", None)),
        language="c++",
        directives=(("boundscheck", False),),
    )


def test_given_fields_are_checked(root: Path) -> None:
    write(root, {"fast.pyx": ""})
    for fields, says in (
        ({"libary_dirs": ["m"]}, "did you mean 'library_dirs'?"),
        ({"libraries": 3}, "libraries must be a list of texts, not 3"),
        ({"libraries": ["m", 3]}, "libraries must be"),
        ({"language": "rust"}, "language must be 'c' or 'c++', not 'rust'"),
        ({"define_macros": [("A",)]}, "define_macros must be macros"),
        ({"define_macros": 3}, "define_macros must be macros"),
        ({"directives": "x"}, "directives must be"),
    ):
        with pytest.raises(ConfigError) as caught:
            find_extension("fast.pyx", **fields)  # type: ignore[arg-type]
        assert says in str(caught.value)
        assert caught.value.key == next(iter(fields))


def test_directives_of_the_configuration_are_left_to_the_translation(root: Path) -> None:
    write(root, {"fast.pyx": "", "pyproject.toml": "[tool.relib]\ndirectives = {a = 1, b = 1}\n"})
    extension, config = find_extension("fast.pyx", directives={"b": 2})
    assert extension.directives == (("b", 2),)
    assert config.directives == (("a", 1), ("b", 1))


# --- an Extension --------------------------------------------------------------------------------


def test_an_extension_is_taken_as_it_is_with_absolute_paths(root: Path) -> None:
    write(root, {"fast.pyx": "# distutils: libraries = m\n", "pyproject.toml": ""})
    given = Extension(
        "pkg.fast", (Path("fast.pyx"),), depends=(Path("a.h"),), include_dirs=("inc", "/inc")
    )
    extension, config = find_extension(given)
    assert extension == Extension(
        "pkg.fast",
        (root / "fast.pyx",),
        depends=(root / "a.h",),
        include_dirs=(str(root / "inc"), "/inc"),
    )
    assert config.root == root
    assert find_extension(extension)[0] == extension
    changed, _ = find_extension(given, name="other", libraries=["z"], include_dirs=[])
    assert (changed.name, changed.libraries, changed.include_dirs) == ("other", ("z",), ())


def test_an_extension_is_checked(root: Path) -> None:
    with pytest.raises(SourceMissing):
        find_extension(Extension("fast", (root / "fast.pyx",)))
    with pytest.raises(SourceMissing):
        find_extension(Extension("fast", ()))
    write(root, {"fast.pyx": ""})
    with pytest.raises(BadName):
        find_extension(Extension("a-b", (root / "fast.pyx",)))


@pytest.mark.parametrize("source", [b"fast.pyx", 3, None, ""])
def test_anything_else_is_a_type_error(root: Path, source: Any) -> None:
    with pytest.raises(TypeError, match="a path, a public name or an Extension is expected"):
        find_extension(source)


# --- [tool.relib.extensions] ---------------------------------------------------------------------

DECLARED = """
[tool.relib.extensions]
one = "src/one.pyx"
"pkg.two" = ["src/two.pyx", "src/helper.c"]
pkg.three = "src/three.pyx"

[tool.relib.extensions."pkg.four"]
sources = ["src/four.cpp"]
libraries = ["m"]
include-dirs = ["include"]
define_macros = ["A", "B=1", ["C", "2"]]
language = "c++"

[tool.relib.extensions.pkg.sub.five]
sources = "src/five.pyx"
define-macros = {A = true, B = "x", C = 3}
directives = {boundscheck = false}
"""


def declare(root: Path) -> None:
    names = ("one.pyx", "two.pyx", "three.pyx", "four.cpp", "five.pyx", "helper.c")
    write(root, {"pyproject.toml": DECLARED, **{f"src/{name}": "" for name in names}})


def test_extensions_are_declared_for_relib(root: Path) -> None:
    declare(root)
    src = root / "src"
    assert read_project(config_of(root)) == {
        "one": Extension("one", (src / "one.pyx",)),
        "pkg.two": Extension("pkg.two", (src / "two.pyx", src / "helper.c")),
        "pkg.three": Extension("pkg.three", (src / "three.pyx",)),
        "pkg.four": Extension(
            "pkg.four",
            (src / "four.cpp",),
            libraries=("m",),
            include_dirs=(str(root / "include"),),
            define_macros=(("A", None), ("B", "1"), ("C", "2")),
            language="c++",
        ),
        "pkg.sub.five": Extension(
            "pkg.sub.five",
            (src / "five.pyx",),
            define_macros=(("A", None), ("B", "x"), ("C", "3")),
            directives=(("boundscheck", False),),
        ),
    }


def test_a_header_is_joined_with_what_is_declared(root: Path) -> None:
    write(
        root,
        {
            "pyproject.toml": "[tool.relib.extensions.fast]\nsources = 'src/fast.pyx'\n"
            "libraries = ['m']\ndefine_macros = ['A']\nextra_objects = ['x.o']\nlanguage = 'c'\n",
            "src/fast.pyx": "# distutils: libraries = z\n# distutils: define_macros = B\n"
            "# distutils: include_dirs = inc own\n# distutils: language = c++\n",
            "src/inc/a.h": "",
            "inc/a.h": "",
            "src/own/a.h": "",
        },
    )
    assert read_project(config_of(root))["fast"] == Extension(
        "fast",
        (root / "src/fast.pyx",),
        libraries=("z", "m"),
        define_macros=(("B", None),),
        # as for cythonize they start at the root
        include_dirs=(str(root / "inc"), str(root / "src/own")),
        extra_objects=(str(root / "x.o"),),
        language="c++",
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fast = 3", "sources must be a list of texts, not 3"),
        ("fast = []", "has no sources"),
        ("fast = {libraries = ['m']}", "has no sources"),
        ("fast = {sources = ['a.pyx'], libary_dirs = []}", "did you mean 'library_dirs'?"),
        ("fast = {sources = ['a.pyx'], libraries = 3}", "libraries must be a list of texts, not 3"),
        ("fast = {sources = ['a.pyx'], define-macros = [['A']]}", "define-macros must be macros"),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_file_and_name(
    root: Path, text: str, says: str
) -> None:
    write(root, {"pyproject.toml": f"[tool.relib.extensions]\n{text}\n", "a.pyx": ""})
    with pytest.raises(ConfigError) as caught:
        read_project(config_of(root))
    assert says in str(caught.value)
    place = f"{root / 'pyproject.toml'}: [tool.relib.extensions] 'fast'"
    assert str(caught.value).startswith(place)
    assert caught.value.origin == str(root / "pyproject.toml")


@pytest.mark.parametrize("name", ["my-ext", "a.class", "größe"])
def test_a_declared_name_must_be_one_that_can_be_imported(root: Path, name: str) -> None:
    write(root, {"pyproject.toml": f"[tool.relib.extensions]\n'{name}' = 'a.pyx'\n", "a.pyx": ""})
    with pytest.raises(BadName, match=r"pyproject\.toml"):
        read_project(config_of(root))


# --- finding what is declared --------------------------------------------------------------------


def test_a_declared_extension_is_found_by_name_and_by_source(root: Path) -> None:
    declare(root)
    declared = read_project(load_config(root))
    assert find_extension("pkg.four") == (declared["pkg.four"], load_config(root))
    assert find_extension("src/four.cpp")[0] == declared["pkg.four"]
    assert find_extension(Path("src") / "four.cpp")[0] == declared["pkg.four"]
    # another of its sources, too
    assert find_extension("src/helper.c")[0] == declared["pkg.two"]
    (root / "link.cpp").symlink_to("src/four.cpp")
    assert find_extension("link.cpp")[0] == declared["pkg.four"]


def test_a_file_that_is_not_declared_is_one_by_itself(root: Path) -> None:
    declare(root)
    write(root, {"src/other.pyx": ""})
    assert find_extension("src/other.pyx")[0] == Extension("other", (root / "src/other.pyx",))


def test_a_name_is_looked_up_in_the_project_of_the_current_directory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(root)
    monkeypatch.chdir(root / "src")
    assert find_extension("one")[1].root == root
    monkeypatch.chdir("/")
    with pytest.raises(UnknownExtension):
        find_extension("one")
    assert find_extension("one", config=config_of(root))[0].name == "one"


def test_given_fields_and_name_override_what_is_declared(root: Path) -> None:
    declare(root)
    extension, _ = find_extension(
        "pkg.four", name="other", libraries=[], sources=["src/helper.c"], directives={"x": 1}
    )
    assert extension == Extension(
        "other",
        (root / "src/four.cpp", root / "src/helper.c"),
        include_dirs=(str(root / "include"),),
        define_macros=(("A", None), ("B", "1"), ("C", "2")),
        language="c++",
        directives=(("x", 1),),
    )


def test_an_unknown_name_is_refused_with_those_that_are_known(root: Path) -> None:
    declare(root)
    with pytest.raises(UnknownExtension) as caught:
        find_extension("pkg.fuor")
    error = caught.value
    assert error.name == "pkg.fuor"
    assert error.known == ("one", "pkg.four", "pkg.sub.five", "pkg.three", "pkg.two")
    assert "did you mean 'pkg.four'?" in str(error)
    assert "Declared are one, pkg.four," in str(error)


def test_an_unknown_name_of_a_file_is_answered_with_the_file(root: Path) -> None:
    write(root, {"pkg/__init__.py": "", "pkg/fast.pyx": ""})
    with pytest.raises(UnknownExtension) as caught:
        find_extension("pkg.fast")
    assert "The project declares none." in str(caught.value)
    assert f"To load {root / 'pkg/fast.pyx'}, give its path." in str(caught.value)


def test_a_declared_name_may_end_like_a_file(root: Path) -> None:
    write(root, {"pyproject.toml": "[tool.relib.extensions]\npkg.c = 'a.pyx'\n", "a.pyx": ""})
    assert find_extension("pkg.c")[0].name == "pkg.c"
    write(root, {"pkg.c": ""})  # which then is the file
    assert find_extension("pkg.c")[0] == Extension("pkg", (root / "pkg.c",))


def test_a_declared_name_wins_over_a_directory(root: Path) -> None:
    declare(root)
    (root / "one").mkdir()
    (root / "other").mkdir()
    assert find_extension("one")[0].name == "one"
    with pytest.raises(SourceUnreadable, match="is a directory"):
        find_extension("other")


def test_a_declared_source_that_is_missing_is_reported_when_it_is_wanted(root: Path) -> None:
    declare(root)
    (root / "src/one.pyx").unlink()
    (root / "src/helper.c").unlink()
    assert set(read_project(config_of(root))) >= {"one", "pkg.two"}
    for name, missing in (("one", "one.pyx"), ("pkg.two", "helper.c")):
        with pytest.raises(SourceMissing, match=missing):
            find_extension(name)
    assert find_extension("pkg.four")[0].name == "pkg.four"


def test_one_source_of_two_extensions_must_be_named(root: Path) -> None:
    write(
        root, {"pyproject.toml": "[tool.relib.extensions]\na = 'f.pyx'\nb = 'f.pyx'\n", "f.pyx": ""}
    )
    with pytest.raises(ProjectError, match="is a source of 'a', 'b'"):
        find_extension("f.pyx")
    assert find_extension("f.pyx", name="b")[0].name == "b"
    assert find_extension("a")[0].name == "a"


# --- [tool.setuptools] ext-modules ---------------------------------------------------------------


def test_setuptools_ext_modules_are_read(root: Path) -> None:
    write(
        root,
        {
            "pyproject.toml": """
[[tool.setuptools.ext-modules]]
name = "pkg.fast"
sources = ["src/fast.pyx"]
include-dirs = ["include"]
define-macros = [["A", "1"], ["GONE"]]
undef-macros = ["B"]
libraries = ["m"]
library-dirs = ["lib"]
extra-compile-args = ["-O0"]
extra-link-args = ["-s"]
export-symbols = ["x"]
optional = true
py-limited-api = false
language = "c++"
depends = ["a.h"]
[[tool.setuptools.ext-modules]]
name = "plain"
sources = ["src/plain.c"]
""",
            "src/fast.pyx": "# distutils: libraries = z\n",
            "src/plain.c": "",
        },
    )
    assert read_project(config_of(root)) == {
        "pkg.fast": Extension(
            "pkg.fast",
            (root / "src/fast.pyx",),
            depends=(root / "a.h",),
            define_macros=(("A", "1"),),
            undef_macros=("B", "GONE"),
            include_dirs=(str(root / "include"),),
            library_dirs=(str(root / "lib"),),
            libraries=("z", "m"),
            extra_compile_args=("-O0",),
            extra_link_args=("-s",),
            language="c++",
        ),
        "plain": Extension("plain", (root / "src/plain.c",)),
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ext-modules = 3", "must be an array"),
        ("ext-modules = [3]", "number 1 must be a table with a name"),
        ("ext-modules = [{sources = ['a.c']}]", "number 1 must be a table with a name"),
        ("ext-modules = [{name = 'a', sources = 3}]", "'a': sources must be a list of texts"),
        ("ext-modules = [{name = 'a', sources = ['a.c'], include-dir = []}]", "'include_dirs'"),
    ],
)
def test_wrong_setuptools_ext_modules_are_refused(root: Path, text: str, says: str) -> None:
    write(root, {"pyproject.toml": f"[tool.setuptools]\n{text}\n", "a.c": ""})
    with pytest.raises(ConfigError) as caught:
        read_project(config_of(root))
    assert says in str(caught.value)
    assert str(root / "pyproject.toml") in str(caught.value)


def test_options_of_build_ext_hold_for_all_that_setuptools_builds(root: Path) -> None:
    write(
        root,
        {
            "setup.cfg": "[build_ext]\ninplace = 1\ninclude-dirs = include:/opt/include\n"
            "define = A,B=2\nlibraries = m z\nrpath = /opt/lib\n",
            "pyproject.toml": """
[tool.setuptools]
ext-modules = [{name = "a", sources = ["a.c"], libraries = ["x"]}]
[tool.distutils.build_ext]
library-dirs = ["lib"]
[tool.relib.extensions]
b = "b.c"
""",
            "a.c": "",
            "b.c": "",
        },
    )
    assert read_project(config_of(root)) == {
        "a": Extension(
            "a",
            (root / "a.c",),
            include_dirs=(str(root / "include"), "/opt/include"),
            define_macros=(("A", "1"), ("B", "2")),
            libraries=("x", "m", "z"),
            library_dirs=(str(root / "lib"),),
            runtime_library_dirs=("/opt/lib",),
        ),
        "b": Extension("b", (root / "b.c",)),
    }


def test_a_setup_cfg_that_cannot_be_read_is_reported(root: Path) -> None:
    write(
        root,
        {
            "setup.cfg": "[build_ext\n",
            "pyproject.toml": "[[tool.setuptools.ext-modules]]\nname = 'a'\nsources = ['a.c']\n",
        },
    )
    with pytest.raises(ProjectError, match=r"setup\.cfg") as caught:
        read_project(config_of(root))
    assert caught.value.line == 1


# --- one name, two declarations ------------------------------------------------------------------


def test_two_sources_with_one_name_are_refused(root: Path) -> None:
    write(
        root,
        {
            "pyproject.toml": "[tool.relib.extensions]\nfast = 'a.pyx'\n"
            "[tool.setuptools]\next-modules = [{name = 'fast', sources = ['b.pyx']}]\n",
            "a.pyx": "",
            "b.pyx": "",
        },
    )
    with pytest.raises(ProjectError) as caught:
        read_project(config_of(root))
    assert "two sources have the name 'fast'" in str(caught.value)
    assert str(root / "a.pyx") in str(caught.value)
    assert str(root / "b.pyx") in str(caught.value)
    assert caught.value.path == root / "pyproject.toml"


def test_one_source_declared_twice_is_one_extension_as_relib_is_told(root: Path) -> None:
    write(
        root,
        {
            "pyproject.toml": "[tool.relib.extensions.fast]\nsources = ['a.pyx']\n"
            "libraries = ['relib']\n[tool.setuptools]\n"
            "ext-modules = [{name = 'fast', sources = ['./a.pyx'], libraries = ['setuptools']}]\n",
            "a.pyx": "",
        },
    )
    assert read_project(config_of(root))["fast"].libraries == ("relib",)


def test_the_c_file_that_cython_made_stands_for_its_source(root: Path) -> None:
    write(
        root,
        {
            "pyproject.toml": "[tool.setuptools]\next-modules = ["
            "{name = 'made', sources = ['made.c']}, {name = 'not_yet', sources = ['not_yet.cpp']},"
            "{name = 'own', sources = ['own.c']}, {name = 'gone', sources = ['gone.c']}]\n",
            "made.c": "/* Generated by Cython 3.3.1 */\n",
            "made.pyx": "# distutils: libraries = m\n",
            "not_yet.py": "",
            "own.c": "int x;\n",
            "own.pyx": "",
        },
    )
    project = read_project(config_of(root))
    assert project["made"] == Extension("made", (root / "made.pyx",), libraries=("m",))
    assert project["not_yet"].sources == (root / "not_yet.py",)
    assert project["own"].sources == (root / "own.c",)
    assert project["gone"].sources == (root / "gone.c",)
    assert find_extension("made.pyx")[0].name == "made"


def test_an_extension_has_the_language_of_its_source_s_header(root: Path) -> None:
    source = root / "vec.pyx"
    write(root, {"vec.pyx": "# distutils: language = c++\n"})
    assert find_extension(Extension("vec", (source,)))[0].language == "c++"
    assert find_extension(Extension("vec", (source,)), language="c")[0].language == "c"
    assert find_extension(source)[0].language == "c++"
    assert find_extension(source, language="c")[0].language == "c"
