"""Which builds of one extension the store has: a JSON file for each extension.

For each recipe it lists the input lists of known builds, so that a build can be found without
starting anything: hash the files of a list, and see whether the fingerprint is known. Edits seldom
change what a file includes, so that many builds share few lists.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from relib.building.locks import exclusively
from relib.building.manifest import Manifest
from relib.errors import StoreRefused

__all__ = ["Entries", "Index", "InputList"]


@dataclass(slots=True)
class InputList:
    """The inputs that some builds have in common, and those builds."""

    inputs: list[str]
    """What is known before the compiler runs, files that are not there included."""
    found: list[str]
    """What only the compiler's depfile tells."""
    builds: dict[str, str] = field(default_factory=dict)
    """Directory by fingerprint, the newest last."""


@dataclass(slots=True)
class Entries:
    """All that the index knows of one extension."""

    number: int = 0
    """The largest number any build of it ever had."""
    recipes: dict[str, list[InputList]] = field(default_factory=dict)
    """Input lists by recipe, the newest first."""

    def add(self, manifest: Manifest, directory: str) -> None:
        """List a build that is in `directory`."""
        inputs, found = list(manifest.inputs), list(manifest.found)
        lists = self.recipes.setdefault(manifest.recipe, [])
        entry = next((e for e in lists if e.inputs == inputs and e.found == found), None)
        if entry is None:
            entry = InputList(inputs, found)
        else:
            lists.remove(entry)
        lists.insert(0, entry)
        entry.builds.pop(manifest.fingerprint, None)
        entry.builds[manifest.fingerprint] = directory
        self.number = max(self.number, manifest.number)

    def keep_only(self, present: set[str]) -> None:
        """Forget the builds whose directories are gone."""
        for recipe, lists in list(self.recipes.items()):
            for entry in lists:
                entry.builds = {f: d for f, d in entry.builds.items() if d in present}
            self.recipes[recipe] = [entry for entry in lists if entry.builds]
            if not self.recipes[recipe]:
                del self.recipes[recipe]

    def directories(self) -> Iterator[str]:
        """The directory of each build."""
        for lists in self.recipes.values():
            for entry in lists:
                yield from entry.builds.values()


class Index:
    """The index of one extension in one store.

    Args:
        directory: where indexes are kept.
        builds: where builds are kept; a lost or broken index is made anew from their manifests.
        name: the extension's name.
        root: the project's root.
    """

    # parsed indexes by path, each with the signature of the file it was read from
    _parsed: ClassVar[dict[Path, tuple[tuple[int, ...], Entries]]] = {}

    def __init__(self, directory: Path, builds: Path, name: str, root: Path) -> None:
        # names are Python's, which may be longer than a file name, and need not be plain
        plain = re.fullmatch(r"[A-Za-z0-9_.]{1,200}", name) is not None
        stem = name if plain else hashlib.sha256(name.encode()).hexdigest()
        self._path = directory / f"{stem}.json"
        self._lock = directory / f"{stem}.lock"
        self._builds = builds
        self._name = name
        self._root = root

    def read(self) -> Entries:
        """What is known now. Not to be changed: threads share it."""
        signature = self.signature()
        known = self._parsed.get(self._path)
        if known is not None and known[0] == signature:
            return known[1]
        entries = self._parse()
        if entries is None:
            entries = self._recovered()
            if entries.recipes:
                with suppress(OSError, StoreRefused), self.update():
                    pass  # written as recovered, so that the next reader need not
        elif signature:
            self._parsed[self._path] = (signature, entries)
        return entries

    @contextmanager
    def update(self) -> Iterator[Entries]:
        """Change the entries, nobody else at the same time; written when the block ends well.

        Raises:
            OSError: the index cannot be written.
            StoreRefused: the file system has no locks.
        """
        with exclusively(self._lock, f"changing the index of {self._name}"):
            entries = self._parse() or self._recovered()
            yield entries
            self._write(entries)

    def signature(self) -> tuple[int, ...]:
        """What tells one state of the file from the next; empty if there is none."""
        try:
            status = os.stat(self._path)  # noqa: PTH116  # a Path costs more than the call
        except OSError:
            return ()
        return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def _parse(self) -> Entries | None:
        """The entries in the file; None if there is none, or what is there is not whole."""
        try:
            plain = json.loads(self._path.read_bytes())
            return Entries(
                int(plain["number"]),
                {
                    str(recipe): [
                        InputList(list(e["inputs"]), list(e["found"]), dict(e["builds"]))
                        for e in lists
                    ]
                    for recipe, lists in plain["recipes"].items()
                },
            )
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def _recovered(self) -> Entries:
        """The entries as the manifests have them."""
        entries = Entries()
        found = []
        library = f"{self._name.rpartition('.')[2]}__r"
        with suppress(OSError):  # no builds yet
            for directory in self._builds.iterdir():
                # reading all manifests would take long, and most are of other extensions
                if not _has_file(directory, library):
                    continue
                manifest = Manifest.read(directory, self._root)
                if manifest is not None and manifest.name == self._name:
                    found.append((manifest.number, directory.name, manifest))
        for _, directory_name, manifest in sorted(found, key=lambda each: each[:2]):
            entries.add(manifest, directory_name)
        return entries

    def _write(self, entries: Entries) -> None:
        plain = {
            "number": entries.number,
            "recipes": {
                recipe: [{"inputs": e.inputs, "found": e.found, "builds": e.builds} for e in lists]
                for recipe, lists in entries.recipes.items()
            },
        }
        # one writer at a time, so that a fixed name will do; readers see the old one or the new
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(plain), "ascii")
            fresh.replace(self._path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise


def _has_file(directory: Path, prefix: str) -> bool:
    try:
        return any(name.startswith(prefix) for name in os.listdir(directory))  # noqa: PTH208
    except OSError:
        return False
