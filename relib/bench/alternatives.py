"""What one does without relib: setuptools, pyximport, and a notebook's `%%cython`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

from relib.bench.conversation import Child, NotMeasured
from relib.bench.subject import Subject
from relib.bench.ways import Sample, WithChild
from relib.config import Config
from relib.extension import Extension

__all__ = ["Magic", "Pyximport", "Setuptools"]


class _WithRestart:
    """A way that needs a new process for the new code."""

    def __init__(
        self, subject: Subject, extension: Extension, config: Config, timeout: float
    ) -> None:
        self._subject = subject
        self._extension = extension
        self._config = config
        self._timeout = timeout
        self._built = 0.0

    def _save(self, edition: int) -> float:
        # distutils compares times in whole seconds: an edit in the second of the last build would
        # not be built (CPython 3.11, Lib/distutils/dep_util.py).
        while time.time() < self._built + 1.1:
            time.sleep(0.1)
        return self._subject.save(edition)

    def _answer(self, edition: int, prepare: str = "") -> float:
        """Start a process that imports it; when it has answered."""
        attribute = self._subject.answer
        printed = f"module.{attribute}" if attribute else edition
        name, path = self._subject.name, str(self._subject.importable_from)
        script = f"import sys, importlib; sys.path.insert(0, {path!r})\n{prepare}"
        script += f"module = importlib.import_module({name!r})\nprint({printed})"
        answers = self._run("-c", script).split()
        at = time.monotonic()
        if answers[-1:] != [str(edition)]:
            raise NotMeasured("the new process does not give the new answer")
        self._built = time.time()
        return at

    def _run(self, *words: str) -> str:
        config = self._config
        given = {"CC": config.cc, "CXX": config.cxx, "CFLAGS": config.cflags}
        given |= {"CPPFLAGS": config.cppflags, "LDFLAGS": config.ldflags}
        try:
            done = subprocess.run(
                [sys.executable, *words],
                cwd=self._subject.root,
                env={**os.environ, **{key: value for key, value in given.items() if value}},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=self._timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NotMeasured(f"it took over {self._timeout:g} s") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise NotMeasured(said[-1] if said else f"exit status {done.returncode}")
        return done.stdout.decode(errors="replace")

    def end(self) -> None:
        """Nothing goes on."""


class Setuptools(_WithRestart):
    """``python setup.py build_ext --inplace``, and a new process that imports the result."""

    def begin(self) -> None:
        """Write a setup.py for this extension alone."""
        fields = {
            "name": self._extension.name,
            "sources": [self._moved(source) for source in self._extension.sources],
            "language": self._extension.language,
        }
        for name in ("include_dirs", "library_dirs", "extra_objects"):
            fields[name] = [self._moved(Path(each)) for each in getattr(self._extension, name)]
        for name in (
            *("define_macros", "undef_macros", "libraries", "runtime_library_dirs"),
            *("extra_compile_args", "extra_link_args"),
        ):
            fields[name] = list(getattr(self._extension, name))
        directives = dict((*self._config.directives, *self._extension.directives))
        script = (
            f"from setuptools import Extension, setup\nextensions = [Extension(**{fields!r})]\n"
        )
        if self._subject.kind == "cython":
            script += (
                "from Cython.Build import cythonize\n"
                f"extensions = cythonize(extensions, compiler_directives={directives!r})\n"
            )
        script += f"setup(name={self._extension.stem!r}, ext_modules=extensions, py_modules=[])\n"
        (self._subject.root / "setup_for_bench.py").write_text(script)

    def _moved(self, path: Path) -> str:
        root = self._config.root
        if path.is_absolute() and path.is_relative_to(root):
            return str(path.relative_to(root))
        return str(path)

    def edit(self, edition: int) -> dict[str, Sample]:
        """Save, build, import."""
        saved = self._save(edition)
        self._run("setup_for_bench.py", "--quiet", "build_ext", "--inplace")
        built = time.monotonic()
        answered = self._answer(edition)
        phases = {"build": built - saved, "restart": answered - built}
        return {"setuptools + restart": Sample(answered - saved, phases)}


class Pyximport(_WithRestart):
    """A new process that has pyximport's hook.

    In the same process it would go on with the old code: Cython remembers there how old the files
    are (Cython 3.3, Cython/Build/Dependencies.py, DependencyTree.timestamp).
    """

    def begin(self) -> None:
        """Nothing to start."""
        if self._subject.kind != "cython":
            raise NotMeasured("it is for Cython alone")

    def edit(self, edition: int) -> dict[str, Sample]:
        """Save, and import."""
        setup = {"include_dirs": list(self._extension.include_dirs)}
        install = (
            f"import pyximport\npyximport.install(build_dir='.pyxbld', language_level=3, "
            f"setup_args={setup!r})\n"
        )
        saved = self._save(edition)
        answered = self._answer(edition, install)
        return {"pyximport + restart": Sample(answered - saved)}


class Magic(WithChild):
    """The cell magic ``%%cython`` in a running IPython."""

    def __init__(self, subject: Subject, timeout: float) -> None:
        self._subject = subject
        self._timeout = timeout

    def begin(self) -> None:
        """Start IPython."""
        if self._subject.kind != "cython":
            raise NotMeasured("it is for Cython alone")
        if importlib.util.find_spec("IPython") is None:
            raise NotMeasured("IPython is not installed")
        home = self._subject.root / ".ipython"
        home.mkdir()
        environ = {"IPYTHONDIR": str(home), "XDG_CACHE_HOME": str(home)}
        root = self._subject.root
        paths = (self._subject.importable_from,)
        self._child = Child(
            "relib.bench.notebook", root, paths=paths, environ=environ, timeout=self._timeout
        )
        self.child.ask("begin", directory=str(home))

    def edit(self, edition: int) -> dict[str, Sample]:
        """Save, and run the source in a cell."""
        subject = self._subject
        saved = subject.save(edition)
        details = {"source": str(subject.source), "attribute": subject.answer, "edition": edition}
        return {"%%cython": Sample(self.child.ask("cell", **details) - saved)}
