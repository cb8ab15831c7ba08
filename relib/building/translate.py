"""Cython source to C, by the Cython that is installed, in a process of its own."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relib.building.diagnostics import Diagnostic
from relib.building.pool import Died, Expired, pool, search_path
from relib.config import Config
from relib.declared.module_name import package_root
from relib.errors import (
    BuildError,
    BuildTimeout,
    DiskFull,
    RelibError,
    SourceMissing,
    SourceUnreadable,
    WorkerDied,
)
from relib.extension import Extension

__all__ = ["DEFAULT_SHARED", "Translation", "cython_version", "prepare", "translate"]

DEFAULT_SHARED = "relib._anchor.shared_{version}"
"""The module that has Cython's memoryviews and helper code for all modules, by Cython version."""


@dataclass(frozen=True, slots=True)
class Translation:
    """What became of one source."""

    c_file: Path
    dependencies: tuple[Path, ...]
    """The files that were read, the source first."""
    absent: tuple[Path, ...]
    """Files that were looked for and are not there: if one appears, the translation may differ."""
    diagnostics: tuple[Diagnostic, ...]
    """Warnings and notes."""


def translate(
    extension: Extension,
    source: Path,
    c_file: Path,
    *,
    config: Config,
    shared: str | None = DEFAULT_SHARED,
) -> Translation:
    """Translate one Cython source.

    Args:
        extension: what the source is part of: gives the module name, the language, directives and
            the search path.
        source: a .pyx file, or a .py file in pure Python mode.
        c_file: where to write the C, or C++; its directory is there. `.h` files for public
            declarations are written beside it.
        config: gives directives (the extension's own come first), and the time it may take.
        shared: the module that has Cython's helper code, with `{version}` for Cython's version as
            in a name (`3_3_1`); None: the helper code becomes part of the C.

    Raises:
        SourceMissing: `source`, or a file that it includes, is not there.
        SourceUnreadable: one of them cannot be read.
        BuildTimeout: it took longer than `config.compile_timeout`.
        WorkerDied: the process that translates ended; the next call starts another.
        DiskFull: there was no room for the C.
        BuildError: there are errors; all that Cython found, as diagnostics.

    >>> import tempfile
    >>> from relib.config import load_config
    >>> directory = Path(tempfile.mkdtemp())
    >>> source = directory / "fast.pyx"
    >>> _ = source.write_text("cpdef int twice(int x): return 2 * x")
    >>> fast, config = Extension("fast", (source,)), load_config(directory)
    >>> done = translate(fast, source, directory / "fast.c", config=config)
    >>> done.c_file.name, [path.name for path in done.dependencies]
    ('fast.c', ['fast.pyx'])
    """
    source, c_file = source.absolute(), c_file.absolute()
    version = cython_version()
    if shared is not None:
        shared = shared.format(version="".join(c if c.isalnum() else "_" for c in version))
    places = map(str, (*extension.cython_include_path, package_root(source), config.root))
    request = {
        "source": str(source),
        "name": extension.name,
        "c_file": str(c_file),
        "cplus": extension.language == "c++",
        "include_path": list(dict.fromkeys(str(config.root / place) for place in places)),
        "directives": {
            name: value if isinstance(value, bool | int | None) else str(value)
            for name, value in (*config.directives, *extension.directives)
        },
        "shared": shared,
        "sys_path": search_path(),
    }
    try:
        answer = pool.ask(
            request, version=version, timeout=config.compile_timeout, jobs=config.jobs
        )
    except Died as died:
        _remove(c_file)
        raise WorkerDied(
            f"{source}: the process that translates Cython ended: {died.reason}. The next build "
            "starts a new one.",
            name=extension.name,
            output=died.output,
        ) from None
    except Expired as expired:
        _remove(c_file)
        raise BuildTimeout(
            f"{source}: Cython took longer than compile_timeout = {config.compile_timeout:g} "
            "seconds and was ended",
            name=extension.name,
            output=expired.output,
        ) from None
    diagnostics = _diagnostics(answer["diagnostics"], source)
    if not answer["ok"]:
        _remove(c_file)
        raise _failure(extension.name, source, answer, diagnostics)
    return Translation(
        c_file=c_file,
        dependencies=_paths(answer["dependencies"]),
        absent=_paths(answer["absent"]),
        diagnostics=diagnostics,
    )


