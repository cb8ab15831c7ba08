"""The process that translates: Cython, imported once and kept warm.

Run as a script by :mod:`relib.building.pool`, never imported there for what it does: it needs
nothing of relib, so that it starts without it. Its stdin is a socket on which each line is a JSON
object: first `{"sys_path": [...]}`, answered by `{"ready": true}` or `{"failed": ...}`, then
requests of :func:`translate`, each answered by `{"begun": true}` and its result. What Cython prints
goes to stdout and stderr, which are one file that the parent reads.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["main"]

# A session's worth of compiles leaves a few MB behind in Cython's caches; past this much something
# leaks, and a new process is cheaper than to find out what.
_MEMORY_BYTES = 1 << 30
# Garbage is collected when nobody waits: after this many seconds without a request, or else when
# there are this many objects (a large module makes 150,000).
_IDLE = 0.05
_OBJECTS = 500_000


def main(parent: int) -> None:
    """Serve the process `parent` until it closes the connection or ends."""
    # Ctrl-C in the terminal is for the program. The parent starts this process in a session of its
    # own, so that the terminal's signals do not come here; this is for what is sent to it by hand.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()  # a crash in Cython's own machine code then leaves words, not silence
    connection = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    lines = connection.makefile("r", encoding="ascii", newline="\n")
    first = lines.readline()
    if not first:
        return
    sys.path[:] = json.loads(first)["sys_path"]
    # A deep expression needs a deep stack in Cython, which recurses over the tree.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 3000))
    gc.disable()
    try:
        log = _Log()
        _cython("Compiler.Main")
        _make_collectable()
        _name_in_full()
    except BaseException as error:
        reason = "".join(traceback.format_exception_only(error)).strip()
        _send(connection, {"failed": reason, "traceback": traceback.format_exc()})
        return
    _send(connection, {"ready": True})
    garbage = frozen = False
    while True:
        # readline() may have read ahead, but never past a request: the parent waits for answers.
        if garbage and (gc.get_count()[0] > _OBJECTS or not _readable(connection, _IDLE)):
            gc.collect()
            garbage = False
            if not frozen:
                # The first compile imported the rest of Cython and made its tables. They stay, and
                # to look at them again would make a collection ten times as long.
                gc.freeze()
                frozen = True
        line = lines.readline()
        if not line:
            return
        os.ftruncate(1, 0)
        os.lseek(1, 0, os.SEEK_SET)
        _send(connection, {"begun": True})
        answer = translate(json.loads(line), log)
        answer["last"] = answer["crash"] is not None or _resident() > _MEMORY_BYTES
        sys.stdout.flush()
        sys.stderr.flush()
        _send(connection, answer)
        garbage = True


def _cython(name: str) -> Any:
    """A module of Cython, untyped: not every Cython has types, and what is used is internal."""
    return importlib.import_module(f"Cython.{name}")


def _send(connection: socket.socket, answer: dict[str, Any]) -> None:
    # The parent may be gone; then the next readline() finds out.
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(answer).encode("ascii") + b"\n")


def _readable(connection: socket.socket, seconds: float) -> bool:
    return bool(select.select([connection], [], [], seconds)[0])


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _end_with(parent: int) -> None:
    """End this process when the process `parent` has ended.

    The connection's end says so too, but not in the middle of a compile, and not while a process
    that `parent` forked has inherited the other end. (PR_SET_PDEATHSIG would not do: it fires when
    the *thread* that started this process ends; Linux, prctl(2).)
    """
    try:
        waiting = select.poll()
        waiting.register(os.pidfd_open(parent), select.POLLIN)
        waiting.poll()
    except ProcessLookupError:
        pass
    except (AttributeError, OSError):  # Linux before 5.3, other systems
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(parent, 0)
                time.sleep(2)
    os._exit(0)


# --- one translation -----------------------------------------------------------------------------


class _Log:
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


def _make_collectable() -> None:
    """Have the garbage collector see the instances of all classes.

    Cython leaves it out for a class without Python attributes (Cython 3.1 to 3.3,
    Compiler/Symtab.py, CClassScope.needs_gc; the same for the variables of a generator). But each
    instance refers to its class, and that to its module: a single one in a global variable, unseen,
    would keep the module for ever. A class with the directive `no_gc` stays as it is.
    """
    found = "_relib_has_cyclic_attrs"

    def get(scope: Any) -> bool:
        kind = scope.parent_type
        ours = not kind.is_external and not kind.is_builtin_type
        return ours or bool(vars(scope).get(found, False))

    def put(scope: Any, value: bool) -> None:
        vars(scope)[found] = value

    _cython("Compiler.Symtab").CClassScope.has_cyclic_pyobject_attrs = property(get, put)


def _name_in_full() -> None:
    """Have the comments in the C name their sources by absolute paths.

    They lead from an error in the C to the line that it was made of. Cython makes them relative to
    the working directory (Cython 3.1 to 3.3, Compiler/Scanning.py).
    """
    descriptor = _cython("Compiler.Scanning").FileSourceDescriptor
    descriptor.get_description = lambda source: source.filename


def translate(request: dict[str, Any], log: _Log) -> dict[str, Any]:
    """Translate one source.

    Args:
        request: "source", "name" (the full module name), "c_file", "cplus", "include_path",
            "directives" (name to value, which may be a text), "shared" (or None) and "sys_path".
        log: where Cython's reports arrive.

    Returns:
        "ok"; "diagnostics"; "dependencies", the files that were read; "absent", the files that
        were looked for in vain; "crash", a traceback if Cython itself failed; and "error", a pair
        of errno and file name, if a file could not be read or written.
    """
    compiler = _cython("Compiler.Main")
    log.found, log.crash = [], None
    sys.path[:] = request["sys_path"]
    read: dict[str, None] = {request["source"]: None}
    absent: dict[str, None] = {}
    answer: dict[str, Any] = {"ok": False, "error": None}

    class Context(compiler.Context):  # type: ignore[name-defined,misc]
        def parse(self, source_desc: Any, *args: Any, **kwargs: Any) -> Any:
            read[source_desc.filename] = None
            return super().parse(source_desc, *args, **kwargs)

        def find_include_file(self, *args: Any, **kwargs: Any) -> Any:
            path = super().find_include_file(*args, **kwargs)
            if path:
                read[path] = None
            return path

    with _fresh(), _witnessed(absent):
        try:
            options = compiler.Options.CompilationOptions(
                output_file=request["c_file"],
                cplus=request["cplus"],
                include_path=request["include_path"],
                compiler_directives=_directives(request["directives"]),
                shared_utility_qualified_name=request["shared"],
                errors_to_stderr=0,
                annotate=False,
            )
            result = compiler.compile_single(
                request["source"], options, request["name"], context=Context.from_options(options)
            )
            answer["ok"] = not result.num_errors and result.c_file is not None
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


def _installed() -> tuple[str, ...]:
    places = {*sysconfig.get_paths().values(), str(Path(str(_cython("Utils").__file__)).parent)}
    for place in map(Path, sys.path):
        if place.suffix in (".zip", ".egg") or place.name in (
            "site-packages",
            "dist-packages",
            "lib-dynload",
        ):
            places.add(str(place))
    return tuple(place + "/" for place in places)


@contextlib.contextmanager
def _fresh() -> Iterator[None]:
    """Leave no trace of one translation to the next.

    A context and options are made for each; what Cython keeps in its modules is the answers of its
    searches for files, which would hide a .pxd that has appeared (Utils.py, cached_function),
    global options (Compiler/Options.py), which the parser also sets for a moment, and names by
    scope, which keep everything of a module with an enum alive (Compiler/PyrexTypes.py,
    type_identifier_from_declaration).
    """
    errors, options, utils = (
        _cython("Compiler.Errors"),
        _cython("Compiler.Options"),
        _cython("Utils"),
    )
    utils.clear_function_caches()
    kept = dict(vars(options))
    directives = options.get_directive_defaults()
    defaults = dict(directives)
    try:
        yield
    finally:
        vars(options).clear()
        vars(options).update(kept)
        directives.clear()
        directives.update(defaults)
        getattr(_cython("Compiler.PyrexTypes"), "_type_identifier_cache", {}).clear()
        errors.reset()
        utils.clear_function_caches()


@contextlib.contextmanager
def _witnessed(absent: dict[str, None]) -> Iterator[None]:
    """Note the files that are looked for and are not there.

    That all go through os.path.exists is so in Cython 3.1 to 3.3 (Compiler/Main.py,
    search_include_directories; Utils.py, path_exists and find_versioned_file), but for the glob
    that looks for `name.cython-30.pxd`.
    """
    exists = os.path.exists

    def witness(path: Any) -> bool:
        found = exists(path)
        if not found and isinstance(path, str):
            absent[path] = None
        return found

    os.path.exists = witness
    try:
        yield
    finally:
        os.path.exists = exists


if __name__ == "__main__":
    main(int(sys.argv[1]))
