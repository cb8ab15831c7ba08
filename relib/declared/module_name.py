"""The public dotted name of a module: what it may be, and what it is for a given file."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

from relib.errors import BadName

__all__ = ["check_name", "is_package", "name_from_path", "package_of", "package_root"]

# What makes a directory a package for Cython too (Cython 3.3, Utils.py, PACKAGE_FILES); the .pyc of
# that list is left out: nothing is built from it.
_PACKAGE_FILES = ("__init__.py", "__init__.pyx", "__init__.pxd")


def is_package(directory: Path) -> bool:
    """Say whether `directory` is a package with an `__init__` file and a name to import it by.

    A directory such as `my-project` can never be imported as a package, whatever is in it.
    """
    return directory.name.isidentifier() and any(
        (directory / name).is_file() for name in _PACKAGE_FILES
    )


def package_of(source: Path) -> tuple[str, ...]:
    """Return the packages that the file `source` is in, outermost first."""
    parts: list[str] = []
    directory = source.parent
    while is_package(directory):
        parts.append(directory.name)
        directory = directory.parent
    return tuple(reversed(parts))


def package_root(source: Path) -> Path:
    """Return the directory above the topmost package that the file `source` is in."""
    return source.parents[len(package_of(source))]


def name_from_path(source: Path) -> str:
    """Return the dotted name under which the file `source`, an absolute path, is imported.

    Raises:
        BadName: the file or one of its packages has no name that an import could say.
    """
    packages = package_of(source)
    stem = source.stem
    if stem == "__init__":
        if not packages:
            message = (
                f"{source}: the directory of an __init__ file is its module, but "
                f"{source.parent.name!r} is no Python identifier; rename it, or give a name=..."
            )
            raise BadName(message, name=source.parent.name)
        return check_name(".".join(packages), f"{source}: ")
    if not stem.isidentifier():
        fitting = re.sub(r"\W|^(?=\d)", "_", stem)
        message = (
            f"{source}: {stem!r} is no Python identifier, so no import could name it; rename the "
            f"file, or give the module a name, such as name={fitting!r}"
        )
        raise BadName(message, name=stem)
    return check_name(".".join((*packages, stem)), f"{source}: ")


def check_name(name: str, where: str = "") -> str:
    """Return `name` if it can be the public name of an extension.

    Args:
        name: the dotted name.
        where: what a message about it starts with: a file, say.

    Raises:
        BadName: it is no dotted Python identifier, has a keyword in it, is not ASCII, or is
            Cython's own.

    >>> check_name("pkg.fast")
    'pkg.fast'
    >>> check_name("pkg.class")
    Traceback (most recent call last):
    relib.errors.BadName: 'pkg.class' cannot be imported: 'class' is a Python keyword
    """
    parts = name.split(".") if isinstance(name, str) else []
    if not parts or not all(part.isidentifier() for part in parts):
        message = f"{where}{name!r} is no dotted Python identifier, such as 'pkg.fast'"
        raise BadName(message, name=str(name))
    for part in parts:
        if keyword.iskeyword(part):
            message = f"{where}{name!r} cannot be imported: {part!r} is a Python keyword"
            raise BadName(message, name=name)
    if not name.isascii():
        # Such a module's init function is PyInitU_ and punycode (PEP 489), and its package's name
        # would go into file names of the store; rare enough to be refused, in plain words.
        message = (
            f"{where}{name!r} is a legal Python name, but relib builds only modules whose names "
            "are ASCII, because the name is part of a C symbol; rename it"
        )
        raise BadName(message, name=name)
    if parts[0] == "cython":
        # Cython refuses it too (Cython 3.3, Utils.py, raise_error_if_module_name_forbidden)
        message = f"{where}{name!r} cannot be used: 'cython' is Cython's own module"
        raise BadName(message, name=name)
    return name
