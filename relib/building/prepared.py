"""Python.h, read once: with a small source, tcc spends two thirds of its time on it.

What stands for a precompiled header, which tcc does not have, is the header's own preprocessed text
and after that its macros (``-E -dD``): no comments, no conditions, one file in place of a hundred.
It is kept in the user's cache directory, for each set of flags and of lines before the
``#include``, and holds for as long as all the files that it was made of are the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relib.building.depfiles import read_depfile
from relib.building.processes import run_all
from relib.config import cache_directory

__all__ = ["Prepared", "prepare"]

_KEPT = 24
_HEAD_BYTES = 1 << 15
_TIMEOUT = 60.0
"""Seconds; it takes a hundredth of one."""
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]Python\.h[>"][^\n]*\n', re.MULTILINE)
_BEGINS, _ENDS = "RELIB__PYTHON_BEGINS", "RELIB__PYTHON_ENDS"
_JOIN = "RELIB__JOIN"
_GUARD = "RELIB__PYTHON_IS_PREPARED"
# Strings are matched so that what looks like a comment in one is left alone.
_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|/\*.*?\*/|//[^\n]*', re.DOTALL)
_MACRO = re.compile(r"^#define (\w+)(?:\(([^)]*)\))?", re.MULTILINE)
_VARIADIC = re.compile(r"^(#define \w+\((?:[^)]*,)?)__VA_ARGS__\)")
_MARKER = re.compile(r'^# \d+ "([^"\n]+)".*\n', re.MULTILINE)
# Those that mean something to tcc, and are not in its preprocessed text (tcc 0.9.27, tccpp.c,
# pragma_parse).
_PRAGMA = re.compile(rb"^[ \t]*#[ \t]*pragma[ \t]+(?:pack|comment|option|p(?:ush|op)_macro)", re.M)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A directory whose Python.h says the same as the real one."""

    directory: Path
    """To be searched before all others."""
    header: Path
    """What a depfile names if it was read."""
    files: tuple[Path, ...]
    """What the depfile would name in its place."""


def prepare(
    source: Path, compiler: Sequence[str], flags: Sequence[str], cwd: Path, store: Path
) -> Prepared | None:
    """The prepared Python.h for a C source, made if it is not there.

    None if the source does not begin as nearly all do, with macros and headers of the system, or if
    anything else makes it doubtful that the result would be the same.

    Args:
        source: the C file.
        compiler: tcc.
        flags: those that have to do with preprocessing.
        cwd: the directory that it runs in, the project's root.
        store: where other files of this build are, too.
    """
    lead = _lead(source)
    if lead is None or os.environ.get("C_INCLUDE_PATH") or os.environ.get("CPATH"):
        return None
    # The project's own directories have nothing to do with it: where they have, there is none.
    inside = [flag for flag in flags if flag.startswith("-I") and _is_inside(flag[2:], cwd, store)]
    flags = [flag for flag in flags if flag not in inside]
    question = [2, _signature(shutil.which(compiler[-1])), list(compiler), flags, lead]
    key = hashlib.sha256(json.dumps(question).encode()).hexdigest()[:32]
    try:
        directory = cache_directory() / "headers" / key
        record = _record(directory)
        if record is None or not _holds(record):
            record = _make(directory, lead, compiler, flags, cwd)
    except (OSError, RuntimeError):  # no room, or no home: it is only quicker
        return None
    if not record["usable"] or _is_hidden(record, inside, cwd):
        return None
    files = tuple(map(Path, record["listed"]))
    return Prepared(directory, directory / "Python.h", files)


def _is_inside(directory: str, root: Path, store: Path) -> bool:
    whole = os.path.normpath(os.path.join(root, directory)) + os.sep  # noqa: PTH118
    return whole.startswith((f"{root}{os.sep}", f"{store}{os.sep}"))


