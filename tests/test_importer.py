"""relib.install(): `import` builds, loads and reloads what is served, and nothing else changes."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys

import pytest
from conftest import Project

ANSWER = "def answer(): return {}\n"

C_MODULE = """
    #include <Python.h>
    static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(%d); }
    static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
    static struct PyModuleDef definition = {
        PyModuleDef_HEAD_INIT, "spam", NULL, 0, methods, NULL, NULL, NULL, NULL};
    PyMODINIT_FUNC PyInit_spam(void) { return PyModuleDef_Init(&definition); }
"""


def test_a_pyx_file_is_imported(project: Project) -> None:
    project.write("fast.pyx", ANSWER.format(41))
    project.write("plain.py", "VALUE = 7")
    assert project.run(
        """
        relib.install()
        import fast, plain
        assert relib.get("fast").module is fast is sys.modules["fast"]
        assert fast.__spec__.name == fast.__name__ == "fast"
        assert fast.__file__ == fast.__spec__.origin == os.path.abspath("fast.pyx")
        assert fast.__loader__ is fast.__spec__.loader and not fast.__spec__._initializing
        say([fast.answer(), plain.VALUE, sorted(relib.modules())])
        """
    ).value == [41, 7, ["fast"]]


def test_a_package_with_compiled_modules(project: Project) -> None:
    project.write("pkg/__init__.py", "from . import fast\nfrom .sub import deep")
    project.write("pkg/fast.pyx", "from .plain import VALUE\n" + ANSWER.format("VALUE"))
    project.write("pkg/plain.py", "VALUE = 7")
    project.write("pkg/sub/__init__.pyx", "from . import plain\nHERE = __path__")
    project.write("pkg/sub/plain.py", "VALUE = 8")
    project.write("pkg/sub/deep.pyx", "from ..fast import answer\nfrom . import plain")
    project.write("pkg/sub/data.txt", "resource")
    assert project.run(
        """
        relib.install()
        import importlib.resources, pkgutil
        import pkg, pkg.sub.deep
        assert pkg.sub.HERE == [os.path.abspath("pkg/sub")]
        assert pkg.sub.__package__ == "pkg.sub" and pkg.fast.__package__ == "pkg"
        assert pkg.sub.__spec__.submodule_search_locations == pkg.sub.__path__
        assert (importlib.resources.files("pkg.sub") / "data.txt").read_text() == "resource"
        assert pkgutil.get_data("pkg.sub", "data.txt") == b"resource"
        assert pkg.sub.deep is sys.modules["pkg.sub.deep"]
        say([pkg.sub.deep.answer(), pkg.sub.deep.plain.VALUE, sorted(relib.modules())])
        """
    ).value == [7, 8, ["pkg.fast", "pkg.sub", "pkg.sub.deep"]]


def test_a_namespace_package_gives_its_modules_their_names(project: Project) -> None:
    project.write("space/fast.pyx", "from .plain import VALUE\n" + ANSWER.format("VALUE"))
    project.write("space/plain.py", "VALUE = 7")
    assert project.run(
        """
        relib.install()
        import space.fast
        say([space.fast.answer(), space.fast.__name__, space.fast.answer.__module__])
        """
    ).value == [7, "space.fast", "space.fast"]


def test_a_declared_extension_is_imported_wherever_its_source_is(project: Project) -> None:
    project.write("native/spam.c", C_MODULE % 42)
    project.write("pyproject.toml", '[tool.relib.extensions]\nspam = "native/spam.c"')
    assert project.run(
        """
        relib.install()
        import spam
        say([spam.answer(), relib.get("spam").build.kind])
        """
    ).value == [42, "c"]


def test_what_setup_py_declares_is_imported_from_src(project: Project) -> None:
    project.write("src/pkg/__init__.py", "")
    project.write("src/pkg/fast.pyx", ANSWER.format("TWO"))
    project.write("src/pkg/spam.c", C_MODULE % 42)
    project.write(
        "setup.py",
        """
        from setuptools import Extension, setup
        fast = Extension("pkg.fast", ["src/pkg/fast.pyx"])
        spam = Extension("pkg.spam", ["src/pkg/spam.c"])
        setup(name="pkg", package_dir={"": "src"}, ext_modules=[fast, spam])
        """,
    )
    project.write("src/pkg/fast.pyx", "TWO = 2\n" + ANSWER.format("TWO"))
    assert project.run(
        """
        sys.path.insert(0, os.path.abspath("src"))  # as an editable install has it
        relib.install()
        from pkg import fast, spam
        say([fast.answer(), spam.answer(), sorted(relib.modules())])
        """
    ).value == [2, 42, ["pkg.fast", "pkg.spam"]]


def test_an_editable_install_by_a_finder_with_an_old_library(project: Project) -> None:
    """The finder of setuptools maps a package to its directory; what was compiled lies there."""
    project.write("pyproject.toml", "")
    project.write("src/pkg/__init__.py", "")
    suffix = project.run("import sysconfig; say(sysconfig.get_config_var('EXT_SUFFIX'))").value
    project.write(f"src/pkg/fast{suffix}", "not even a library")
    project.write("src/pkg/fast.pyx", ANSWER.format(3))
    assert (
        project.run(
            """
        import importlib.abc, importlib.util
        class Editable(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name == "pkg":
                    return importlib.util.spec_from_file_location("pkg", "src/pkg/__init__.py")
        sys.meta_path.append(Editable())
        relib.install()
        import pkg.fast
        say(pkg.fast.answer())
        """
        ).value
        == 3
    )


@pytest.mark.parametrize("declared", ["", "fast.py", "fast.pyx"])
def test_of_two_files_of_one_name_the_declared_one_is_imported(
    project: Project, declared: str
) -> None:
    project.write("fast.py", "import cython\nWHICH = 'py'\ncompiled = cython.compiled")
    project.write("fast.pyx", "import cython\nWHICH = 'pyx'\ncompiled = cython.compiled")
    if declared:
        project.write("pyproject.toml", f'[tool.relib.extensions]\nfast = "{declared}"')
    assert project.run(
        """
        relib.install()
        import fast
        say([fast.WHICH, fast.compiled])
        """
    ).value == ["py" if declared == "fast.py" else "pyx", True]


def test_what_comes_earlier_on_the_path_goes_before(project: Project) -> None:
    project.write("first/fast.py", "WHICH = 'py'")
    project.write("second/fast.pyx", "WHICH = 'pyx'")
    project.write("second/both.pyx", "")
    project.write("second/both/__init__.py", "WHICH = 'package'")
    assert project.run(
        """
        sys.path[:0] = [os.path.abspath("first"), os.path.abspath("second")]
        relib.install()
        import fast, both
        say([fast.WHICH, both.WHICH])
        """
    ).value == ["py", "package"]


def test_only_what_was_named_is_served(project: Project) -> None:
    project.write("a/__init__.py", "")
    project.write("a/fast.pyx", ANSWER.format(1))
    project.write("b/__init__.py", "")
    project.write("b/fast.pyx", ANSWER.format(2))
    project.write("other/lone.pyx", ANSWER.format(3))
    assert project.run(
        """
        import importlib
        def importable(name):
            importlib.invalidate_caches()
            try:
                importlib.import_module(name)
            except ModuleNotFoundError:
                return False
            return True
        sys.path.append(os.path.abspath("other"))
        relib.install("a")
        seen = [importable(name) for name in ("a.fast", "b.fast", "lone")]
        relib.install(directories="other")
        seen += [importable("lone"), importable("b.fast")]
        relib.uninstall()
        import a.fast
        assert a.fast.answer() == 1 and not [f for f in sys.meta_path if "relib" in repr(f)]
        say([*seen, importable("b.fast")])
        """
    ).value == [True, False, False, True, False, False]


def test_installed_packages_below_the_project_are_left_alone(project: Project) -> None:
    project.write("env/lib/site-packages/found/__init__.py", "")
    project.write("env/lib/site-packages/found/fast.pyx", ANSWER.format(1))
    project.write("env/lib/site-packages/found/fast.py", "WHICH = 'py'")
    project.write("found/README", "a directory of the same name")
    assert project.run(
        """
        sys.path.insert(0, os.path.abspath("env/lib/site-packages"))
        relib.install()
        import found.fast
        say([found.fast.WHICH, list(relib.modules())])
        """
    ).value == ["py", []]


def test_foreign_imports_touch_no_file(project: Project) -> None:
    """They pass the hook without a single system call: it calls nothing that could make one."""
    project.write("fast.pyx", ANSWER.format(1))
    assert (
        project.run(
            """
        relib.install()
        finder = sys.meta_path[0]
        seen = []
        def calls(frame, event, what):
            if event == "c_call" and what.__module__ in ("posix", "_io"):
                seen.append(what.__name__)
        sys.setprofile(calls)
        for name in ("numpy", "numpy.core", "email.mime.text", "nothing", "json.decoder"):
            finder.find_spec(name, None if "." not in name else ["/nowhere"])
        sys.setprofile(None)
        say(seen)
        """
        ).value
        == []
    )


def test_a_file_that_is_newer_than_the_hook_is_found(project: Project) -> None:
    project.write("pyproject.toml", "")
    assert project.run(
        """
        from pathlib import Path
        relib.install()
        try:
            import fast
        except ModuleNotFoundError:
            pass
        Path("fast.pyx").write_text("def answer(): return 5")
        import fast
        Path("spam_source.pyx").write_text("def answer(): return 6")
        Path("pyproject.toml").write_text("[tool.relib.extensions]\\nspam = 'spam_source.pyx'")
        import spam
        say([fast.answer(), spam.answer()])
        """
    ).value == [5, 6]


def test_importlib_reload_reloads_through_relib(project: Project) -> None:
    project.write("fast.pyx", ANSWER.format(1))
    project.write("other.pyx", ANSWER.format(1))
    assert project.run(
        """
        import importlib
        from pathlib import Path
        relib.install("fast")
        import fast
        from fast import answer
        loaded = relib.load("other.pyx").module
        for name in ("fast", "other"):
            Path(f"{name}.pyx").write_text("def answer(): return 2")
        assert importlib.reload(fast) is fast
        assert importlib.reload(loaded) is loaded
        versions = [relib.get("fast").version, relib.get("other").version]
        importlib.reload(fast)  # it is executed again, though nothing has changed
        collected()
        say([fast.answer(), answer(), loaded.answer(), *versions, relib.get("fast").version,
             len(relib.retired())])
        """
    ).value == [2, 2, 2, 2, 2, 3, 0]


def test_the_old_version_goes_although_its_spec_is_held(project: Project) -> None:
    project.write("fast.pyx", ANSWER.format(1))
    assert (
        project.run(
            """
        import importlib.util
        from pathlib import Path
        relib.install()
        import fast
        held = [fast.__spec__, fast.__loader__, importlib.util.find_spec("fast")]
        Path("fast.pyx").write_text("def answer(): return 2")
        report = relib.get("fast").reload()
        assert report.unloaded, report
        assert held[1].get_source("fast") == "def answer(): return 2"
        assert held[1].get_filename("fast") == held[0].origin and held[1].get_code("fast") is None
        say(mapped("fast"))
        """
        ).value
        == 1
    )


def test_a_failed_build_says_where(project: Project) -> None:
    project.write("fast.pyx", "def answer():\n    return +\n")
    assert (
        project.run(
            """
        import traceback
        relib.install()
        try:
            import fast
        except ImportError as error:
            failure = error
        assert isinstance(failure, relib.BuildError) and failure.name == "fast"
        assert "fast.pyx:2:" in str(failure) and "    return +" in str(failure)
        assert failure.diagnostics[0].line == 2
        assert "fast" not in sys.modules
        shown = "".join(traceback.format_exception(failure))
        assert "relib/" not in shown, shown
        open("fast.pyx", "w").write("def answer(): return 1")
        import fast
        say(fast.answer())
        """
        ).value
        == 1
    )


def test_a_body_that_raises_fails_as_any_import(project: Project) -> None:
    project.write("fast.pyx", "import inner\n")
    project.write("inner.pyx", "def inside():\n    {}['missing']\ninside()\n")
    assert project.run(
        """
        import traceback
        relib.install()
        try:
            import fast
        except KeyError as error:
            failure = error
        assert failure.args == ("missing",) and failure.__cause__ is failure.__context__ is None
        shown = "".join(traceback.format_exception(failure))
        assert "relib/" not in shown and "importlib" not in shown, shown
        assert shown.index("scenario.py") < shown.index("fast.pyx") < shown.index("inner.pyx")
        left = [name for name in ("fast", "inner") if name in sys.modules]
        open("inner.pyx", "w").write("def answer(): return 1")
        import fast
        say([left, fast.inner.answer()])
        """
    ).value == [[], 1]


def test_an_optional_import_falls_back(project: Project) -> None:
    """What the module raises is not turned into an ImportError, nor an ImportError into else."""
    project.write("fast.pyx", "import nothing_of_that_name")
    project.write("faulty.pyx", "raise ValueError('not an import error')")
    assert project.run(
        """
        relib.install()
        try:
            import fast
        except ModuleNotFoundError as error:
            missing = error.name
        try:
            import faulty
        except ImportError:
            kind = "ImportError"
        except ValueError:
            kind = "ValueError"
        say([missing, kind])
        """
    ).value == ["nothing_of_that_name", "ValueError"]


def test_modules_that_import_each_other(project: Project) -> None:
    project.write("one.pyx", "import two\ndef answer(): return two.VALUE\nVALUE = 1\n")
    project.write("two.pyx", "import one\ndef answer(): return one.VALUE\nVALUE = 2\n")
    assert project.run(
        """
        relib.install()
        import one, two
        say([one.answer(), two.answer(), two.one is one])
        """
    ).value == [2, 1, True]


@pytest.mark.parametrize("how", ["import", "load", "mixed"])
def test_two_threads_import_modules_that_import_each_other(project: Project, how: str) -> None:
    """Each is in the middle of its body when it asks for the other."""
    body = "import meeting; meeting.met()\nimport {}\ndef answer(): return {}.VALUE\nVALUE = {}\n"
    project.write("one.pyx", body.format("two", "two", 1))
    project.write("two.pyx", body.format("one", "one", 2))
    project.write("meeting.py", "import threading\nmet = threading.Barrier(2, timeout=60).wait")
    ways = {"import": ["import"] * 2, "load": ["load"] * 2, "mixed": ["load", "import"]}[how]
    assert project.run(
        f"""
        import importlib
        relib.install()
        failures = []
        def bring(name, way):
            try:
                if way == "load":
                    relib.load(name + ".pyx")
                else:
                    importlib.import_module(name)
            except BaseException as error:
                failures.append(repr(error))
        threads = [threading.Thread(target=bring, args=each) for each in
                   zip(("one", "two"), {ways!r})]
        for thread in threads: thread.start()
        for thread in threads: thread.join(90)
        assert not any(thread.is_alive() for thread in threads)
        import one, two
        say([failures, one.answer(), two.answer()])
        """
    ).value == [[], 2, 1]


def test_a_thread_waits_until_the_module_is_whole(project: Project) -> None:
    project.write("fast.pyx", "import gate\ngate.wait()\n" + ANSWER.format(1))
    project.write(
        "gate.py",
        """
        import threading
        begun, go = threading.Event(), threading.Event()
        def wait():
            begun.set()
            assert go.wait(60)
        """,
    )
    assert project.run(
        """
        import gate
        relib.install()
        seen = []
        def first():
            import fast
        def second():
            asked.set()
            import fast
            seen.append(fast.answer())
        asked = threading.Event()
        threads = [threading.Thread(target=each) for each in (first, second)]
        threads[0].start()
        gate.begun.wait(60)
        assert sys.modules["fast"].__spec__._initializing
        threads[1].start()
        asked.wait(60)
        gate.go.set()
        for thread in threads: thread.join(60)
        say(seen)
        """
    ).value == [1]


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_child_of_multiprocessing_imports_through_relib(project: Project, method: str) -> None:
    project.write("fast.pyx", ANSWER.format(9))
    project.write(
        "work.py",
        "import relib, fast\ndef work(x): return x + fast.answer() + (relib.get('fast') is None)",
    )
    outcome = project.run(
        f"""
        if __name__ == "__main__":
            relib.install()
            import multiprocessing
            from work import work
            context = multiprocessing.get_context({method!r})
            with context.Pool(1) as pool:
                say(pool.map(work, [1]))
        """
    )
    assert outcome.value == [10]


def test_metadata_and_discovery_go_on_working(project: Project) -> None:
    project.write("fast.pyx", ANSWER.format(1))
    assert project.run(
        """
        import importlib.metadata, importlib.util, inspect, pkgutil
        relib.install()
        import fast
        assert importlib.metadata.version("cython")
        assert list(importlib.metadata.distributions())
        assert importlib.util.find_spec("fast") is fast.__spec__
        assert importlib.util.find_spec("json").loader is not None
        assert inspect.getsourcefile(fast) == fast.__file__
        assert inspect.getsource(fast) == open("fast.pyx").read()
        spec = importlib.util.find_spec("email.mime")
        lazy = importlib.util.module_from_spec(spec)
        say(repr(fast))
        """
    ).value.startswith("<module 'fast' ")


def test_the_recipe_of_importlib_works(project: Project) -> None:
    project.write("fast.pyx", ANSWER.format(1))
    project.write("lazy.pyx", ANSWER.format(2))
    assert project.run(
        """
        import importlib.util
        relib.install()
        spec = importlib.util.find_spec("fast")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        spec = importlib.util.find_spec("lazy")
        spec.loader = importlib.util.LazyLoader(spec.loader)
        lazy = importlib.util.module_from_spec(spec)
        sys.modules["lazy"] = lazy
        spec.loader.exec_module(lazy)
        assert relib.get("lazy") is None
        say([module.answer(), lazy.answer(), relib.get("lazy").version])
        """
    ).value == [1, 2, 1]


def test_a_project_file_with_a_fault_is_said_once(project: Project) -> None:
    project.write("setup.py", "import setuptools\nraise RuntimeError('this setup.py is broken')")
    project.write("pkg/__init__.py", "")
    project.write("pkg/plain.py", "VALUE = 1")
    project.write("pkg/more.py", "VALUE = 2")
    project.write("pkg/fast.pyx", ANSWER.format(1))
    outcome = project.run(
        """
        relib.install()
        import pkg.plain, pkg.more
        try:
            import pkg.fast
        except ImportError as error:
            failure = error
        say([pkg.plain.VALUE, pkg.more.VALUE, failure.name, "setup.py" in str(failure)])
        """
    )
    assert outcome.value == [1, 2, "pkg.fast", True]
    assert outcome.errors.count("setup.py:2: RuntimeError: this setup.py is broken") == 1


def test_a_setting_with_a_fault_is_said_at_once(project: Project) -> None:
    assert project.run(
        """
        failures = []
        for options in ({"jobs": "none"}, {"nothing": 1}):
            try:
                relib.install(**options)
            except relib.ConfigError as error:
                failures.append(error.key)
        say([failures, [repr(f) for f in sys.meta_path if "relib" in repr(f)]])
        """
    ).value == [["jobs", "nothing"], []]


def test_settings_are_those_of_the_call(project: Project) -> None:
    project.write("fast.pyx", "cdef extern from *:\n    int LEVEL\n" + ANSWER.format("LEVEL"))
    assert (
        project.run(
            """
        relib.install(cppflags="-DLEVEL=3")
        import fast
        say(fast.answer())
        """
        ).value
        == 3
    )


def test_a_save_is_followed(project: Project) -> None:
    project.write("fast.pyx", ANSWER.format(1))
    outcome = project.run(
        """
        from pathlib import Path
        relib.install(watch=True)
        assert not any(t.name.startswith("relib") for t in threading.enumerate())
        from fast import answer
        Path("fast.pyx").write_text("def answer(): return 2")
        until(lambda: answer() == 2, 60)
        until(lambda: relib.get("fast").version == 2)
        relib.uninstall()
        say([t.name for t in threading.enumerate() if t.name == "relib-session"])
        """,
        RELIB_TIER="instant",  # an optimized build that follows would be the next version
    )
    assert outcome.value == []
    assert "fast v2 · " in outcome.errors


def test_under_pytest(project: Project) -> None:
    project.write("pyproject.toml", "")
    project.write("src/pkg/__init__.py", "")
    project.write("src/pkg/fast.pyx", ANSWER.format(4))
    project.write("tests/conftest.py", "import relib\nrelib.install()")
    project.write(
        "tests/test_fast.py",
        """
        import relib
        from pkg import fast
        def test_fast():
            assert fast.answer() == 4
            assert relib.get("pkg.fast").module is fast
        """,
    )
    options = ["-q", "-p", "no:cacheprovider", "-o", "pythonpath=src"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=project.root,
        env={**project.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


def test_the_hook_is_light(project: Project) -> None:
    """Installed, and with nothing to serve, it has imported no compiler, worker or watcher."""
    project.write("plain.py", "")
    project.write("setup.py", "raise RuntimeError('not to be run for this')")
    outcome = project.run(
        """
        relib.install(watch=True)
        import plain, email.mime.text
        say([name for name in sys.modules if name.startswith(("relib.building", "relib.session",
             "relib.declared.setup", "Cython", "multiprocessing", "click", "rich"))])
        """
    )
    assert outcome.value == []
    assert os.fspath(project.root) not in outcome.errors


@pytest.mark.skipif(
    not [*importlib.metadata.distributions(name="pip")], reason="pip is not installed"
)
def test_what_pip_has_installed_editable_is_followed(project: Project) -> None:
    """In src/ layout: what setuptools has compiled lies beside the source."""
    source = project.write("src/pkg/fast.pyx", ANSWER.format(1))
    project.write("src/pkg/__init__.py", "from .fast import answer\n")
    project.write(
        "pyproject.toml",
        """
        [build-system]
        requires = ["setuptools", "Cython"]
        build-backend = "setuptools.build_meta"
        [project]
        name = "pkg"
        version = "1"
        [tool.setuptools]
        package-dir = {"" = "src"}
        packages = ["pkg"]
        """,
    )
    project.write(
        "setup.py",
        """
        from setuptools import Extension, setup
        setup(ext_modules=[Extension("pkg.fast", ["src/pkg/fast.pyx"])])
        """,
    )
    site = project.root / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--target", site, "--editable", project.root],
        env={**project.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=120,
    )
    assert [*source.parent.glob("fast.*.so")]
    outcome = project.run(
        f"""
        import site
        from pathlib import Path
        site.addsitedir({str(site)!r})  # as Python does with its own site-packages
        relib.install(watch=True)
        from pkg import answer
        assert answer() == 1
        source = Path({str(source)!r})
        assert relib.get("pkg.fast").extension.main == source
        source.write_text("def answer(): return 2")
        until(lambda: answer() == 2, 60)
        relib.uninstall()
        # and from another directory, by the package's name, in a process of its own
        import subprocess
        script = (
            "import site; site.addsitedir(" + repr({str(site)!r}) + "); import relib\\n"
            "relib.install(packages='pkg')\\nfrom pkg import answer\\nprint(answer())\\n"
            "open(" + repr(str(source)) + ", 'w').write('def answer(): return 3')\\n"
            "relib.get('pkg.fast').reload().require_unloaded(); print(answer())"
        )
        ran = subprocess.run([sys.executable, "-P", "-c", script], cwd="/", capture_output=True)
        say([ran.stdout.decode().split(), ran.stderr.decode()])
        """
    )
    assert outcome.value == [["2", "3"], ""]


def test_under_xdist_one_process_builds(project: Project) -> None:
    pytest.importorskip("xdist")
    project.write("pyproject.toml", "")
    project.write("src/pkg/__init__.py", "")
    project.write("src/pkg/fast.pyx", ANSWER.format(4))
    project.write("tests/conftest.py", "import relib\nrelib.install(tier='optimized')")
    project.write(
        "tests/test_fast.py",
        """
        import os, pytest, relib
        from pkg import fast
        @pytest.mark.parametrize("number", range(8))
        def test_fast(number):
            assert os.environ["PYTEST_XDIST_WORKER_COUNT"] == "2"
            assert fast.answer() == 4
            assert relib.get("pkg.fast").module is fast
        """,
    )
    compiler = project.write(
        "recording-cc",
        f"""
        #!/bin/sh
        case " $* " in *" -c "*) echo "$$" >>"{project.root}/compilations";; esac
        exec gcc "$@"
        """,
    )
    compiler.chmod(0o755)
    options = ["-q", "-n2", "-p", "no:cacheprovider", "-o", "pythonpath=src"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=project.root,
        env={
            **project.environ,
            "CC": str(compiler),
            "RELIB_STORE": str(project.root / "store"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "8 passed" in ran.stdout
    assert len((project.root / "compilations").read_text().split()) == 1


def test_what_translates_is_there_before_the_first_save(project: Project) -> None:
    """Also if all that was imported came from the store."""
    project.write("fast.pyx", ANSWER.format(1))
    project.run("relib.install(); import fast", RELIB_TIER="instant")
    outcome = project.run(
        """
        from relib.building.pool import pool
        relib.install(watch=True)
        import fast
        assert relib.get("fast").build.cached
        until(pool.processes)
        [pid] = pool.processes()
        open("fast.pyx", "w").write("def answer(): return 2")
        until(lambda: fast.answer() == 2, 60)
        say(pool.processes() == [pid])
        """,
        RELIB_TIER="instant",
    )
    assert outcome.value is True


def test_uninstall_does_not_wait_for_an_upgrade_that_waits_for_it(project: Project) -> None:
    """An upgrade under way notes what it has loaded, for which it asks the hook."""
    project.write("fast.pyx", "VALUE = 1")
    outcome = project.run(
        """
        def installed():
            return any(type(finder).__module__ == "relib.importer" for finder in sys.meta_path)

        class Report:
            def loaded(self, module):
                pass
            def __call__(self, event):
                if event.kind == "about_to_reload":
                    under_way.set()
                    until(lambda: not installed(), 60)

        under_way = threading.Event()
        relib.install(directories=".", watch=True, report=Report())
        import fast
        [thread] = [each for each in threading.enumerate() if each.name == "relib-session"]
        with open("fast.pyx", "w") as file:
            file.write("VALUE = 2")
        under_way.wait()
        relib.uninstall()
        say(thread.is_alive())
        """
    )
    assert outcome.value is False


def test_a_forked_child_imports_though_another_thread_was_installing(project: Project) -> None:
    project.write("fast.pyx", "VALUE = 1")
    outcome = project.run(
        """
        class Report:
            def loaded(self, module):
                installing.set()
                go_on.wait()
            def __call__(self, event):
                pass

        relib.install(directories=".")
        import fast
        installing, go_on = threading.Event(), threading.Event()
        kwargs = {"directories": ".", "watch": True, "report": Report()}
        threading.Thread(target=relib.install, kwargs=kwargs).start()
        installing.wait()
        child = os.fork()
        if not child:
            signal.alarm(60)
            relib.uninstall()
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        go_on.set()
        until(lambda: any(each.name == "relib-session" for each in threading.enumerate()), 60)
        relib.uninstall()
        say(status)
        """
    )
    assert outcome.value == 0
