"""Why a compiler failed, as the error that says it best."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from relib.building.diagnostics import Diagnostic
from relib.building.processes import Finished
from relib.errors import BuildError, BuildTimeout, CompilerMissing, DiskFull

__all__ = ["command_failed", "compiler_gone", "system_failed"]

_NO_ROOM = re.compile(
    # at the end of a message, and not in a line of source that gcc quotes
    r"^(?!\s*\d* \|).*[:'] ?(?:No space left on device|Disk quota exceeded)'?$",
    re.MULTILINE,
)
_NO_HEADERS = re.compile(r"\bPython\.h\b.*(?:No such file|not found)")


class _Facts(TypedDict):
    name: str
    diagnostics: Sequence[Diagnostic]
    command: Sequence[str]
    output: str


def command_failed(
    name: str,
    step: str,
    results: Sequence[Finished],
    diagnostics: Sequence[Diagnostic],
    *,
    workdir: Path,
    timeout: float,
) -> BuildError:
    """The error for compilers that failed, ran out of time, or left nothing usable.

    Args:
        name: the extension's.
        step: what it does not do: ``"compile"`` or ``"link"``.
        results: the commands that failed, at least one.
        diagnostics: what they said.
        workdir: where they wrote.
        timeout: the seconds that they had.
    """
    output = "\n".join(result.output for result in results)
    late = next((result for result in results if result.expired), None)
    facts: _Facts = {
        "name": name,
        "diagnostics": diagnostics,
        "command": (late or results[0]).command,
        "output": output,
    }
    errors = [d for d in diagnostics if d.severity == "error"]
    # tcc says nothing when it cannot write
    if _NO_ROOM.search(output) or (not errors and _is_full(workdir)):
        return _no_room(workdir, facts)
    if late is not None:
        return BuildTimeout(
            f"{name} does not {step}: {late.command[0]} took longer than {timeout:g} s and was "
            "ended. If it needs more, set compile-timeout in [tool.relib], or "
            "RELIB_COMPILE_TIMEOUT.",
            **facts,
        )
    return BuildError(f"{name} does not {step}: {_reason(errors, results[0])}", **facts)


def system_failed(name: str, step: str, error: OSError, *, workdir: Path) -> BuildError:
    """The error for a file or a process that the system refused."""
    facts: _Facts = {"name": name, "diagnostics": (), "command": (), "output": ""}
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _no_room(workdir, facts)
    return BuildError(f"{name} does not {step}: {error}", **facts)


def compiler_gone(name: str, command: Sequence[str]) -> CompilerMissing:
    """The error for a compiler that was there when it was asked for its version."""
    return CompilerMissing(
        f"{name} does not compile: {command[0]} is not there any more. Install it again, or set CC "
        "or CXX to another compiler.",
        name=name,
        command=command,
    )


def _no_room(workdir: Path, facts: _Facts) -> DiskFull:
    return DiskFull(
        f"{facts['name']}: there is no room to build in {workdir}, or in the compiler's temporary "
        "directory ($TMPDIR). Make room and build again.",
        **facts,
    )


def _reason(errors: Sequence[Diagnostic], result: Finished) -> str:
    program = result.command[0]
    if _NO_HEADERS.search(result.output):
        return (
            "Python's headers (Python.h) are not installed. Debian and Ubuntu: apt install "
            "python3-dev; Fedora: dnf install python3-devel; Alpine: apk add python3-dev."
        )
    if errors:
        first = errors[0]
        place = ":".join([str(first.file), *(str(n) for n in (first.line, first.column) if n)])
        more = len(errors) - 1
        return f"{place}: {first.message}" + (
            f" (and {more} more error{'s' if more > 1 else ''})" if more else ""
        )
    if result.returncode < 0:
        return (
            f"{program} was ended by {_signal(-result.returncode)}; the memory may have run out "
            "(fewer jobs need less of it)."
        )
    if result.returncode == 0:
        return f"{program} reports success, but has made no whole file."
    last = [line for line in result.output.splitlines() if line.strip()][-3:]
    return " / ".join([f"{program} failed with exit status {result.returncode}", *last])


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _is_full(directory: Path) -> bool:
    try:
        room = os.statvfs(directory)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < 4096
