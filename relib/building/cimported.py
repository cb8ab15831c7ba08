"""Declarations that are cimported again and again (numpy, libc, cpython), kept ready to be used.

To parse and analyse numpy's .pxd takes Cython several times as long as a module that uses it. So
the process that translates keeps a *stock*: a context of Cython in which the declarations of
installed packages have been analysed before the request for a translation comes. Two things keep
the outcome what it would be without:

A stock is as it was after each use. All mutable objects that its context consists of are listed,
with copies of what is in them; when a translation is over, and nobody waits, they are put back.

Taking from stock is reported as analysing would be. What each .pxd did as it was analysed (the
files it read and missed, its warnings, the modules it cimported, the headers it includes, in their
order) is recorded, and done again when a translation cimports it. Where anything differs from what
was found then (a file, the path by which the .pxd is found, the language level), the translation is
done once more, without the stock.

The stocks themselves are in :mod:`relib.building.stocks`. For the process that
:mod:`relib.building.worker` is.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Context", "Declarations", "Include", "Recorder", "Stale", "install", "recording"]


class Stale(BaseException):  # Cython takes exceptions for crashes of its own
    """The stock is not what this translation would have found."""


def _cython(name: str) -> Any:
    return importlib.import_module(f"Cython.Compiler.{name}")


@dataclass(eq=False)
class Declarations:
    """One analysed .pxd."""

    scope: Any
    path: str
    before: dict[str, Any]
    """What its scope was before."""
    after: dict[str, Any] = field(default_factory=dict)
    """And what it is when it has been analysed."""
    events: list[tuple[str, Any]] = field(default_factory=list)
    pxds: tuple[str, Any] | None = None
    """Its entry in the context's table, from which Cython takes inline functions."""


@dataclass(eq=False)
class Include:
    """What a header's entry was when it was made: later ones for the same header change it."""

    entry: Any
    location: int
    main: str | None
    verbatim: str | None


