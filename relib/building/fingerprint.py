"""What a build depends on, as one hash: contents, never times.

Two steps. The *recipe* stands for all that is not a file's contents: flags, compiler, Cython,
Python, the extension's fields. The *fingerprint* is the recipe and the contents of every input.

Paths under the project's root enter relative to it, so that a C or C++ build still serves when its
checkout was moved, or came out of a cache with its store; only paths in its debug information then
name the old place. A Cython module shows the paths of its sources in tracebacks, and they are
compiled in: there the root counts, and a moved checkout is built again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import sysconfig
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relib.building.anchor import RELOADABLE_MACROS
from relib.building.toolchain import Toolchain, python_includes, python_libraries
from relib.building.translate import cython_version

if TYPE_CHECKING:
    from relib.config import Config
    from relib.extension import Extension

__all__ = [
    "BUILD_VERSION",
    "Contents",
    "State",
    "absolute",
    "fingerprint",
    "located",
    "portable",
    "recipe_hash",
    "recipe_parts",
]

BUILD_VERSION = 2
"""relib's own build version: raised whenever what a build makes of the same inputs changes."""

RACY_NS = 2_000_000_000
"""How old a change must be, in nanoseconds, before a file's times can vouch for its contents.

The coarsest time stamps in use are two seconds apart (FAT); a second change within one step leaves
times and perhaps size as they were, which git calls "racily clean".
"""

# What gcc and clang read besides their arguments (gcc manual, "Environment Variables Affecting
# GCC"; clang manual, "ENVIRONMENT").
_ENVIRONMENT = (
    "C_INCLUDE_PATH",
    "COMPILER_PATH",
    "CPATH",
    "CPLUS_INCLUDE_PATH",
    "GCC_EXEC_PREFIX",
    "LIBRARY_PATH",
    "SOURCE_DATE_EPOCH",
)


def portable(path: str | os.PathLike[str], root: Path) -> str:
    """`path` as a fingerprint spells it: relative to `root` when it is below it.

    >>> portable("/src/pkg/fast.pyx", Path("/src")), portable("/usr/include/math.h", Path("/src"))
    ('pkg/fast.pyx', '/usr/include/math.h')
    """
    text = os.fspath(path)
    prefix = os.path.join(root, "")  # noqa: PTH118  # a Path drops the final slash
    return text[len(prefix) :] if text.startswith(prefix) and text != prefix else text


def located(text: str, root: Path) -> Path:
    """The path that `portable` spelt as `text`.

    >>> located("pkg/fast.pyx", Path("/src")), located("/usr/include/math.h", Path("/src"))
    (PosixPath('/src/pkg/fast.pyx'), PosixPath('/usr/include/math.h'))
    """
    return root / text


def absolute(text: str, root: Path) -> str:
    """The same as a text; where there are hundreds, Paths would take most of the time.

    >>> absolute("pkg/fast.pyx", Path("/src")), absolute("/usr/include/math.h", Path("/src"))
    ('/src/pkg/fast.pyx', '/usr/include/math.h')
    """
    return text if text.startswith("/") else os.path.join(root, text)  # noqa: PTH118


def recipe_parts(extension: Extension, toolchain: Toolchain, config: Config) -> dict[str, object]:
    """All that a build depends on but file contents, by name, as plain JSON values.

    The names are those that `relib why` shows.
    """
    root = config.root
    cython = extension.kind == "cython"
    parts: dict[str, object] = {
        "relib's build version": BUILD_VERSION,
        "Python": f"{sys.version.split()[0]} ({sysconfig.get_config_var('SOABI')})",
        "Python's build": [
            sys.version,
            sys.hexversion,
            sysconfig.get_config_var("EXT_SUFFIX"),
            bool(sysconfig.get_config_var("Py_DEBUG")),
        ],
        "Python's directories": [
            portable(path, root) for path in (*python_includes(), *python_libraries())
        ],
        "Cython": cython_version() if cython else None,
        "directives": [*config.directives, *extension.directives] if cython else [],
        "Cython's macros": RELOADABLE_MACROS if cython else [],
        "compiler": " ".join(toolchain.command),
        "compiler's version": toolchain.version,
        "compiler's identity": toolchain.identity,
        "CFLAGS": " ".join(toolchain.cflags),
        # The linker is given CFLAGS too: one change is told once.
        "LDFLAGS": " ".join(word for word in toolchain.ldflags if word not in toolchain.cflags),
        "compiler's environment": {
            name: os.environ[name] for name in _ENVIRONMENT if name in os.environ
        },
        "project's root": str(root) if cython else None,
        "name": extension.name,
        "kind": extension.kind,
        "language": extension.language,
        "sources": [portable(path, root) for path in extension.sources],
        "depends": [portable(path, root) for path in extension.depends],
        "define_macros": extension.define_macros,
        "undef_macros": extension.undef_macros,
        "include_dirs": [portable(path, root) for path in extension.include_dirs],
        "library_dirs": [portable(path, root) for path in extension.library_dirs],
        "libraries": extension.libraries,
        # the linker writes them into the library, which therefore stays at home
        "runtime_library_dirs": extension.runtime_library_dirs,
        "extra_objects": [portable(path, root) for path in extension.extra_objects],
        "extra_compile_args": extension.extra_compile_args,
        "extra_link_args": extension.extra_link_args,
        "cython_include_path": [portable(path, root) for path in extension.cython_include_path],
    }
    # as a manifest will give it back: tuples become lists, what JSON does not know its repr
    plain: dict[str, object] = json.loads(json.dumps(parts, default=repr))
    return plain


