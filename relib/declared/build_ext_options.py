"""Reads what setup.cfg and pyproject.toml set for all extensions: the options of build_ext.

`[build_ext]` in setup.cfg and `[tool.distutils.build_ext]` in pyproject.toml set for every
extension of setuptools what its Extension sets for one (setuptools' _distutils/command/build_ext.py
and dist.py). relib takes those that say how to compile.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from relib.errors import ProjectError
from relib.pyproject import tool_table

__all__ = ["read_build_ext_options"]


def _directories(text: str) -> list[str]:
    return [part.strip() for part in re.split(rf"[{os.pathsep}\n]", text) if part.strip()]


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", text) if word]


# option: the Extension's field, and how its text is split
_OPTIONS: dict[str, tuple[str, Callable[[str], list[str]]]] = {
    "include_dirs": ("include_dirs", _directories),
    "library_dirs": ("library_dirs", _directories),
    "rpath": ("runtime_library_dirs", _directories),
    "libraries": ("libraries", _words),
    "link_objects": ("extra_objects", _words),
    "define": ("define_macros", _words),
    "undef": ("undef_macros", _words),
}


def read_build_ext_options(root: Path) -> dict[str, list[str]]:
    """Return fields that every extension that setuptools builds in `root` has besides its own.

    Raises:
        ProjectError: setup.cfg or pyproject.toml cannot be read.
    """
    fields: dict[str, list[str]] = {}
    for options in (_setup_cfg(root), tool_table(root, "distutils", "build_ext")):
        for option, value in options.items():
            field, split = _OPTIONS.get(option.replace("-", "_"), (None, None))
            if field is not None and split is not None:
                fields[field] = split(value) if isinstance(value, str) else [*map(str, value)]
    if "define_macros" in fields:
        # a macro that is only defined is 1, says finalize_options() there
        fields["define_macros"] = [m if "=" in m else f"{m}=1" for m in fields["define_macros"]]
    return fields


def _setup_cfg(root: Path) -> Mapping[str, Any]:
    path = root / "setup.cfg"
    if not path.is_file():
        return {}
    import configparser

    # as setuptools reads it: % has no meaning, and an option may stand there twice
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError) as error:
        line = getattr(error, "lineno", None)
        message = f"{path}: cannot be read: {error}"
        raise ProjectError(message, path=path, line=line) from error
    return dict(parser["build_ext"]) if parser.has_section("build_ext") else {}