def _lead(source: Path) -> str | None:
    """The directives before the source includes Python.h; None if there is more than those."""
    try:
        with source.open("rb") as file:
            head = file.read(_HEAD_BYTES).decode("utf-8", "replace").replace("\r\n", "\n")
    except OSError:
        return None
    found = _INCLUDE.search(head)
    if found is None:
        return None
    text = _COMMENT.sub(lambda each: each[0] if each[0][0] == '"' else " ", head[: found.start()])
    lines = [line.strip() for line in text.replace("\\\n", " ").split("\n")]
    lines = [line for line in lines if line]
    for line in lines:
        # What the project's own headers say changes too often.
        if not line.startswith("#") or re.match(r"#\s*include\s*[^<\s]", line):
            return None
    return "".join(f"{line}\n" for line in lines)


# --- what is kept --------------------------------------------------------------------------------

_records: dict[Path, dict[str, Any]] = {}


def _record(directory: Path) -> dict[str, Any] | None:
    if directory in _records and (directory / "Python.h").exists():
        return _records[directory]
    try:
        if directory.stat().st_uid != os.geteuid():  # what is in it becomes part of programs
            return None
        record: dict[str, Any] = json.loads((directory / "record.json").read_bytes())
    except (OSError, ValueError):
        return None
    _records[directory] = record
    return record


def _signature(path: str | None) -> list[object] | None:
    if path is None:
        return None
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return [path, status.st_size, status.st_mtime_ns, status.st_ino]


def _holds(record: dict[str, Any]) -> bool:
    """Whether all the files that it was made of are as they were."""
    return all(_signature(entry[0]) == entry for entry in record["files"])


def _is_hidden(record: dict[str, Any], inside: Sequence[str], cwd: Path) -> bool:
    """Whether a directory of the project has a file that one of the headers may mean by now."""
    names = {part for entry in record["files"] for part in _searched(entry[0])}
    for flag in inside:
        with contextlib.suppress(OSError):
            there = os.listdir(os.path.join(cwd, flag[2:]))  # noqa: PTH118, PTH208
            if not names.isdisjoint(there):
                return True
    return False


def _searched(path: str) -> Iterable[str]:
    """The file's name, and those of directories that an #include of it may name.

    >>> _searched("/usr/include/bits/types.h")
    ['bits', 'types.h']
    """
    return path.rpartition("/include/")[2].strip("/").split("/")


# --- making one ----------------------------------------------------------------------------------