class Context:
    """Mixed into Cython's Context: notes what a translation reads, and takes from a stock."""

    def relib_begin(
        self, report: Callable[[str, Any], None], installed: tuple[str, ...] = ()
    ) -> None:
        """Begin a translation.

        Args:
            installed: where software is installed, as beginnings of paths.
            report: is told of each ``"read"`` (a path), and of what is taken from stock: also
                ``"absent"`` (a path) and ``"said"`` (a message of Cython's).
        """
        self.relib_report = report
        self.relib_installed = installed
        self.relib_depth = 0
        self.relib_cimported: dict[str, tuple[Any, str]] = {}
        self.relib_active: set[Any] = set()

    def relib_state(self: Any) -> tuple[Any, ...]:
        """What a .pxd is parsed by, besides its text."""
        return (self.language_level, tuple(sorted(map(str, self.future_directives))))

    def parse(self: Any, source_desc: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse a file."""
        self._relib_note("read", source_desc.filename)
        return super().parse(source_desc, *args, **kwargs)  # type: ignore[misc]

    def find_include_file(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Find a file to be included."""
        path = super().find_include_file(*args, **kwargs)  # type: ignore[misc]
        if path:
            self._relib_note("read", path)
        return path

    def process_pxd(self: Any, source_desc: Any, scope: Any, module_name: Any) -> Any:
        """Parse and analyse a .pxd."""
        path = source_desc.filename
        recorder = recording.recorder
        if recorder is not None and recorder.context is self:
            recorder.note("use", scope)
            with recorder.analysing(Declarations(scope, path, _shallow(vars(scope)))):
                return super().process_pxd(source_desc, scope, module_name)  # type: ignore[misc]
        if not self.relib_depth and not source_desc.in_utility_code:
            self.relib_cimported[scope.qualified_name] = (self.relib_state(), path)
        inside = path.startswith(self.relib_installed)
        self.relib_depth += inside
        try:
            return super().process_pxd(source_desc, scope, module_name)  # type: ignore[misc]
        finally:
            self.relib_depth -= inside

    def find_module(
        self: Any, module_name: Any, from_module: Any = None, pos: Any = None, *args: Any, **kw: Any
    ) -> Any:
        """Find a module's scope, with the declarations of its .pxd in it."""
        scope = super().find_module(module_name, from_module, pos, *args, **kw)  # type: ignore[misc]
        if scope is self.cython_scope:  # to cimport it is not to load it
            return scope
        recorder = recording.recorder
        if recorder is not None and recorder.context is self:
            recorder.note("use", scope)
            return scope
        stock = getattr(self, "relib_stock", None)
        if stock is not None and scope in stock.modules and scope not in self.relib_active:
            need_pxd = kw.get("need_pxd", args[0] if args else 1)
            relative = kw.get("relative_import", args[2] if len(args) > 2 else False)
            path = self.find_pxd_file(scope.qualified_name, pos, sys_path=need_pxd and not relative)
            if path != stock.modules[scope].path or self.relib_state() != stock.state:
                raise Stale
            self.relib_cimported[scope.qualified_name] = (stock.state, path)
            stock.take(self, scope)
        return scope

    def _relib_note(self: Any, kind: str, value: Any) -> None:
        recorder = recording.recorder
        if recorder is not None and recorder.context is self:
            recorder.note(kind, value)
        else:
            self.relib_report(kind, value)


class Recorder:
    """Writes down what happens while .pxd files are analysed, for each of them."""

    def __init__(self, context: Any, said: list[Any], absent: dict[str, None]) -> None:
        self.context = context
        self.modules: dict[Any, Declarations] = {}
        self.shared: dict[str, tuple[Any, Any]] = {}
        """What utility code has taken from the shared module: scope, and tree and scope."""
        self._stack: list[Declarations] = []
        self._importing = False
        self._known: set[int] = set()
        self._said = said
        self._absent = absent

    def note(self, kind: str, value: Any) -> None:
        """Something happened in the module that is being analysed."""
        if self._stack:
            self._stack[-1].events.append((kind, value))

    @contextlib.contextmanager
    def analysing(self, declarations: Declarations) -> Iterator[None]:
        """The block in which a .pxd is analysed."""
        # It was searched for before: whoever else cimports it first searches in the same places.
        declarations.events += [("absent", path) for path in self._absent]
        self._flush()
        self.modules[declarations.scope] = declarations
        self._stack.append(declarations)
        yield
        self._flush()
        self._stack.pop()

    def includes(self, scope: Any, entry: Any) -> None:
        """A scope is about to take in a header's entry."""
        if self._stack and scope is self._stack[-1].scope and not self._importing:
            fresh = id(entry) not in self._known
            self._known.add(id(entry))
            verbatim = [text for key, text in entry.pieces.items() if key]
            self.note(
                "include",
                Include(entry, entry.location, entry.pieces.get(0), "".join(verbatim))
                if fresh
                else entry,
            )

    @contextlib.contextmanager
    def importing(self, scope: Any, module: Any) -> Iterator[None]:
        """The block in which a scope takes over what another one includes."""
        ours = bool(self._stack) and not self._importing
        if ours:
            self.note("imported", (scope, module))
            self._importing = True
        yield
        if ours:
            self._importing = False

    def _flush(self) -> None:
        for path in self._absent:
            self.note("absent", path)
        self._absent.clear()
        for entry in self._said:
            self.note("said", entry)
        self._said.clear()


class Recording:
    """What the wrappers around Cython's own functions look at."""

    recorder: Recorder | None = None


recording = Recording()


def install() -> type[Any]:
    """Make the context class, and put wrappers around what does not pass it. Once in a process.

    All of it is so in Cython 3.1 to 3.3; the last is not in 3.1. Headers pass
    ModuleScope.process_include (Compiler/Symtab.py). `cython.view`, which memoryviews need, is
    declared by CythonScope.load_cythonscope (Compiler/CythonScope.py), and what it takes from the
    shared module by CythonSharedUtilityCode.find_module (Compiler/UtilityCode.py).
    """
    scope_class = _cython("Symtab").ModuleScope
    cython_scope_class = _cython("CythonScope").CythonScope
    shared_class = getattr(_cython("UtilityCode"), "CythonSharedUtilityCode", None)
    process_include, load = scope_class.process_include, cython_scope_class.load_cythonscope
    add_imported_module = scope_class.add_imported_module
    lookup, find_submodule = cython_scope_class.lookup, cython_scope_class.find_submodule

    def process_include_noted(scope: Any, entry: Any) -> Any:
        if recording.recorder is not None:
            recording.recorder.includes(scope, entry)
        return process_include(scope, entry)

    def add_imported_module_noted(scope: Any, module: Any) -> Any:
        if recording.recorder is None:
            return add_imported_module(scope, module)
        with recording.recorder.importing(scope, module):
            return add_imported_module(scope, module)

    def needs(scope: Any) -> None:
        # Had it not been loaded before, it would be now.
        if (recorder := recording.recorder) is not None and recorder.context is scope._context:
            recorder.note("use", scope)

    def is_later(scope: Any, name: str) -> bool:
        recorder = recording.recorder
        loaded = recorder.modules.get(scope) if recorder is not None else None
        return loaded is not None and name not in loaded.before["entries"]

    def lookup_noted(scope: Any, name: str) -> Any:
        entry = lookup(scope, name)
        if is_later(scope, name) and (entry is None or scope.entries.get(name) is entry):
            needs(scope)
        return entry

    def find_submodule_noted(scope: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        if is_later(scope, name):
            needs(scope)
        return find_submodule(scope, name, *args, **kwargs)

    def load_from_stock(scope: Any) -> Any:
        context, recorder = scope._context, recording.recorder
        if scope._cythonscope_initialized:
            needs(scope)
            return None
        if recorder is not None and recorder.context is context:
            recorder.note("use", scope)
            with recorder.analysing(Declarations(scope, "", _shallow(vars(scope)))):
                return load(scope)
        stock = getattr(context, "relib_stock", None)
        if stock is not None and scope in stock.modules:
            return stock.take(context, scope)
        return load(scope)

    scope_class.process_include = process_include_noted
    scope_class.add_imported_module = add_imported_module_noted
    cython_scope_class.load_cythonscope = load_from_stock
    cython_scope_class.lookup = lookup_noted
    cython_scope_class.find_submodule = find_submodule_noted
    if shared_class is not None:
        find_module = shared_class.find_module

        def find_module_noted(utility: Any, context: Any) -> Any:
            recorder, stock = recording.recorder, getattr(context, "relib_stock", None)
            name = utility._pxd_name
            if stock is not None and name in stock.shared:
                scope, context.utility_pxds[name] = stock.shared[name]
                if scope not in context.relib_active:
                    stock.take(context, scope)
                return scope
            scope = find_module(utility, context)
            if recorder is not None and recorder.context is context:
                recorder.shared[name] = (scope, context.utility_pxds.get(name))
            return scope

        shared_class.find_module = find_module_noted
    return type("Context", (Context, _cython("Main").Context), {})


def _shallow(names: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.copy() if type(value) in (dict, list, set) else value
        for name, value in names.items()
    }
