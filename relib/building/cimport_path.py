"""Whether Cython would find the .pxd files that a build was made with again.

Cython looks for what is cimported in the project, then along `sys.path`, then among its own
declarations (Cython 3.1 to 3.3, Compiler/Main.py, search_include_directories). Two environments of
one Python, or two values of PYTHONPATH, may find other files by the same name, while those that the
first one found are still what they were.

What is below the project's own directories is left to the inputs: they include the files that would
come before and are not there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relib.building.fingerprint import absolute
from relib.building.pool import search_path
from relib.declared.module_name import package_root

if TYPE_CHECKING:
    from relib.building.manifest import Manifest

__all__ = ["found_elsewhere"]

_CYTHON_S_OWN = "/Cython/Includes/"
_PACKAGE_FILES = ("__init__.py", "__init__.pyx", "__init__.pxd")


def found_elsewhere(manifest: Manifest, root: Path) -> list[str]:
    """The inputs of a build, as portable paths, that Cython would now find elsewhere or not at all.

    Args:
        manifest: of the build.
        root: the project's root.
    """
    pxds = [text for text, digest in manifest.inputs.items() if digest and text.endswith(".pxd")]
    if not pxds:
        return []
    own = {
        *(os.fspath(package_root(root / source)) for source in _texts(manifest, "sources")),
        *(os.fspath(root / place) for place in _texts(manifest, "cython_include_path")),
        os.fspath(root),
    }
    path = _Path(search_path())
    return [
        text
        for text in pxds
        if not (_is_below(own, file := absolute(text, root)) or path.has(file))
    ]


def _texts(manifest: Manifest, part: str) -> list[str]:
    value = manifest.parts.get(part)
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _is_below(directories: Iterable[str], file: str) -> bool:
    """Whether a module's name leads to `file`: not where an environment is inside of a project."""
    return any(
        file.startswith(f"{directory}/")
        and all(part.isidentifier() for part in file[len(directory) + 1 :].split("/")[:-1])
        for directory in directories
    )


class _Path:
    """The directories of `sys.path`.

    Args:
        directories: in the order of searching.
    """

    def __init__(self, directories: Sequence[str]) -> None:
        self._directories = list(dict.fromkeys(directories))
        self._having: dict[str, list[str]] = {}

    def has(self, file: str) -> bool:
        """Whether `file` is what its name leads to."""
        if (at := file.rfind(_CYTHON_S_OWN)) >= 0:  # of whichever Cython: its version is known
            at += len(_CYTHON_S_OWN) - 1
            return self._is_first(file[:at], file[at + 1 :])
        return any(
            file.startswith(f"{directory}/")
            and self._is_first(directory, file[len(directory) + 1 :])
            for directory in self._directories
        )

    def _is_first(self, directory: str, name: str) -> bool:
        first = name.partition("/")[0]
        if first not in self._having:
            self._having[first] = [each for each in self._directories if _exists(each, first)]
        earlier = self._having[first]
        if directory in earlier:
            earlier = earlier[: earlier.index(directory)]
        return not any(
            _exists(other, name) and (_is_package(other, name) or not _is_package(directory, name))
            for other in earlier
        )


def _is_package(directory: str, name: str) -> bool:
    """Whether one directory on the way is a package: else it comes after those where one is."""
    parts = name.split("/")[:-1]
    places = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    return any(_exists(directory, f"{place}/{init}") for place in places for init in _PACKAGE_FILES)


def _exists(directory: str, name: str) -> bool:
    return os.path.exists(f"{directory}/{name}")  # noqa: PTH110  # a Path costs more than the call
