"""Stocks of analysed declarations: made when nobody waits, used, and put back as they were.

For the process that :mod:`relib.building.worker` is; see :mod:`relib.building.cimported`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from relib.building.cimported import Include, Recorder, Stale, recording

__all__ = ["Stock", "Stocks"]

# As in relib.building.fingerprint: a file that changed just now may change again unseen.
_RACY_NS = 2_000_000_000
_STOCKS = 2
"""How many are kept: each takes some tens of megabytes."""
_PATIENCE = 3
"""How many stocks for the same kind of request may turn out to be of no use."""


def _cython(name: str) -> Any:
    return importlib.import_module(f"Cython.Compiler.{name}")


# --- what a context consists of ------------------------------------------------------------------

_WHOLE = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType)
_CODE = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)


def _mutable(roots: list[Any], beyond: set[int]) -> list[Any]:
    """The dicts, lists and sets that `roots` consist of, those of instances included.

    Classes, modules and functions are left out, and so are pieces of utility code, which Cython
    keeps for good and shares between contexts.
    """
    utility = _cython("Code").UtilityCodeBase
    found: list[Any] = []
    seen = set(beyond)
    stack = [root for root in roots if id(root) not in seen]
    seen.update(map(id, stack))
    while stack:
        each = stack.pop()
        kind = type(each)
        parts: list[Any]
        if kind is dict:
            found.append(each)
            parts = [*each.keys(), *each.values()]
        elif kind in (list, set):
            found.append(each)
            parts = list(each)
        elif kind in (tuple, frozenset):
            parts = list(each)
        else:
            names = getattr(each, "__dict__", None)
            parts = gc.get_referents(each)
            if type(names) is dict:
                # one that is made on demand has to be held, or its copy would not be of it
                parts.append(names)
        for part in parts:
            if id(part) in seen or (isinstance(part, _WHOLE) and type(part) in _WHOLE):
                continue
            if isinstance(part, (type, types.ModuleType, *_CODE, utility)):
                continue
            if type(part).__name__ in ("cython_function_or_method", "fused_cython_function"):
                continue
            seen.add(id(part))
            stack.append(part)
    return found


def _shared() -> set[int]:
    """What belongs to no context: types and builtins, which Cython makes once for all."""
    roots = [vars(_cython(name)) for name in ("Builtin", "PyrexTypes", "Naming", "Options")]
    every: set[int] = set()
    utility = _cython("Code").UtilityCodeBase
    stack: list[Any] = [value for names in roots for value in names.values()]
    while stack:
        each = stack.pop()
        if id(each) in every or isinstance(each, (type, types.ModuleType, *_CODE, utility)):
            continue
        if type(each) in _WHOLE or type(each).__name__ == "cython_function_or_method":
            continue
        every.add(id(each))
        stack += gc.get_referents(each)
    return every


# --- stocks --------------------------------------------------------------------------------------


class Stock:
    """A context in which some modules' declarations have been analysed."""

    def __init__(self, context: Any, recorder: Recorder, state: tuple[Any, ...]) -> None:
        self.context = context
        self.modules = recorder.modules
        self.shared = recorder.shared
        self.state = state
        self.names = {scope.qualified_name for scope in self.modules}
        """What it has: the modules' names."""
        self.has_views = context.cython_scope in self.modules
        for declarations in self.modules.values():
            declarations.pxds = next(
                (
                    (name, value)
                    for name, value in context.pxds.items()
                    if value[1] is declarations.scope
                ),
                None,
            )
        context.pxds = {}
        context.utility_pxds = {}
        for declarations in self.modules.values():
            # What has not been cimported is not to be seen.
            names = vars(declarations.scope)
            declarations.after = dict(names)
            names.clear()
            names.update(declarations.before)
            names["module_entries"] = declarations.after["module_entries"]
        for scope in _scopes(context):
            # As when it was made: what was added to it will be added by whoever is taken.
            first = next(iter(scope.c_includes.values()))
            first.pieces = {0: first.mainpiece()}
            scope.c_includes = {first.mainpiece(): first}
            scope.cimported_modules = []
        utility = [scope for scope, _ in self.shared.values()]
        self._searched = {
            scope
            for scope, declarations in self.modules.items()
            if declarations.path and scope not in utility
        }
        self._files = dict(self._signatures("read"))
        self._absent = [path for _, path in self._events("absent")]
        shared = _shared()
        if id(context) in shared:
            raise Stale  # then it cannot be told what is whose
        self._parts = [
            (part, part.copy())
            for part in _mutable([context, self.shared, *self.modules.values()], shared)
        ]

    def fits(self, matters: Callable[[str], bool]) -> bool:
        """Whether all the files are still what they were, and no other has appeared."""
        try:
            same = all(_signature(path) == known for path, known in self._files.items())
        except OSError:
            return False
        return same and not any(matters(p) and os.path.exists(p) for p in self._absent)  # noqa: PTH110

    @property
    def settled(self) -> bool:
        """Whether the files' times can vouch for their contents."""
        newest = max((known[-1] for known in self._files.values()), default=0)
        return time.time_ns() - newest > _RACY_NS

    def begin(self, options: Any) -> Any:
        """The context for a translation with these options."""
        context = self.context
        context.options = options
        context.compiler_directives = options.compiler_directives
        context.language_level = None
        context.future_directives = set()
        context.relib_stock = self
        return context

    def put_back(self) -> None:
        """Make everything what it was."""
        for part, copy in self._parts:
            if type(part) is list:
                part[:] = copy
            else:
                part.clear()
                part.update(copy)

    def take(self, context: Any, scope: Any) -> None:
        """Do what analysing a module's .pxd now would do, besides what has been done."""
        declarations = self.modules[scope]
        if context.relib_state() != self.state:
            raise Stale
        if scope in self._searched:
            # it may be found elsewhere now; and the places where it is not are noted on the way
            found = context.find_pxd_file(scope.qualified_name)
            if found != declarations.path:
                raise Stale
        context.relib_active.add(scope)
        includes, imported = scope.c_includes, scope.cimported_modules
        vars(scope).clear()
        vars(scope).update(declarations.after)
        scope.c_includes, scope.cimported_modules = includes, imported
        for kind, value in declarations.events:
            if kind == "use":
                if value in self.modules and value not in context.relib_active:
                    self.take(context, value)
            elif kind == "include":
                self._include(context, scope, value)
            elif kind == "imported":
                value[0].add_imported_module(value[1])
            else:
                context.relib_report(kind, value)
        if declarations.pxds is not None:
            name, value = declarations.pxds
            context.pxds[name] = value

    def _include(self, context: Any, scope: Any, what: Any) -> None:
        entry = what
        if isinstance(what, Include):
            # A new place in the order, as if it had been made now (Compiler/Code.py, IncludeCode).
            entry = what.entry
            counter = type(entry)
            entry.order = counter.counter
            counter.counter += 1
            entry.location = what.location
            entry.pieces = {} if what.main is None else {0: what.main}
            if what.verbatim:
                entry.pieces[entry.order] = what.verbatim
        scope.process_include(entry)

    def _events(self, wanted: str) -> Iterator[tuple[str, Any]]:
        for declarations in self.modules.values():
            for kind, value in declarations.events:
                if kind == wanted:
                    yield kind, value

    def _signatures(self, wanted: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        for declarations in self.modules.values():
            if declarations.path:
                yield declarations.path, _signature(declarations.path)
        for _, path in self._events(wanted):
            yield path, _signature(path)


def _scopes(context: Any) -> list[Any]:
    """All modules' scopes that a context knows, packages included."""
    found: list[Any] = []
    waiting = [*context.modules.values(), context.cython_scope]
    while waiting:
        scope = waiting.pop()
        if scope not in found and hasattr(scope, "cimported_modules"):
            found.append(scope)
            waiting += scope.module_entries.values()
    return found


def _signature(path: str) -> tuple[int, ...]:
    status = os.stat(path)  # noqa: PTH116  # a Path costs more than the call
    times = (status.st_mtime_ns, status.st_ctime_ns)
    return (status.st_dev, status.st_ino, status.st_size, *times, max(times))


@dataclass(eq=False)
class _Wish:
    """What a translation could have taken from a stock."""

    key: str
    options: Callable[[], Any]
    state: tuple[Any, ...]
    names: list[str]
    with_views: bool


class Stocks:
    """The stocks of one process, by the options of the translations they are for.

    Args:
        context_class: from `install`.
        matters: whether the appearance of a file that is not there would matter.
    """

    def __init__(self, context_class: type[Any], matters: Callable[[str], bool]) -> None:
        self.context_class = context_class
        self._matters = matters
        self._stocks: dict[str, Stock] = {}
        self._failures: dict[str, int] = {}
        self._hopeless: set[tuple[str, str]] = set()
        self._used: Stock | None = None
        self._wish: _Wish | None = None

    def find(self, request: dict[str, Any]) -> Stock | None:
        """The stock for a request, if there is one that is up to date."""
        self.settle()
        stock = self._stocks.get(key := _key(request))
        if stock is None or request["name"] in stock.names:
            return None
        if not stock.fits(self._matters):
            del self._stocks[key]
            return None
        self._stocks[key] = self._stocks.pop(key)
        self._used = stock
        return stock

    def disappoint(self, stock: Stock) -> None:
        """Forget a stock that did not serve; and after a few such, the hope for a better one."""
        self.settle()
        key = next((key for key, each in self._stocks.items() if each is stock), None)
        if key is not None:
            del self._stocks[key]
            self._failures[key] = self._failures.get(key, 0) + 1
            if self._failures[key] >= _PATIENCE:
                self._hopeless.update((key, name) for name in stock.names)

    def learn(
        self, request: dict[str, Any], context: Any, options: Callable[[], Any], installed: Any
    ) -> None:
        """Note what a translation that is over has cimported."""
        found = {
            name: state
            for name, (state, path) in context.relib_cimported.items()
            if path.startswith(installed) and name != request["name"]
        }
        views = bool(context.cython_scope._cythonscope_initialized)
        if not found:
            return
        key = _key(request)
        state = next(iter(found.values()))
        stock = self._stocks.get(key)
        names = [name for name in found if (key, name) not in self._hopeless]
        if stock is not None and stock.state == state:
            missing = [name for name in names if name not in stock.names]
            if not missing and (not views or stock.has_views):
                return
            names = [*(name for name in stock.context.relib_wanted if name not in names), *names]
            views = views or stock.has_views
        if names:
            self._wish = _Wish(key, options, state, names, views)

    def settle(self) -> None:
        """Put back what the last translation has changed in its stock."""
        if self._used is not None:
            self._used.put_back()
            self._used = None

    def improve(self, said: list[Any], absent: dict[str, None]) -> bool:
        """Make the stock that the last translation would have liked; False if there is no need.

        Args:
            said: where Cython's messages arrive.
            absent: where files that are looked for in vain arrive.
        """
        wish, self._wish = self._wish, None
        if wish is None:
            return False
        self._stocks.pop(wish.key, None)
        stock = self._make(wish, said, absent)
        if stock is None:
            self._hopeless.update((wish.key, name) for name in wish.names)
        elif stock.settled:
            self._stocks[wish.key] = stock
            while len(self._stocks) > _STOCKS:
                del self._stocks[next(iter(self._stocks))]
        return True

    def _make(self, wish: _Wish, said: list[Any], absent: dict[str, None]) -> Stock | None:
        errors = _cython("Errors")
        errors.reset()
        errors.open_listing_file(path=None, echo_to_stderr=False)
        context = self.context_class.from_options(wish.options())
        context.relib_begin(lambda kind, value: None)
        if wish.state[0] is not None:
            context.set_language_level(wish.state[0])
        if context.relib_state() != wish.state:
            return None
        recorder = recording.recorder = Recorder(context, said, absent)
        try:
            for name in wish.names:
                context.find_module(name)
            if wish.with_views:
                context.cython_scope.load_cythonscope()
        except Exception:
            return None
        finally:
            recording.recorder = None
        if errors.get_errors_count() or context.relib_state() != wish.state:
            return None
        context.relib_wanted = wish.names
        try:
            return Stock(context, recorder, wish.state)
        except (Stale, OSError):
            return None


def _key(request: dict[str, Any]) -> str:
    what = {name: value for name, value in request.items() if name not in _OWN}
    return json.dumps(what, sort_keys=True)


_OWN = ("source", "name", "c_file")