def _make(
    directory: Path, lead: str, compiler: Sequence[str], flags: Sequence[str], cwd: Path
) -> dict[str, Any]:
    headers = directory.parent
    headers.mkdir(0o700, parents=True, exist_ok=True)
    _make_room(headers)
    work = Path(tempfile.mkdtemp(prefix="new-", dir=headers))
    try:
        record = _made(work, lead, compiler, flags, cwd)
        (work / "record.json").write_text(json.dumps(record), "ascii")
        with contextlib.suppress(OSError):  # there is none, or another process was quicker
            directory.rename(work / "old")
        with contextlib.suppress(OSError):
            work.rename(directory)
        shutil.rmtree(directory / "old", ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _records[directory] = record
    return record


def _made(
    work: Path, lead: str, compiler: Sequence[str], flags: Sequence[str], cwd: Path
) -> dict[str, Any]:
    probe, plain, depfile = (work / name for name in ("0.c", "0.h", "0.d"))
    probe.write_text(
        f"{lead}#define {_JOIN}(a,b) a##b\n"
        f"#define {_BEGINS} 1\n#include <Python.h>\n#define {_ENDS} 1\n"
    )

    def preprocess(source: Path, output: Path, *options: str) -> list[str]:
        return [*compiler, *options, *flags, "-E", str(source), "-o", str(output)]

    objects = ["-c", str(probe), "-o", str(work / "0.o"), "-MD", "-MF", str(depfile)]
    record: dict[str, Any] = {"usable": False, "files": [], "listed": []}
    if not _run([preprocess(probe, plain, "-dD"), [*compiler, *flags, *objects]], cwd):
        return record
    text, macros = _between(plain)
    paths = dict.fromkeys(os.path.join(cwd, name) for name in _MARKER.findall(text))  # noqa: PTH118
    paths.pop(str(probe), None)
    # A directory is another one when a file appears in it.
    places = [flag[2:] for flag in flags if flag.startswith("-I") and Path(flag[2:]).is_dir()]
    record["files"] = [_signature(path) for path in (*paths, *places)]
    record["listed"] = [
        str(path) for path in read_depfile(depfile, base=cwd, escaped=False) if path != probe
    ]
    known = set(paths)
    if None in record["files"] or any(_PRAGMA.search(Path(path).read_bytes()) for path in paths):
        return record
    if not known.issuperset(path for path in record["listed"] if path.endswith("/Python.h")):
        return record
    header = work / "Python.h"
    header.write_text(f"#ifndef {_GUARD}\n#define {_GUARD} 1\n{text}\n{macros}#endif\n")
    # Both must mean the same: the text, and each macro where it is used.
    uses, real, prepared = work / "1.c", work / "1.h", work / "2.h"
    uses.write_text(f"{lead}#include <Python.h>\n{_uses(macros)}")
    if _run([preprocess(uses, real), preprocess(uses, prepared, f"-I{work}")], cwd):
        record["usable"] = _words(real) == _words(prepared)
    for path in (probe, plain, depfile, uses, real, prepared, work / "0.o"):
        path.unlink(missing_ok=True)
    return record


def _run(commands: Sequence[Sequence[str]], cwd: Path) -> bool:
    results = run_all(commands, jobs=2, timeout=_TIMEOUT, cwd=cwd, brief=True)
    return all(result is not None and result.returncode == 0 for result in results)


def _between(preprocessed: Path) -> tuple[str, str]:
    """What Python.h makes: its text, in which all macros have been replaced, and the macros.

    The macros have to come after the text. Many functions of Python's are also macros that call
    the function (``#define Py_TYPE(ob) Py_TYPE(_PyObject_CAST(ob))``), and a call would be replaced
    a second time.
    """
    all_of_it = preprocessed.read_text("utf-8", "replace")
    before, _, rest = all_of_it.partition(f"#define {_BEGINS} 1\n")
    joined = re.search(rf"#define {_JOIN}\(a,b\) a(.*)b\n", before)
    text, macros = [], []
    for line in rest.partition(f"#define {_ENDS} 1")[0].split("\n"):
        is_macro = line.startswith(("#define ", "#undef "))
        text.append("" if is_macro else line)  # the lines keep their numbers
        if is_macro:
            # tcc 0.9.27 writes two things otherwise than it reads them (tccpp.c, define_print): ##
            # as the number that stands for it, and ... as __VA_ARGS__.
            if joined is not None:
                line = line.replace(joined[1], "##")
            macros.append(_VARIADIC.sub(r"\1...)", line) + "\n")
    return "\n".join(text), "".join(macros)


def _uses(macros: str) -> str:
    """C in which each macro is used once."""
    lines = []
    for number, macro in enumerate(_MACRO.finditer(macros)):
        name, parameters = macro.groups()
        count = 0 if not parameters else parameters.count(",") + 1
        arguments = ", ".join(f"relib_{number}_{each}" for each in range(count))
        lines.append(f"relib_{number} {name}{'' if parameters is None else f'({arguments})'};\n")
    return "".join(lines)


def _words(preprocessed: Path) -> list[str]:
    return _MARKER.sub("", preprocessed.read_text("utf-8", "replace")).split()


def _make_room(headers: Path) -> None:
    """Let go of those that were made first, and of what is left of processes that were killed."""
    there = sorted(headers.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    for path in there[: -_KEPT + 1]:
        shutil.rmtree(path, ignore_errors=True)
