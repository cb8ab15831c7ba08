"""What is different about Cython in the process that translates.

For the process that :mod:`relib.building.worker` is.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from typing import Any

__all__ = ["fresh", "make_collectable", "name_in_full", "witnessed"]


def _cython(name: str) -> Any:
    return importlib.import_module(f"Cython.{name}")


def make_collectable() -> None:
    """Have the garbage collector see the instances of all classes.

    Cython leaves it out for a class without Python attributes (Cython 3.1 to 3.3,
    Compiler/Symtab.py, CClassScope.needs_gc; the same for the variables of a generator). But each
    instance refers to its class, and that to its module: a single one in a global variable, unseen,
    would keep the module for ever. A class with the directive `no_gc` stays as it is.
    """
    found = "_relib_has_cyclic_attrs"

    def get(scope: Any) -> bool:
        kind = scope.parent_type
        ours = not kind.is_external and not kind.is_builtin_type
        return ours or bool(vars(scope).get(found, False))

    def put(scope: Any, value: bool) -> None:
        vars(scope)[found] = value

    _cython("Compiler.Symtab").CClassScope.has_cyclic_pyobject_attrs = property(get, put)


def name_in_full() -> None:
    """Have the comments in the C name their sources by absolute paths.

    They lead from an error in the C to the line that it was made of. Cython makes them relative to
    the working directory (Cython 3.1 to 3.3, Compiler/Scanning.py).
    """
    descriptor = _cython("Compiler.Scanning").FileSourceDescriptor
    descriptor.get_description = lambda source: source.filename


@contextlib.contextmanager
def fresh() -> Iterator[None]:
    """Leave no trace of one translation to the next.

    A context and options are made for each; what Cython keeps in its modules is the answers of its
    searches for files, which would hide a .pxd that has appeared (Utils.py, cached_function),
    global options (Compiler/Options.py), which the parser also sets for a moment, and names by
    scope, which keep everything of a module with an enum alive (Compiler/PyrexTypes.py,
    type_identifier_from_declaration).
    """
    errors, options, utils = (
        _cython("Compiler.Errors"),
        _cython("Compiler.Options"),
        _cython("Utils"),
    )
    utils.clear_function_caches()
    kept = dict(vars(options))
    directives = options.get_directive_defaults()
    defaults = dict(directives)
    try:
        yield
    finally:
        vars(options).clear()
        vars(options).update(kept)
        directives.clear()
        directives.update(defaults)
        getattr(_cython("Compiler.PyrexTypes"), "_type_identifier_cache", {}).clear()
        errors.reset()
        utils.clear_function_caches()


@contextlib.contextmanager
def witnessed(absent: dict[str, None]) -> Iterator[None]:
    """Note the files that are looked for and are not there.

    That all go through os.path.exists is so in Cython 3.1 to 3.3 (Compiler/Main.py,
    search_include_directories; Utils.py, path_exists and find_versioned_file), but for the glob
    that looks for `name.cython-30.pxd`.
    """
    exists = os.path.exists

    def witness(path: Any) -> bool:
        found = exists(path)
        if not found and isinstance(path, str):
            absent[path] = None
        return found

    os.path.exists = witness
    try:
        yield
    finally:
        os.path.exists = exists
