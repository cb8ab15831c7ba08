"""Extensions that a setup.py declares are found without building any."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from declared_project import config_of, root, write

from relib.errors import BadName, ProjectError
from relib.extension import Extension
from relib.project import find_extension, read_project

__all__ = ["root"]


def declared(root: Path) -> dict[str, Extension]:
    return read_project(config_of(root))


COUNTED = "open('runs', 'a').write('x')\n"


def runs(root: Path) -> int:
    path = root / "runs"
    return len(path.read_text()) if path.exists() else 0


CYTHONIZE = """
from setuptools import setup
from Cython.Build import cythonize
setup(name="x", ext_modules=cythonize("pkg/*.pyx"))
"""


def test_cythonize_with_a_pattern(root: Path) -> None:
    write(
        root,
        {
            "setup.py": CYTHONIZE,
            "pkg/__init__.py": "",
            "pkg/a.pyx": "# distutils: libraries = m\n# distutils: include_dirs = inc own\n"
            "# distutils: define_macros = A=1 B\n",
            "pkg/b.pyx": 'cimport pkg.b\ncdef extern from "b.h": pass\n',
            "pkg/b.pxd": "# distutils: language = c++\n",
            "pkg/b.h": "",
            "pkg/own/x.h": "",
        },
    )
    assert declared(root) == {
        "pkg.a": Extension(
            "pkg.a",
            (root / "pkg/a.pyx",),
            libraries=("m",),
            define_macros=(("A", "1"), ("B", None)),
            include_dirs=(str(root / "inc"), str(root / "pkg/own")),
            cython_include_path=(str(root),),
        ),
        "pkg.b": Extension(
            "pkg.b",
            (root / "pkg/b.pyx",),
            depends=(root / "pkg/b.h",),
            include_dirs=(str(root / "pkg"),),
            language="c++",
            cython_include_path=(str(root),),
        ),
    }
    assert find_extension("pkg.a")[0] == find_extension("pkg/a.pyx")[0] == declared(root)["pkg.a"]
    # nothing was translated, compiled or left behind
    assert sorted(p.name for p in root.rglob("*")) == sorted(
        ["setup.py", "pkg", "__init__.py", "a.pyx", "b.pyx", "b.pxd", "b.h", "own", "x.h"]
    )


def test_a_src_layout_with_options_of_cythonize(root: Path) -> None:
    write(
        root,
        {
            "setup.py": """
from setuptools import Extension, find_packages, setup
import Cython.Build
setup(
    name="x",
    package_dir={"": "src"},
    packages=find_packages("src"),
    ext_modules=Cython.Build.cythonize(
        [
            Extension("pkg.*", ["src/pkg/*.pyx"], libraries=["m"], extra_compile_args=["-O0"]),
            Extension("pkg.sub.named", ["src/pkg/sub/other.pyx", "src/c/help.c"]),
        ],
        exclude=["src/pkg/no.pyx"],
        include_path=["src/include"],
        compiler_directives={"boundscheck": False, "cdivision": True},
        language_level="3",
        aliases={"HERE": ["z"]},
        annotate=True,
        build_dir="build",
        nthreads=4,
    ),
)
""",
            "src/pkg/__init__.py": "",
            "src/pkg/a.pyx": "# distutils: libraries = HERE\n",
            "src/pkg/no.pyx": "",
            "src/pkg/sub/__init__.py": "",
            "src/pkg/sub/other.pyx": "",
            "src/c/help.c": "",
        },
    )
    found = declared(root)
    directives = (("boundscheck", False), ("cdivision", True), ("language_level", "3"))
    assert found == {
        "pkg.a": Extension(
            "pkg.a",
            (root / "src/pkg/a.pyx",),
            libraries=("z", "m"),
            extra_compile_args=("-O0",),
            directives=directives,
            cython_include_path=(str(root / "src/include"),),
        ),
        "pkg.sub.named": Extension(
            "pkg.sub.named",
            (root / "src/pkg/sub/other.pyx", root / "src/c/help.c"),
            directives=directives,
            cython_include_path=(str(root / "src/include"),),
        ),
    }
    assert not (root / "build").exists()


def test_plain_extensions_with_pyx_and_c_sources(root: Path) -> None:
    write(
        root,
        {
            "setup.py": """
