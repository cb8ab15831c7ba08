"""What the store knows of one build: a JSON file beside the library."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from relib.building.diagnostics import Diagnostic
from relib.building.fingerprint import (
    BUILD_VERSION,
    Contents,
    fingerprint,
    located,
    portable,
    recipe_hash,
)

__all__ = ["LOCK_NAME", "Manifest"]

FILE_NAME = "manifest.json"

LOCK_NAME = "lock"
"""The file whose shared lock is a hold on the build, and whose time is that of its last use."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One build, as the store keeps it. Paths are as `portable` spells them."""

    name: str
    root: str
    """The root of the project that it was made for."""
    unique_name: str
    number: int
    fingerprint: str
    parts: Mapping[str, object]
    """The recipe, part by part."""
    kind: str
    source: str
    inputs: Mapping[str, str | None]
    """Digests of what was known before the compiler ran; None for a file that was not there."""
    found: Mapping[str, str | None]
    """Digests of what the compiler read besides."""
    size: int
    """Of the library, in bytes."""
    digest: str
    """Of the library."""
    generated: tuple[str, ...]
    """The names of the C files that Cython made."""
    seconds: Mapping[str, float]
    """What making it took, by phase."""
    diagnostics: tuple[Diagnostic, ...]
    python: str
    cython: str | None
    relib: int = BUILD_VERSION
    tier: str = "optimized"

    @property
    def library(self) -> str:
        """The library's file name."""
        return f"{self.unique_name}.so"

    @property
    def recipe(self) -> str:
        """The hash of the recipe's parts."""
        return recipe_hash(self.parts)

    def is_consistent(self) -> bool:
        """Whether the fields that follow from others do: an altered manifest shows."""
        stem = self.name.rpartition(".")[2]
        return self.unique_name == f"{stem}__r{self.number}_{self.fingerprint[:8]}" and (
            self.fingerprint == fingerprint(self.recipe, self.inputs, self.found)
        )

    def matches_library(self, directory: Path, contents: Contents) -> bool:
        """Whether the library in `directory` is the one that was built."""
        library = directory / self.library
        try:
            return library.stat().st_size == self.size and contents.digest(library) == self.digest
        except OSError:
            return False

    def write(self, directory: Path, root: Path) -> None:
        """Write it into `directory`.

        Raises:
            OSError: it cannot be written.
        """
        plain = {
            **{name: getattr(self, name) for name in _KEYS},
            "diagnostics": [
                {**asdict(d), "file": portable(d.file, root)} for d in self.diagnostics
            ],
        }
        (directory / FILE_NAME).write_text(json.dumps(plain), "ascii")

    @classmethod
    def read(cls, directory: Path, root: Path) -> Manifest | None:
        """The manifest in `directory`; None if there is none, or what is there is not whole."""
        try:
            with open(os.path.join(directory, FILE_NAME), "rb") as file:  # noqa: PTH118, PTH123
                plain = json.loads(file.read())
            if plain.keys() != _KEYS:
                return None
            plain["generated"] = tuple(plain["generated"])
            plain["diagnostics"] = tuple(
                Diagnostic(**{**d, "file": located(d["file"], root)}) for d in plain["diagnostics"]
            )
            manifest = cls(**plain)
            return manifest if _is_whole(manifest) and manifest.is_consistent() else None
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None


_KEYS = {field.name for field in fields(Manifest)}


def _is_whole(manifest: Manifest) -> bool:
    """Whether the fields that others rely on have the right kinds."""
    digests: list[tuple[Any, Any]] = [*manifest.inputs.items(), *manifest.found.items()]
    return (
        all(
            isinstance(text, str)
            for text in (
                manifest.name,
                manifest.root,
                manifest.unique_name,
                manifest.fingerprint,
                manifest.kind,
                manifest.source,
                manifest.digest,
                manifest.python,
                manifest.tier,
            )
        )
        and isinstance(manifest.number, int)
        and isinstance(manifest.size, int)
        and isinstance(manifest.parts, dict)
        and isinstance(manifest.seconds, dict)
        and all(digest is None or isinstance(digest, str) for _, digest in digests)
    )
