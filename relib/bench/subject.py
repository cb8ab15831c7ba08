"""The extension that is measured: a copy of its project, where it may be edited."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from relib.config import Config
from relib.errors import NotSupported
from relib.extension import Extension

__all__ = ["Subject", "copy_of"]

_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg")
_NEVER = frozenset({"__pycache__", "node_modules"})
_MADE = frozenset({"build", "dist"})


@dataclass(frozen=True, slots=True)
class Subject:
    """An extension in a project directory that may be changed.

    >>> import tempfile
    >>> source = Path(tempfile.mkdtemp()) / "fast.pyx"
    >>> _ = source.write_text("LIMIT = 3")
    >>> subject = Subject(source.parent, source, "fast", "cython", source.read_text())
    >>> _ = subject.save(7)
    >>> print(source.read_text())
    LIMIT = 3
    relib_bench = 7
    <BLANKLINE>
    """

    root: Path
    source: Path
    name: str
    kind: str
    """As of :class:`relib.Extension`."""
    text: str
    """The source as it was at first."""
    import_root: Path | None = None
    """The directory from which `name` is imported; by default `root`."""

    @property
    def answer(self) -> str | None:
        """The attribute of the module that tells one edit from the other; None: there is none."""
        return "relib_bench" if self.kind == "cython" else None

    def save(self, edition: int) -> float:
        """Write the source with another constant in it.

        Args:
            edition: the constant. The same one makes the same contents.

        Returns:
            When it was closed, in the time of `time.monotonic`, which is that of all processes.
        """
        with self.source.open("w", encoding="utf-8", newline="") as file:
            file.write(self.edited(edition))
            file.flush()
            # The kernel tells of it while close() runs: afterwards would be too late.
            return time.monotonic()

    def edited(self, edition: int) -> str:
        """The source with this constant."""
        # A name that nothing uses, and that no compiler warns of.
        line = "relib_bench = {}" if self.kind == "cython" else "enum {{ relib_bench = {} }};"
        return f"{self.text.rstrip()}\n{line.format(edition)}\n"

    def copy(self, directory: Path) -> Subject:
        """The same in another directory, which is made."""
        shutil.copytree(self.root, directory, symlinks=True)
        moved = {
            field: directory / path.relative_to(self.root)
            for field, path in (("source", self.source), ("import_root", self.importable_from))
        }
        copied = replace(self, root=directory, **moved)  # type: ignore[arg-type]
        copied.source.write_text(self.text, encoding="utf-8", newline="")
        return copied

    @property
    def importable_from(self) -> Path:
        """The directory that must be in `sys.path` for `name` to be imported."""
        return self.root if self.import_root is None else self.import_root


def copy_of(
    extension: Extension, config: Config, inputs: Sequence[Path], directory: Path
) -> Subject:
    """Copy what an extension needs: its project or, where there is none, the files it is made from.

    Args:
        extension: the extension.
        config: its project's settings.
        inputs: all files that it is built from.
        directory: where to; it is made.

    Raises:
        NotSupported: its main source lies outside its project, and so the copy would not have it.
    """
    root = config.root
    if not extension.main.is_relative_to(root):
        raise NotSupported(
            f"{extension.main} is outside its project, {root}; run this where the file is"
        )
    if any((root / name).exists() for name in _PROJECT_FILES):
        _copy_project(root, directory, config.store)
    else:
        beside = extension.main.parent.glob("*.py")
        _copy_files([extension.main, *inputs, *beside], root, directory)
    source = directory / extension.main.relative_to(root)
    for library in source.parent.glob(f"{extension.stem}.*so"):
        library.unlink()  # an earlier build in place, which would be imported instead
    levels = extension.name.count(".") + (extension.main.stem == "__init__")
    return Subject(
        root=directory,
        source=source,
        name=extension.name,
        kind=extension.kind,
        text=re.sub(r"\r\n?", "\n", extension.main.read_text(encoding="utf-8")),
        import_root=source.parents[levels],
    )


def _copy_project(root: Path, directory: Path, store: Path) -> None:
    def left_out(parent: str, names: Iterable[str]) -> set[str]:
        place = Path(parent)
        return {
            name
            for name in names
            if (name.startswith(".") and (place / name).is_dir())
            or name in _NEVER
            or (name in _MADE and place == root)
            or place / name == store
            or (place / name / "pyvenv.cfg").exists()
        }

    shutil.copytree(root, directory, symlinks=True, ignore=left_out)


def _copy_files(files: Iterable[Path], root: Path, directory: Path) -> None:
    directory.mkdir()
    for file in dict.fromkeys(files):
        if file.is_relative_to(root) and file.is_file():
            copied = directory / file.relative_to(root)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copied)
        for package in file.relative_to(root).parents if file.is_relative_to(root) else ():
            marker = root / package / "__init__.py"
            if marker.is_file():
                (directory / package).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(marker, directory / package / "__init__.py")