from distutils.core import setup
from setuptools import Extension
setup(
    name="x",
    ext_package="top",
    include_dirs=["everywhere"],
    ext_modules=[
        Extension("a", ["a.pyx"], libraries=(name for name in ["m"]), include_dirs=["inc"],
                  define_macros=[("A", None), ("B", "2"), ("GONE",)]),
        Extension("b", ["b.c"], depends=["b.h"], language="c"),
        Extension("c", ["c.cpp"]),
        ("d", {"sources": ["d.pyx", "help.c"]}),
        Extension("lost", ["lost.pyx"]),
    ],
)
""",
            "a.pyx": "# distutils: libraries = z\n",
            "b.c": "",
            "c.cpp": "",
            "d.pyx": "",
            "help.c": "",
        },
    )
    everywhere = str(root / "everywhere")
    assert declared(root) == {
        "top.a": Extension(
            "top.a",
            (root / "a.pyx",),
            libraries=("z", "m"),
            include_dirs=(str(root / "inc"), everywhere),
            define_macros=(("A", None), ("B", "2")),
            undef_macros=("GONE",),
            # as setuptools' build_ext tells Cython
            cython_include_path=(str(root / "inc"),),
        ),
        "top.b": Extension(
            "top.b", (root / "b.c",), depends=(root / "b.h",), include_dirs=(everywhere,)
        ),
        "top.c": Extension("top.c", (root / "c.cpp",), language="c++", include_dirs=(everywhere,)),
        "top.d": Extension("top.d", (root / "d.pyx", root / "help.c"), include_dirs=(everywhere,)),
        "top.lost": Extension("top.lost", (root / "lost.pyx",), include_dirs=(everywhere,)),
    }


def test_numpy_is_found_whether_or_not_setup_py_says_where(root: Path) -> None:
    numpy = pytest.importorskip("numpy")
    write(
        root,
        {
            "setup.py": """
import numpy
from setuptools import Extension, setup
from Cython.Build import cythonize
extensions = cythonize([Extension("told", ["told.pyx"]), Extension("untold", ["untold.pyx"])])
extensions[0].include_dirs.append(numpy.get_include())
setup(ext_modules=extensions)
""",
            "told.pyx": "cimport numpy\n",
            "untold.pyx": "cimport numpy\n",
        },
    )
    for extension in declared(root).values():
        assert extension.include_dirs == (numpy.get_include(),)


def test_the_script_runs_as_the_main_program_of_its_directory(root: Path) -> None:
    write(
        root,
        {
            "setup.py": """
import os, sys
from setuptools import Extension, setup
from build_support import LIBRARIES
assert os.path.samefile(__file__, "setup.py")
assert "build_ext" in sys.argv and sys.stdin.read() == ""
assert "config" not in sys.modules
print("noise"); print("noise", file=sys.stderr); os.system("echo noise")
def main():
    setup(ext_modules=[Extension("a", ["a.c"], libraries=LIBRARIES)])
    raise AssertionError("nothing after setup() is run")
if __name__ == "__main__":
    main()
""",
            "build_support.py": "LIBRARIES = ['m']\n",
            "a.c": "",
        },
    )
    assert declared(root)["a"].libraries == ("m",)


def test_extensions_that_are_built_by_other_means_are_left_out(root: Path) -> None:
    write(
        root,
        {
            "setup.py": """
from setuptools import Extension, setup
class CMakeExtension(Extension):
    def __init__(self, name):
        super().__init__(name, sources=[])
setup(ext_modules=[CMakeExtension("a"), Extension("b", ["b.m"], language="objc"),
                   Extension("c", ["c.c"])])