def recipe_hash(parts: Mapping[str, object]) -> str:
    """The hash of a recipe's parts, 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def fingerprint(
    recipe: str,
    inputs: Mapping[str, str | None],
    found: Mapping[str, str | None] | None = None,
) -> str:
    """The name of a build: 64 hexadecimal digits that stand for all it depends on.

    The first eight digits cover `recipe` and `inputs` alone. They are part of the library's unique
    name, which the compiler must be told before its depfile tells which headers it read; so they
    may not depend on `found`. The other digits cover everything.

    Args:
        recipe: the hash of all that is not contents.
        inputs: digests, by path, of what is known before the compiler runs; None for a file
            that is not there and would be used if it were.
        found: the same of what only the compiler's depfile tells.

    >>> alone = fingerprint("00", {"fast.c": "aa", "fast.h": None})
    >>> alone == fingerprint("00", {"fast.h": None, "fast.c": "aa"})
    True
    >>> other = fingerprint("00", {"fast.c": "aa", "fast.h": None}, {"vec.h": "bb"})
    >>> other == alone, other[:8] == alone[:8]
    (False, True)
    """
    first = hashlib.sha256(f"{recipe}\n".encode())
    first.update(_listed(inputs))
    whole = first.copy()
    whole.update(b"\nfound\n")
    whole.update(_listed(found or {}))
    return first.hexdigest()[:8] + whole.hexdigest()[8:]


def _listed(digests: Mapping[str, str | None]) -> bytes:
    text = "".join(f"{path}\0{digest}\n" for path, digest in sorted(digests.items()))
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class State:
    """What a file is at one moment. Equal states: nobody wrote to it in between.

    The signature is compared too, because contents alone would not tell that a file was changed
    and changed back.
    """

    digest: str | None
    """sha256 of the contents, in hexadecimal; None when there is no such file."""
    signature: tuple[int, ...] = ()
    """Device, inode, size, and the times of the last change of contents and inode."""
    changed: int = 0
    """When contents or inode last changed, in nanoseconds of the file system's clock."""


_MISSING = State(None)


class Contents:
    """Digests of files, remembered for as long as their times can vouch for them.

    Safe to use from several threads.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     Contents().digest(file.name)[:16]
    'e3b0c44298fc1c14'
    >>> Contents().digest("/nowhere/at/all") is None
    True
    """

    def __init__(self) -> None:
        self._states: dict[str, State] = {}

    def digest(self, path: str | os.PathLike[str]) -> str | None:
        """sha256 of the contents of the file at `path`, in hexadecimal; None when there is none.

        Raises:
            OSError: the file is there and cannot be read.
        """
        return self.state(path).digest

    def state(self, path: str | os.PathLike[str]) -> State:
        """What the file at `path` is now.

        Raises:
            OSError: the file is there and cannot be read.
        """
        name = os.fspath(path)
        try:
            now = os.stat(name)  # noqa: PTH116  # a Path costs more than the call
            known = self._states.get(name)
            if known is not None and known.signature == _signature(now):
                return known
            if not stat.S_ISREG(now.st_mode):
                return _MISSING
            return self._read(name)
        except (FileNotFoundError, NotADirectoryError):
            self._states.pop(name, None)
            return _MISSING

    def _read(self, name: str) -> State:
        begun = time.time_ns()
        with open(name, "rb") as file:  # noqa: PTH123
            before = os.fstat(file.fileno())
            digest = hashlib.sha256(file.read()).hexdigest()
            after = os.fstat(file.fileno())
        state = State(digest, _signature(before), max(before.st_mtime_ns, before.st_ctime_ns))
        # The inode's change time counts as well: whoever sets a file's times back cannot set that.
        if state.signature == _signature(after) and begun - state.changed >= RACY_NS:
            self._states[name] = state
        else:
            self._states.pop(name, None)
        return state


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
