"""One translation after the other, by Cython as a library: without a trace of one in the next.

For the process that :mod:`relib.building.worker` is. Nothing of relib is imported here but what is
for that process as well.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from relib.building import adapted, stocks
from relib.building.cimported import Stale, install

__all__ = ["Log", "Translator"]


def _cython(name: str) -> Any:
    """A module of Cython, untyped: not every Cython has types, and what is used is internal."""
    return importlib.import_module(f"Cython.{name}")


class Log:
    """What Cython reports, as data.

    Made before Cython.Compiler's other modules are imported, which take these functions by name
    (Cython 3.1 to 3.3, Compiler/Errors.py).
    """

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []
        self.crash: str | None = None
        errors = _cython("Compiler.Errors")
        self._crash_class = errors.CompilerCrash
        self._warning_class = errors.CompileWarning
        report_error = errors.report_error

        def report(err: Any, use_stack: bool = True) -> None:
            before = getattr(err, "reported", False)
            try:
                report_error(err, use_stack)
            finally:
                if err.reported and not before:  # not if errors are being held back, or repeated
                    self.error(err)

        errors.report_error = report
        for name, severity, lead in (
            ("warning", "warning", ""),
            ("warn_once", "warning", ""),
            ("message", "note", ""),
            ("performance_hint", "note", "performance hint: "),
        ):
            setattr(errors, name, self._wrap(getattr(errors, name), severity, lead))

    def _wrap(self, function: Callable[..., Any], severity: str, lead: str) -> Callable[..., Any]:
        def wrapper(position: Any, message: str, *args: Any, **kwargs: Any) -> Any:
            result = function(position, message, *args, **kwargs)
            if isinstance(result, self._warning_class):  # not below the level; no error instead
                self._add(position, severity, lead + message)
            return result

        return wrapper

    def error(self, error: Any) -> None:
        """Take down an error."""
        if isinstance(error, self._crash_class):
            _, phase, _, cause, _ = error.args
            self.crash = str(error)
            what = f"{type(cause).__name__}: {cause}" if cause else "for no known reason"
            self._add(error.position, "crash", f"Cython crashed in {phase}: {what}")
        elif error.message_only:  # an empty one only says that there were others
            self._add(error.position, "error", error.message_only)

    def _add(self, position: Any, severity: str, message: str) -> None:
        entry = _entry(severity, message)
        if position is not None:
            place, line, column = position
            if (file := getattr(place, "filename", None)) is not None:
                entry |= {"file": file, "line": line, "column": column + 1 if line else 0}
                with contextlib.suppress(Exception):  # it is gone, or no text
                    entry["source"] = place.get_lines()[line - 1].rstrip() if line else ""
            elif severity in ("warning", "note"):
                return  # about code that Cython made itself: not for the user
            else:
                entry["message"] += f" (in {place.get_description()}, line {line})"
        self.found.append(entry)


def _entry(severity: str, message: str) -> dict[str, Any]:
    place = {"file": None, "line": 0, "column": 0, "source": ""}
    return place | {"severity": severity, "message": message.strip()}


class Translator:
    """Translates one source after the other."""

    def __init__(self) -> None:
        self._log = Log()  # before more of Cython is imported
        _cython("Compiler.Main")
        adapted.make_collectable()
        adapted.name_in_full()
        self._stocks = stocks.Stocks(install(), _matters)
        self._context_class = self._stocks.context_class
        self._first = True

    def translate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Translate one source.

        Args:
            request: "source", "name" (the full module name), "c_file", "cplus", "include_path",
                "directives" (name to value, which may be a text), "shared" (or None), "sys_path".

        Returns:
            "ok"; "diagnostics"; "dependencies", the files that were read; "absent", the files that
            were looked for in vain; "crash", a traceback if Cython itself failed; and "error", a
            pair of errno and file name, if a file could not be read or written.
        """
        sys.path[:] = request["sys_path"]
        stock = self._stocks.find(request)
        if stock is not None:
            try:
                answer = self._translate(request, stock)
            except Stale:
                self._stocks.disappoint(stock)
            else:
                if answer["ok"]:
                    return answer
                self._stocks.settle()  # an error is not told on the word of a stock
        return self._translate(request, None)

    def rehearse(self) -> None:
        """Translate something: the first time, Cython imports most of itself, and makes tables.

        All is done but the last: the C is in memory, and there is no place for it. This process may
        be killed at any time, and would leave it.
        """
        source = Path(__file__).with_name("rehearsal.pyx")
        request: dict[str, Any] = dict.fromkeys(("cplus", "shared"))
        request |= {"source": str(source), "name": "rehearsal", "c_file": f"{source}/out.c"}
        request |= {"include_path": [], "directives": {}, "sys_path": sys.path[:]}
        with contextlib.suppress(Exception):
            self.translate(request)

    def settle(self) -> None:
        """Clear up after the last translation."""
        self._stocks.settle()

    def improve(self) -> bool:
        """Get ready for the next translation; False if nothing was done."""
        said: list[Any] = []
        self._log.found = said
        absent: dict[str, None] = {}
        first, self._first = self._first, False
        with adapted.fresh(), adapted.witnessed(absent):
            return self._stocks.improve(said, absent) or first

    def _translate(self, request: dict[str, Any], stock: Any) -> dict[str, Any]:
        compiler = _cython("Compiler.Main")
        log = self._log
        log.found, log.crash = [], None
        read: dict[str, None] = {request["source"]: None}
        absent: dict[str, None] = {}
        answer: dict[str, Any] = {"ok": False, "error": None}

        def report(kind: str, value: Any) -> None:
            if kind == "said":
                log.found.append(value)
            else:
                (read if kind == "read" else absent)[value] = None

        def options() -> Any:
            return compiler.Options.CompilationOptions(
                output_file=request["c_file"],
                cplus=request["cplus"],
                include_path=request["include_path"],
                compiler_directives=_directives(request["directives"]),
                shared_utility_qualified_name=request["shared"],
                errors_to_stderr=0,
                annotate=False,
            )

        with adapted.fresh(), adapted.witnessed(absent):
            try:
                given = options()
                context = (
                    self._context_class.from_options(given) if stock is None else stock.begin(given)
                )
                context.relib_begin(report, _installed())
                result = compiler.compile_single(
                    request["source"], given, request["name"], context=context
                )
                answer["ok"] = not result.num_errors and result.c_file is not None
                self._stocks.learn(request, context, options, _installed())
            except Stale:
                raise
            except _DirectiveError as error:
                log.found.append(_entry("error", str(error)))
            except OSError as error:
                # Cython's own FileNotFoundError has the name in the place of the number
                # (Cython 3.1 to 3.3, Utils.py, open_source_file).
                name = error.filename or (str(error.args[0]) if error.args else "")
                answer["error"] = [error.errno or 2, str(error.strerror or error), name]
            except BaseException as error:
                log.crash = traceback.format_exc()
                what = "".join(traceback.format_exception_only(error)).strip()
                log.found.append(_entry("crash", f"Cython crashed: {what}"))
        answer["diagnostics"] = log.found
        answer["dependencies"] = list(read)
        answer["absent"] = [path for path in absent if _matters(path)]
        answer["crash"] = log.crash
        return answer


