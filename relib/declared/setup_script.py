"""Finds out which extensions a setup.py declares, without building any.

The script is run (there is no other way to know) in a process of its own by
relib.declared.setup_runner, and run again only when something that it read has changed. For Cython
sources that is not their whole contents, or every edit would cost the second that a setup.py takes:
it is their headers, cimports and includes, which is all that cythonize() reads in them.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relib.building.processes import run_all
from relib.declared.source_facts import read_facts
from relib.errors import ProjectError
from relib.extension import CYTHON_SUFFIXES, SOURCE_SUFFIXES
from relib.file_paths import absolute

__all__ = ["DeclaredBySetup", "files_read", "read_setup_script"]

_RUNNER = Path(__file__).with_name("setup_runner.py")
# What the script, and the setuptools that it calls, are steered by, whether or not they are there.
_ALWAYS_READ = ("setup.py", "setup.cfg", "pyproject.toml")
_CYTHON_TEXT = (".pyx", ".pxd", ".pxi")
_LISTED_SUFFIXES = {*SOURCE_SUFFIXES, *_CYTHON_TEXT, ".h", ".hpp", ".in"}
_OUTPUT_LINES = 15


@dataclass(frozen=True, slots=True)
class DeclaredBySetup:
    """What one run of a setup.py declared."""

    extensions: tuple[Mapping[str, Any], ...]
    """For each its "name", its "fields" as written, and whether the source's "header_joined" them
    already."""
    directory: Path
    """Where its relative paths start."""


_Signature = dict[str, object]

_remembered: dict[Path, tuple[_Signature, dict[str, Any], DeclaredBySetup]] = {}
_locks: dict[Path, threading.Lock] = {}

# Other threads may have held them when this process was forked.
os.register_at_fork(after_in_child=_locks.clear)


def read_setup_script(root: Path, timeout: float) -> DeclaredBySetup | None:
    """Return what setup.py in `root` declares; None when there is none.

    Args:
        root: the project's root.
        timeout: seconds that the script may take.

    Raises:
        ProjectError: the script raises, exits with an error, or takes too long.
    """
    script = root / "setup.py"
    if not script.is_file():
        return None
    # two threads that want it at once: the second takes what the first has found
    with _locks.setdefault(root, threading.Lock()):
        if root in _remembered:
            signature, result, declared = _remembered[root]
            if _signature(root, result) == signature:
                return declared
            del _remembered[root]
        before = _fixed_part(root)
        result = _run(script, timeout)
        declared = DeclaredBySetup(tuple(result["extensions"]), Path(result["cwd"]))
        # with what these files were before the run: an edit in its middle makes the next one anew
        _remembered[root] = ({**_signature(root, result), **before}, result, declared)
        return declared


def files_read(root: Path) -> tuple[Path, ...]:
    """Return the files that setup.py in `root` read when it was last run, but for the sources.

    >>> files_read(Path("/nowhere"))
    ()
    """
    remembered = _remembered.get(root)
    if remembered is None:
        return ()
    # of a source, what cythonize() would read is kept, and not its digest
    return tuple(
        Path(name)
        for name, kept in remembered[0].items()
        if not name.endswith("/") and isinstance(kept, str | None)
    )


def _run(script: Path, timeout: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="relib-setup-") as directory:
        result_path = Path(directory, "result.json")
        command = [sys.executable, "-P", str(_RUNNER), str(script.parent), str(result_path)]
        # It writes into a file, not a pipe: a process that the script leaves behind would keep a
        # pipe open, and reading it would wait for that process.
        [ended] = run_all([command], jobs=1, timeout=timeout, cwd=script.parent, brief=True)
        assert ended is not None
        if ended.expired:
            message = (
                f"{script}: took longer than {timeout:g} s to say what it declares; "
                "see the setting compile-timeout"
            )
            raise ProjectError(message, path=script)
        status, printed = ended.returncode, ended.output
        try:
            result: dict[str, Any] = json.loads(result_path.read_bytes())
        except (OSError, ValueError):
            message = f"{script}: ended with status {status} before it said what it declares"
            raise ProjectError(_with_output(message, printed), path=script) from None
    if "error" in result:
        error = result["error"]
        place = f"{script}:{error['line']}" if error["line"] else str(script)
        message = _with_output(f"{place}: {error['summary']}", printed + error["traceback"])
        raise ProjectError(message, path=script, line=error["line"])
    return result


def _with_output(message: str, printed: str) -> str:
    lines = printed.rstrip().splitlines()[-_OUTPUT_LINES:]
    return "\n".join([message, *(f"    {line}" for line in lines)])


def _signature(root: Path, result: Mapping[str, Any]) -> _Signature:
    """Return what the run with this result depended on, as it is now."""
    base = Path(result["cwd"])
    sources = {
        str(absolute(base / source))
        for extension in result["extensions"]
        for source in extension["fields"]["sources"]
    }
    imported = set(result["imported"])
    signature = _fixed_part(root)
    for name in result["read"]:
        path = Path(_source_of_bytecode(name))
        # by PYTHONPYCACHEPREFIX a .pyc may be in the project, and its source elsewhere
        if not path.is_relative_to(root) or not _is_of_project(path.relative_to(root).parts):
            continue
        as_cython = path.suffix in _CYTHON_TEXT or (
            path.suffix in CYTHON_SUFFIXES and str(path) in sources - imported
        )
        signature.setdefault(str(path), _facts(path) if as_cython else _digest(path))
    for name in {*result["listed"], *(os.path.dirname(s) for s in sources)}:  # noqa: PTH120
        path = Path(name)
        if not path.is_relative_to(root) or _is_of_project(path.relative_to(root).parts):
            signature[f"{name}/"] = _listing(path)
    return signature


def _fixed_part(root: Path) -> _Signature:
    return {str(root / name): _digest(root / name) for name in _ALWAYS_READ}


def _is_of_project(parts: Iterable[str]) -> bool:
    """Say whether a path below the root is the project's own, and not an environment's, say."""
    return not any(
        part.startswith(".") or part in ("__pycache__", "site-packages", "node_modules")
        for part in parts
    )


def _source_of_bytecode(name: str) -> str:
    if name.endswith(".pyc"):
        try:
            return importlib.util.source_from_cache(name)
        except ValueError:
            pass
    return name


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _facts(path: Path) -> object:
    try:
        return read_facts(path)
    except (OSError, ProjectError):
        return _digest(path)


def _listing(directory: Path) -> frozenset[str]:
    """Return the names that a script that lists the directory may be interested in."""
    names = set()
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                name = entry.name
                if os.path.splitext(name)[1] in _LISTED_SUFFIXES:  # noqa: PTH122
                    names.add(name)
                elif entry.is_dir() and _is_of_project([name]) and name not in ("build", "dist"):
                    names.add(name + "/")
    except OSError:
        pass
    return frozenset(names)