""",
            "c.c": "",
        },
    )
    assert set(declared(root)) == {"c"}


def test_nothing_that_the_script_prints_is_seen(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(root, {"setup.py": "import os\nprint('noise')\nos.system('echo noise')\n" + CYTHONIZE})
    write(root, {"pkg/a.pyx": ""})
    assert set(declared(root)) == {"a"}
    assert capfd.readouterr() == ("", "")


def test_paths_start_where_the_script_went(root: Path) -> None:
    write(
        root,
        {
            "setup.py": "import os; os.chdir('python')\n" + CYTHONIZE,
            "python/pkg/__init__.py": "",
            "python/pkg/a.pyx": "# distutils: include_dirs = inc\n",
        },
    )
    extension = declared(root)["pkg.a"]
    assert extension.sources == (root / "python/pkg/a.pyx",)
    assert extension.include_dirs == (str(root / "python/inc"),)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("x = 1\nraise ValueError('no luck')\n", None, ()),  # no setup script at all
        ("import setuptools\nraise ValueError('no luck')\n", 2, ("ValueError: no luck",)),
        ("import setuptools\n\nimport no_such_thing\n", 3, ("No module named 'no_such_thing'",)),
        ("import setuptools\nsetup(\n", 2, ("SyntaxError",)),
        ("from setuptools import setup\nprint('hint')\nexit('sorry')\n", 3, ("sorry", "hint")),
        (
            "from setuptools import setup\ndef f():\n    setup(ext_modules=[3])\n\nf()\n",
            3,
            ("AttributeError", 'setup.py", line 5'),
        ),
        (CYTHONIZE, 4, ("'pkg/*.pyx' doesn't match any files",)),
        (
            CYTHONIZE.replace('yx")', 'yx", compiler_directives={"nope": 1})'),
            4,
            ("unknown compiler directive",),
        ),
    ],
)
def test_a_script_that_fails_is_reported_with_its_line_and_output(
    root: Path, text: str, line: int | None, says: tuple[str, ...]
) -> None:
    write(root, {"setup.py": text})
    if not says:
        assert declared(root) == {}
        return
    with pytest.raises(ProjectError) as caught:
        declared(root)
    error = caught.value
    assert error.path == root / "setup.py"
    assert error.line == line
    assert str(error).startswith(f"{root / 'setup.py'}:{line}: ")
    for words in says:
        assert words in str(error)
    # and the file alone does not hide it: it may be declared there
    write(root, {"alone.pyx": ""})
    with pytest.raises(ProjectError):
        find_extension("alone.pyx")


def test_a_script_that_dies_is_reported_with_its_output(root: Path) -> None:
    text = "import os, setuptools\nprint('last words', flush=True)\nos.abort()\n"
    write(root, {"setup.py": text})
    with pytest.raises(ProjectError, match="last words") as caught:
        declared(root)
    assert "ended with status -6" in str(caught.value)


def test_a_script_that_takes_too_long_is_ended_with_what_it_started(root: Path) -> None:
    write(
        root,
        {
            "setup.py": "import os, subprocess, setuptools, time\n"
            "child = subprocess.Popen(['sleep', '1000'])\n"
            "open('pids.new', 'w').write(f'{os.getpid()} {child.pid}')\n"
            "os.rename('pids.new', 'pids')\n"
            "time.sleep(1000)\n"
        },
    )
    for timeout in (2, 10, 50, 150):  # so long that the script gets to its last line
        with pytest.raises(ProjectError, match=rf"took longer than {timeout} s .* compile-timeout"):
            read_project(config_of(root, compile_timeout=timeout))
        if (root / "pids").exists():
            break
    for pid in (root / "pids").read_text().split():
        status = Path("/proc", pid, "stat")
        deadline = time.monotonic() + 60
        # an orphan is a zombie until init takes it away
        while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline, f"{pid} lives on"
            time.sleep(0.01)


def test_a_process_that_the_script_leaves_behind_is_not_waited_for(root: Path) -> None:
    leave = "import subprocess\nleft = subprocess.Popen(['sleep', '1000'])\n"
    write(root, {"setup.py": f"{leave}open('pid', 'w').write(str(left.pid))\n{CYTHONIZE}"})
    write(root, {"pkg/a.pyx": ""})
    assert set(declared(root)) == {"a"}
    os.kill(int((root / "pid").read_text()), signal.SIGKILL)  # it is there still


def test_a_bare_setup_is_not_run(root: Path) -> None:
    for text in (
        "from setuptools import setup\nsetup()\n",
        '"""Shim."""\nimport setuptools\n\nsetuptools.setup()\n',
    ):
        write(root, {"setup.py": text})
        assert declared(root) == {}


def test_a_declared_name_must_be_one_that_can_be_imported(root: Path) -> None:
    write(
        root,
        {
            "setup.py": "from setuptools import Extension, setup\n"
            "setup(ext_modules=[Extension('a-b', ['a.c'])])\n",
            "a.c": "",
        },
    )
    with pytest.raises(BadName, match=r"setup\.py: 'a-b' is no dotted Python identifier"):
        declared(root)


def test_two_sources_with_one_name_are_refused(root: Path) -> None:
    write(
        root,
        {
            "setup.py": CYTHONIZE,
            "pkg/__init__.py": "",
            "pkg/a.pyx": "",
            "b.pyx": "",
            "pyproject.toml": "[tool.relib.extensions]\n'pkg.a' = 'b.pyx'\n",
        },
    )
    with pytest.raises(ProjectError, match=r"two sources have the name 'pkg\.a'") as caught:
        declared(root)
    assert "setup.py" in str(caught.value)
    assert "[tool.relib.extensions]" in str(caught.value)
    write(root, {"pyproject.toml": "[tool.relib.extensions]\n'pkg.a' = 'pkg/a.pyx'\n"})
    assert set(declared(root)) == {"pkg.a"}


# --- run again only when needed ------------------------------------------------------------------


def test_the_script_is_run_again_when_what_it_read_has_changed(root: Path) -> None:
    write(
        root,
        {
            "setup.py": COUNTED + "import support\n" + CYTHONIZE,
            "support.py": "X = 1\n",
            "pkg/__init__.py": "",
            "pkg/a.pyx": "def f(): return 1\n",
            "pkg/a.pxd": "",
        },
    )
    assert set(declared(root)) == {"pkg.a"}
    assert runs(root) == 1
    changes: list[tuple[str, dict[str, str]]] = [
        ("header", {"pkg/a.pyx": "# distutils: libraries = m\n"}),
        ("header of a pxd", {"pkg/a.pxd": "# distutils: libraries = z\n"}),
        ("new source", {"pkg/b.pyx": ""}),
        ("helper", {"support.py": "X = 2\n"}),
        ("script", {"setup.py": COUNTED + CYTHONIZE}),
        ("setup.cfg", {"setup.cfg": "[build_ext]\nlibraries = x\n"}),
        ("pyproject.toml", {"pyproject.toml": "[tool.relib]\n"}),
        ("package", {"pkg/sub/__init__.py": ""}),
    ]
    for number, (what, files) in enumerate(changes, 2):
        write(root, files)
        found = declared(root)
        assert runs(root) == number, what
        assert declared(root) == found
        assert runs(root) == number, what
    assert found["pkg.a"].libraries == ("m", "z", "x")
    assert set(found) == {"pkg.a", "pkg.b"}
    (root / "pkg/b.pyx").unlink()
    assert set(declared(root)) == {"pkg.a"}


def test_the_script_is_not_run_again_for_an_edit_below_the_header(root: Path) -> None:
    write(root, {"setup.py": COUNTED + CYTHONIZE, "pkg/a.pyx": "def f(): return 1\n"})
    before = declared(root)
    write(
        root,
        {
            "pkg/a.pyx": "def f(): return 2\n",
            "setup.py": COUNTED + CYTHONIZE,  # the same, only touched
            "notes.txt": "",
            "pkg/a.cpython-311-x86_64-linux-gnu.so": "",
            ".relib/x.c": "",
            "pkg/__pycache__/x.py": "",
        },
    )
    assert declared(root) == before
    assert runs(root) == 1


def test_a_script_that_is_mended_is_read(root: Path) -> None:
    write(root, {"setup.py": "import setuptools\n1/0\n"})
    for _ in range(2):
        with pytest.raises(ProjectError, match="ZeroDivisionError"):
            declared(root)
    write(root, {"setup.py": CYTHONIZE, "pkg/a.pyx": ""})
    assert set(declared(root)) == {"a"}


def test_a_script_that_is_removed_declares_nothing(root: Path) -> None:
    write(root, {"setup.py": CYTHONIZE, "pkg/a.pyx": ""})
    assert set(declared(root)) == {"a"}
    (root / "setup.py").unlink()
    assert declared(root) == {}


def test_threads_that_want_it_at_once_run_the_script_once(root: Path) -> None:
    write(root, {"setup.py": COUNTED + CYTHONIZE, "pkg/a.pyx": ""})
    found: list[dict[str, Extension]] = []
    threads = [threading.Thread(target=lambda: found.append(declared(root))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [set(one) for one in found] == [{"a"}] * 4
    assert runs(root) == 1


def test_bytecode_may_be_kept_in_the_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(root / "bytecode"))
    monkeypatch.setattr(sys, "pycache_prefix", str(root / "bytecode"))  # as at this one's start
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    write(root, {"setup.py": CYTHONIZE, "pkg/__init__.py": "", "pkg/a.pyx": ""})
    for options in ("", "# again\n"):
        write(root, {"setup.py": CYTHONIZE + options})
        assert list(declared(root)) == ["pkg.a"]