class _DirectiveError(Exception):
    pass


def _directives(given: dict[str, Any]) -> dict[str, Any]:
    """Cython's values for directives that may be given as texts."""
    options = _cython("Compiler.Options")
    values = {}
    for name, value in given.items():
        if name not in options.get_directive_defaults():
            raise _DirectiveError(f"there is no Cython directive {name!r}")
        if isinstance(value, str):
            try:
                values[name] = options.parse_directive_value(name, value, relaxed_bool=True)
            except ValueError as error:
                raise _DirectiveError(f"Cython directive {name!r}: {error}") from None
        else:
            values[name] = value
    return values


def _matters(path: str) -> bool:
    """Whether a file that is not there would be read if it were, and might well appear.

    Sources of Python are only looked for to tell packages from modules, and nothing is looked out
    for where software is installed: what is used of that is among the dependencies.
    """
    return not path.endswith((".py", ".pyx", ".pyc")) and not path.startswith(_installed())


_OF_SOFTWARE = ("stdlib", "platstdlib", "purelib", "platlib", "include", "platinclude")


def _installed() -> tuple[str, ...]:
    return _installed_in(tuple(sys.path))


@functools.lru_cache(maxsize=8)
def _installed_in(search_path: tuple[str, ...]) -> tuple[str, ...]:
    # Not "data" and "scripts": an environment may be the project's own directory.
    paths = sysconfig.get_paths()
    places = {paths[key] for key in _OF_SOFTWARE}
    places.add(str(Path(str(_cython("Utils").__file__)).parent))
    for place in map(Path, search_path):
        if place.suffix in (".zip", ".egg") or place.name in (
            "site-packages",
            "dist-packages",
            "lib-dynload",
        ):
            places.add(str(place))
    return tuple(place + "/" for place in places)
