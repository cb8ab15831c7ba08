"""Runs a setup.py so far that it says what it declares, and writes that down as JSON.

This file is no module of relib's: relib.declared.setup_script starts it in a Python of its own, as
`python -P setup_runner.py ROOT RESULT`. In there `setup()` notes what it is given and ends the
script, and `cythonize()` finds the same extensions as ever but translates none. Nothing is built.
"""

# ruff: noqa: PTH100, PTH109, PTH118, PTH123
# (no pathlib: paths are passed on as the script wrote them)
from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

LIST_FIELDS = (
    "sources",
    "depends",
    "undef_macros",
    "include_dirs",
    "library_dirs",
    "libraries",
    "runtime_library_dirs",
    "extra_objects",
    "extra_compile_args",
    "extra_link_args",
)
CYTHON_SUFFIXES = (".pyx", ".py")


class Declared(SystemExit):
    """Ends the script at its setup(): what follows may be about the result of a build."""


class Trace:
    """Which files below the root the script reads, and which directories it lists.

    What it declares depends on them: a pattern finds new files, a header adds a library.
    """

    def __init__(self, root: str) -> None:
        """Note what is below `root`."""
        self.below = root.rstrip(os.sep) + os.sep
        self.read: set[str] = set()
        self.listed: set[str] = set()
        self.on = True

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take in an audit event."""
        if not self.on:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str) and not flags & (os.O_WRONLY | os.O_RDWR):
                self.note(path, self.read)
        elif event in ("os.listdir", "os.scandir"):
            path = arguments[0]
            self.note("." if path is None else path, self.listed)

    def note(self, path: Any, into: set[str]) -> None:
        """Add `path` to the set `into`, if it is below the root."""
        if isinstance(path, (str, bytes)):
            text = os.path.abspath(os.fsdecode(path))
            if (text + os.sep).startswith(self.below):
                into.add(text)


class Recorder:
    """Stands in for setup() and cythonize()."""

    def __init__(self) -> None:
        """Start with nothing declared."""
        self.extensions: list[dict[str, Any]] = []
        self.cwd = os.getcwd()

    def setup(self, *ignored: Any, **attributes: Any) -> None:
        """Note what setup() was given, and end the script."""
        self.cwd = os.getcwd()
        package = attributes.get("ext_package")
        include_dirs = attributes.get("include_dirs") or []
        if isinstance(include_dirs, str):
            include_dirs = include_dirs.split(os.pathsep)
        for declared in attributes.get("ext_modules") or ():
            for extension in self.expand(as_extension(declared)):
                description = describe(extension)
                description["fields"]["include_dirs"] += map(os.fspath, include_dirs)
                if package:
                    description["name"] = f"{package}.{description['name']}"
                self.extensions.append(description)
        raise Declared(0)

    def expand(self, extension: Any) -> list[Any]:
        """Do for an extension with .pyx sources what setuptools' build_ext would have Cython do."""
        if hasattr(extension, "relib_directives") or not any(
            source.endswith(CYTHON_SUFFIXES) for source in extension.sources
        ):
            return [extension]
        # Cython 3.3, Distutils/build_ext.py, build_extension
        include_path = [*getattr(extension, "cython_include_dirs", ()), *extension.include_dirs]
        directives = dict(getattr(extension, "cython_directives", None) or {})
        if getattr(extension, "cython_cplus", False):
            extension.language = "c++"
        try:
            return self.cythonize(
                extension, include_path=include_path, compiler_directives=directives
            )
        except (ImportError, OSError, ValueError):
            # No Cython, or a source that is not there: that is this extension's trouble, and the
            # others can still be used. relib says so when this one is wanted.
            return [extension]

    def cythonize(
        self,
        module_list: Any,
        exclude: Any = None,
        nthreads: int = 0,
        aliases: Any = None,
        quiet: bool = False,
        force: Any = None,
        language: Any = None,
        exclude_failures: bool = False,
        show_all_warnings: bool = False,
        **options: Any,
    ) -> list[Any]:
        """Return the extensions that cythonize() would, with their Cython sources."""
        import importlib

        dependencies: Any = importlib.import_module("Cython.Build.Dependencies")
        main: Any = importlib.import_module("Cython.Compiler.Main")
        known_options: Any = importlib.import_module("Cython.Compiler.Options")
        options.pop("depfile", None)
        options.setdefault("include_path", ["."])
        # this checks the options, so that a wrong one is reported as cythonize() reports it
        compilation = known_options.CompilationOptions(**options)
        extensions, _ = dependencies.create_extension_list(
            module_list,
            exclude=exclude,
            ctx=main.Context.from_options(compilation),
            aliases=aliases,
            quiet=quiet,
            language=language,
            exclude_failures=exclude_failures,
        )
        directives = dict(options.get("compiler_directives") or {})
        if options.get("language_level") is not None:
            directives.setdefault("language_level", options["language_level"])
        for extension in extensions:
            extension.relib_directives = directives
            extension.relib_include_path = [os.fspath(path) for path in options["include_path"]]
        return list(extensions)


