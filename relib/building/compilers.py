"""Which compiler a command really starts, whatever wrappers, launchers and links are between."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from relib.building import probes
from relib.building.processes import compiler_environment
from relib.errors import CompilerMissing

__all__ = ["Compiler", "identify", "programs"]

# Asking a compiler for its version takes milliseconds; a distcc or a network drive may take longer.
_PATIENCE = 60.0

_INSTALL = {
    "c": "Debian and Ubuntu: apt install gcc libc6-dev; Fedora: dnf install gcc; "
    "Alpine: apk add gcc musl-dev",
    "c++": "Debian and Ubuntu: apt install g++; Fedora: dnf install gcc-c++; Alpine: apk add g++",
}
_COMMON = {"c": ("gcc", "clang", "tcc", "cc"), "c++": ("g++", "clang++", "c++")}


@dataclass(frozen=True, slots=True)
class Compiler:
    """What a compiler command turned out to be."""

    family: str
    """``"gcc"``, ``"clang"``, ``"tcc"`` or ``"other"``."""
    version: str
    """The first line of what it says about its version."""
    major: int
    """The major version of gcc or clang; 0 for others."""
    knows_gnu_unique: bool
    """Whether it takes -fno-gnu-unique."""
    files: tuple[tuple[str, int, int], ...]
    """Path, size and time of change (ns) of each program it consists of."""


_Signature = tuple[str, int, int]
_known: dict[tuple[str, tuple[str, ...], tuple[_Signature, ...]], Compiler] = {}


def programs(command: Sequence[str], path: str | None) -> list[Path]:
    """The files that a compiler command names: launchers, then the compiler.

    >>> [program.name for program in programs(["env", "sh", "-x"], "/usr/bin:/bin")]
    ['env', 'sh']
    """
    found = []
    for word in command:
        if word.startswith("-"):
            break
        if (program := shutil.which(word, path=path)) is not None:
            found.append(Path(program))
    return found


def identify(
    command: Sequence[str], language: str, environ: Mapping[str, str], *, origin: str
) -> Compiler:
    """Find out what compiler a command is, by asking it.

    The answer is remembered for as long as none of the programs changes: those the command names,
    and the one that does the work behind a wrapper.

    Args:
        command: the compiler with its launchers and arguments, as in CC or CXX.
        language: ``"c"`` or ``"c++"``.
        environ: the environment to run it in.
        origin: where the command was set, for the message.

    Raises:
        CompilerMissing: it is not there, or does not compile this language.
    """
    named = programs(command, environ.get("PATH"))
    if not command or shutil.which(command[0], path=environ.get("PATH")) is None:
        raise _missing(command, language, environ, origin, "is not there")
    signatures = tuple(_signature(program) for program in named)
    key = (language, tuple(command), signatures)
    known = _known.get(key)
    if known is not None and all(_signature(Path(file[0])) == file for file in known.files):
        return known
    question = [language, list(command), signatures, environ.get("PATH")]
    told = probes.recall(question, named)
    compiler = None if told is None else _restored(told)
    if compiler is None:
        compiler = _ask(command, language, environ, signatures, origin)
        probes.remember(question, named, asdict(compiler))
    _known[key] = compiler
    return compiler


def _restored(told: Mapping[str, Any]) -> Compiler | None:
    """A compiler as it was kept; None if it is another one now."""
    try:
        files = tuple((path, size, time) for path, size, time in told["files"])
        compiler = Compiler(**{**told, "files": files})
    except (TypeError, ValueError, KeyError):
        return None
    return compiler if all(_signature(Path(file[0])) == file for file in files) else None


def _ask(
    command: Sequence[str],
    language: str,
    environ: Mapping[str, str],
    signatures: tuple[_Signature, ...],
    origin: str,
) -> Compiler:
    # What it prints tells whether it worked: in a host that ignores SIGCHLD every status is 0.
    question = ["-dM", "-E", "-x", language, os.devnull]
    # One run tells the macros and whether the option is known: clang fails on it.
    unique = language == "c++"
    asked = _run([*command, *(["-fno-gnu-unique"] if unique else []), *question], environ)
    macros = _macros(asked.stdout)
    if unique and not macros:
        unique = False
        asked = _run([*command, *question], environ)
        macros = _macros(asked.stdout)
    told = _run([*command, "--version"], environ)
    version = next(iter(told.stdout.splitlines()), "").strip()
    if not macros and not version:
        raise _missing(command, language, environ, origin, f"fails: {_first_line(asked)}")
    if language == "c++" and ("__cplusplus" not in macros or "__TINYC__" in macros):
        raise _missing(command, language, environ, origin, "does not compile C++")
    family, major = _family(macros)
    proper = {"gcc": "cc1plus" if language == "c++" else "cc1", "clang": "clang"}.get(family)
    files = dict.fromkeys(signatures)
    if proper is not None:
        # A wrapper script, or ccache under the name of gcc, does not change when the compiler does.
        asked = _run([*command, f"-print-prog-name={proper}"], environ)
        path = Path(asked.stdout.strip())
        if path.is_absolute() and path.is_file():
            files[_signature(path)] = None
    return Compiler(family, version, major, unique, tuple(files))


def _macros(output: str) -> dict[str, str]:
    return dict(re.findall(r"^#define (\w+) (.*)$", output, re.MULTILINE))


def _family(macros: Mapping[str, str]) -> tuple[str, int]:
    if "__TINYC__" in macros:
        return "tcc", 0
    if "__clang__" in macros:
        return "clang", _number(macros.get("__clang_major__"))
    # icc and nvc call themselves GNU C too
    if "__GNUC__" in macros and not {"__INTEL_COMPILER", "__NVCOMPILER"} & macros.keys():
        return "gcc", _number(macros["__GNUC__"])
    return "other", 0


def _number(text: str | None) -> int:
    return int(text) if text is not None and text.isdecimal() else 0


def _signature(program: Path) -> _Signature:
    resolved = os.path.realpath(program)
    try:
        status = Path(resolved).stat()
    except OSError:
        return resolved, 0, 0
    return resolved, status.st_size, status.st_mtime_ns


def _run(command: list[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=compiler_environment(environ),
            encoding="utf-8",
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer for {_PATIENCE:g} s")
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", str(error))


def _first_line(asked: subprocess.CompletedProcess[str]) -> str:
    lines = (asked.stderr or asked.stdout).strip().splitlines()
    return lines[0] if lines else f"exit status {asked.returncode}"


def _missing(
    command: Sequence[str], language: str, environ: Mapping[str, str], origin: str, what: str
) -> CompilerMissing:
    variable, title = ("CXX", "C++") if language == "c++" else ("CC", "C")
    there = list(_others(command, language, environ))
    remedy = (
        f"Set {variable} to one that is there ({', '.join(f'{variable}={name}' for name in there)})"
        if there
        else f"Install one ({_INSTALL[language]}), or set {variable} to one"
    )
    return CompilerMissing(
        f"No {title} compiler: {' '.join(command)!r} ({origin}) {what}. {remedy}.",
        name="",
        command=command,
    )


def _others(command: Sequence[str], language: str, environ: Mapping[str, str]) -> Iterator[str]:
    for name in _COMMON[language]:
        if name not in command and shutil.which(name, path=environ.get("PATH")) is not None:
            yield name
