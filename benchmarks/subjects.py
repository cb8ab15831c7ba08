"""The modules that are measured, written into a project of their own."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from large import large_source

__all__ = ["SOURCES", "write_subjects"]

SOURCES = Path(__file__).parent / "sources"

# What the module of cytoolz needs of its package.
_CYTOOLZ = ("itertoolz.pyx", "itertoolz.pxd", "cpython.pxd")


def write_subjects(directory: Path, *, lines: int, itertoolz: Path | None) -> str:
    """Write all sources into `directory`.

    Args:
        directory: the project, empty.
        lines: how long the large one is.
        itertoolz: cytoolz's sdist, to be used in place of the large one.

    Returns:
        The name of the large source.
    """
    for source in SOURCES.iterdir():
        shutil.copyfile(source, directory / source.name)
    (directory / "pyproject.toml").write_text("[project]\nname = 'benchmark'\nversion = '0'\n")
    if itertoolz is None:
        (directory / "large.pyx").write_text(large_source(lines))
        return "large.pyx"
    package = directory / "cytoolz"
    package.mkdir()
    with tarfile.open(itertoolz) as archive:
        for member in archive:
            parent, name = Path(member.name).parent.name, Path(member.name).name
            if parent == "cytoolz" and name in _CYTOOLZ and (file := archive.extractfile(member)):
                (package / name).write_bytes(file.read())
    # All that it imports of the rest when it runs.
    (package / "__init__.py").write_text("")
    (package / "utils.py").write_text("no_default = '__no__default__'\n")
    return "cytoolz/itertoolz.pyx"