def as_extension(declared: Any) -> Any:
    """Return an element of ext_modules as an Extension whose fields are lists of texts."""
    if isinstance(declared, tuple):  # (name, {"sources": ...}), from before Extension
        from setuptools import Extension

        name, info = declared
        declared = Extension(name, **info)
    for name in LIST_FIELDS:  # generators and map objects can be gone through only once
        setattr(declared, name, [os.fspath(item) for item in getattr(declared, name, None) or ()])
    return declared


def describe(extension: Any) -> dict[str, Any]:
    """Return an Extension as JSON can say it."""
    fields: dict[str, Any] = {
        name: [os.fspath(item) for item in getattr(extension, name, None) or ()]
        for name in LIST_FIELDS
    }
    macros = [tuple(macro) for macro in getattr(extension, "define_macros", None) or ()]
    # distutils takes a macro of one item as one to undefine (ccompiler.py, gen_preprocess_options)
    fields["undef_macros"] += [macro[0] for macro in macros if len(macro) == 1]
    fields["define_macros"] = [
        (name, None if value is None else str(value))
        for name, value in (macro for macro in macros if len(macro) == 2)
    ]
    joined = hasattr(extension, "relib_directives")
    directives = getattr(extension, "relib_directives", {})
    fields["directives"] = {
        name: value if isinstance(value, (str, int, float, list, type(None))) else str(value)
        for name, value in directives.items()
    }
    fields["cython_include_path"] = getattr(extension, "relib_include_path", [])
    language = getattr(extension, "language", None)
    fields["language"] = language if language in (None, "c", "c++") else "other"
    return {"name": extension.name, "fields": fields, "header_joined": joined}


def declares_nothing(text: bytes, tree: Any) -> bool:
    """Say whether a script is no setup script, or only calls setup(): then it need not be run."""
    import ast

    if not any(word in text for word in (b"setup(", b"setuptools", b"distutils")):
        return True

    def is_plain(node: Any) -> bool:
        if isinstance(node, ast.Import):
            return all(alias.name == "setuptools" for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            return node.module in ("setuptools", "distutils.core", "__future__")
        if not isinstance(node, ast.Expr):
            return False
        call = node.value
        if isinstance(call, ast.Call):
            name = getattr(call.func, "attr", getattr(call.func, "id", None))
            return name == "setup" and not call.args and not call.keywords
        return isinstance(call, ast.Constant)

    return all(is_plain(node) for node in tree.body)


def take_over(recorder: Recorder) -> None:
    """Put the recorder in the place of setup() and cythonize(), wherever a script gets them."""
    import importlib

    # setuptools first: it brings the distutils that Python 3.12 no longer has
    for name in ("setuptools", "distutils.core"):
        module: Any = importlib.import_module(name)
        module.setup = recorder.setup
    for name in ("Cython.Build", "Cython.Build.Dependencies"):
        with contextlib.suppress(ImportError):
            module = importlib.import_module(name)
            module.cythonize = recorder.cythonize


def failure(error: BaseException, script: str) -> dict[str, Any]:
    """Describe what the script raised, from the script's own frame on."""
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    own = [index for index, frame in enumerate(frames) if frame.filename == script]
    line = frames[own[-1]].lineno if own else None
    if isinstance(error, SyntaxError) and error.filename == script:
        line = error.lineno
    lines = traceback.format_exception_only(type(error), error)
    shown = frames[own[0] :] if own else []
    return {
        "line": line,
        "summary": lines[-1].strip(),
        "traceback": "".join([*traceback.format_list(shown), *lines]),
    }


def main() -> None:
    """Run setup.py in the directory sys.argv[1] and write the result to the file sys.argv[2]."""
    root, result_path = sys.argv[1:3]
    os.chdir(root)
    script = os.path.join(root, "setup.py")
    # As `python setup.py build_ext --inplace` would have them; the -P that
    # relib.declared.setup_script gives keeps this file's directory off the path.
    sys.path.insert(0, root)
    sys.argv[:] = ["setup.py", "build_ext", "--inplace"]
    recorder = Recorder()
    trace = Trace(root)
    result: dict[str, Any] = {}
    try:
        with open(script, "rb") as file:
            text = file.read()
        tree = compile(text, script, "exec", flags=0x400, dont_inherit=True)  # PyCF_ONLY_AST
        if not declares_nothing(text, tree):
            code = compile(text, script, "exec", dont_inherit=True)
            take_over(recorder)
            module = type(sys)("__main__")
            module.__file__ = script
            sys.modules["__main__"] = module
            sys.addaudithook(trace)
            exec(code, module.__dict__)
    except Declared:
        pass
    except SystemExit as error:
        if error.code not in (None, 0):
            result["error"] = failure(error, script)
    except BaseException as error:  # whatever it is: it is told to who wants the extensions
        result["error"] = failure(error, script)
    trace.on = False
    imported = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    result |= {
        "extensions": recorder.extensions,
        "cwd": recorder.cwd,
        "read": sorted(trace.read),
        "listed": sorted(trace.listed),
        "imported": sorted(f for f in imported if f and f.startswith(trace.below)),
    }
    import json

    with open(result_path, "w", encoding="utf-8") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