def prepare() -> None:
    """Start the process that translates, without waiting for it.

    Whoever knows that a translation is to come saves it half a second so.
    """
    pool.prepare(cython_version())


def cython_version() -> str:
    """The version of the Cython that is installed; it is not imported for that.

    Raises:
        BuildError: there is none.
    """
    # To look it up takes milliseconds. Whoever installs another one changes the directory that the
    # packages are in, or puts one in front.
    places = tuple(entry for entry in sys.path if isinstance(entry, str))
    times = []
    for place in places:
        try:
            times.append(os.stat(place or ".").st_mtime_ns)  # noqa: PTH116
        except OSError:
            times.append(0)
    key = (places, tuple(times))
    known = _versions.get("Cython")
    if known is None or known[0] != key:
        try:
            known = _versions["Cython"] = (key, importlib.metadata.version("Cython"))
        except importlib.metadata.PackageNotFoundError:
            raise BuildError(
                "Cython is not installed for this Python: pip install Cython", name="Cython"
            ) from None
    return known[1]


_versions: dict[str, tuple[object, str]] = {}


def _diagnostics(found: Iterable[dict[str, Any]], source: Path) -> tuple[Diagnostic, ...]:
    """Cython's reports by line, each once, without the crashes that followed from errors."""
    entries = sorted(found, key=lambda entry: (entry["file"] or "", entry["line"], entry["column"]))
    if any(entry["severity"] == "error" for entry in entries):
        entries = [entry for entry in entries if entry["severity"] != "crash"]
    diagnostics = (
        Diagnostic(
            file=Path(entry["file"] or source),
            line=entry["line"],
            column=entry["column"],
            severity="error" if entry["severity"] == "crash" else entry["severity"],
            message=entry["message"],
            source=entry["source"],
        )
        for entry in entries
    )
    return tuple(dict.fromkeys(diagnostics))


def _failure(
    name: str, source: Path, answer: dict[str, Any], diagnostics: tuple[Diagnostic, ...]
) -> RelibError:
    """The error that says why there is no C."""
    if answer["error"] is not None:
        number, reason, file = answer["error"]
        if number in (errno.ENOSPC, errno.EDQUOT):
            return DiskFull(f"{source}: no room for its C: {reason} ({file})", name=name)
        if not file or file not in answer["dependencies"]:
            return BuildError(f"{source}: {reason} ({file})", name=name, output=answer["output"])
        return _missing(Path(file)) if number == errno.ENOENT else _unreadable(Path(file), reason)
    errors = [diagnostic for diagnostic in diagnostics if diagnostic.severity == "error"]
    message = f"{source}: Cython reports no error and made no C"
    if errors:
        first = errors[0]
        place = ":".join([str(first.file), *(str(n) for n in (first.line, first.column) if n)])
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        message = f"{place}: {first.message}{more}"
    output = answer["output"]
    if answer["crash"] is not None:
        output += answer["crash"]
    return BuildError(message, name=name, diagnostics=diagnostics, output=output)


def _missing(path: Path) -> SourceMissing:
    return SourceMissing(f"{path} is not there", path=path)


def _unreadable(path: Path, reason: str | None) -> SourceUnreadable:
    return SourceUnreadable(f"{path} cannot be read: {reason}", path=path)


def _paths(names: Iterable[str]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(map(Path, names)))


def _remove(c_file: Path) -> None:
    with contextlib.suppress(OSError):
        c_file.unlink()
