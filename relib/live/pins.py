"""A pin: one reason why a version's code cannot be unmapped yet."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, ModuleType

__all__ = ["Pin", "object_pins", "signal_pin", "thread_pin"]


@dataclass(frozen=True, slots=True)
class Pin:
    """One reason why a version stays mapped, in words (``str(pin)``) and as data.

    >>> print(Pin("object", "function fast.fib", count=2, type="function", holders=("list",)))
    function fast.fib, referred to 2 times by list
    """

    kind: str
    """``"object"``, ``"thread"``, ``"stack"``, ``"signal"``, ``"key"``, ``"pointer"``,
    ``"capsule"``, ``"static type"``, ``"shared type"``, ``"for ever"``, ``"mapped"``, or
    ``"unknown"`` when it could not be looked at."""
    what: str
    """What is in the way."""
    count: int = 1
    """How many of them: references, signals, pointers."""
    type: str = ""
    """The type of the object, for kind ``"object"``."""
    holders: tuple[str, ...] = ()
    """Who refers to the object, as far as the collector knows them."""
    thread_id: int | None = None
    """The kernel's id of the thread, for kind ``"thread"``."""
    thread_name: str | None = None
    """The thread's name, for kind ``"thread"``."""

    def __str__(self) -> str:
        if self.kind != "object":
            return self.what
        times = "once" if self.count == 1 else f"{self.count} times"
        by = f" by {', '.join(self.holders)}" if self.holders else ""
        return f"{self.what}, referred to {times}{by}"

    def as_dict(self) -> dict[str, object]:
        """The same for JSON."""
        return asdict(self)


# --- objects -------------------------------------------------------------------------------------

# Looking for holders visits every object that the collector knows; in a program with more memory
# blocks than this it is left out of a reload, and done when relib.retired() is asked.
_BLOCKS_TO_SEARCH = 1_000_000


def object_pins(
    outside: list[tuple[object, int]],
    members: Callable[[], list[object]],
    *,
    search: bool | None = None,
) -> tuple[Pin, ...]:
    """Pins for the members of a version's sub-graph that are referred to from elsewhere.

    Args:
        outside: such members, with the number of references to each.
        members: gives all members; they do not count as holders.
        search: whether to look for the holders; by default where that is quick.
    """
    if not outside:
        return ()
    if search is None:
        search = sys.getallocatedblocks() < _BLOCKS_TO_SEARCH
    own: list[object] = [outside, *outside]
    if search:
        own += members()
    ignored = {id(owned) for owned in own} | {id(own)}
    found = []
    for thing, count in outside:
        holders: tuple[str, ...] = ()
        if search:
            referrers = [r for r in gc.get_referrers(thing) if id(r) not in ignored]
            holders = _holders(thing, count, referrers)
            referrers.clear()
        found.append(
            Pin("object", _describe(thing), count, type=type(thing).__name__, holders=holders)
        )
    return tuple(found)


# Objects of the program's are asked for what they are called, and may fail to say.


def _describe(thing: object) -> str:
    try:
        return _name_of(thing)
    except Exception:
        return f"a {type(thing).__name__}"


def _name_of(thing: object) -> str:
    kind = type(thing).__name__
    if isinstance(thing, ModuleType):
        return "the module object"
    if isinstance(thing, type):
        return f"class {thing.__module__}.{thing.__qualname__}"
    if kind in ("cython_function_or_method", "builtin_function_or_method", "fused_cython_function"):
        kind = "function"
    name = getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None)
    if not isinstance(name, str):
        if isinstance(thing, dict) and isinstance(thing.get("__name__"), str):
            return f"the namespace of {thing['__name__']}"
        return f"a {kind}"
    module = getattr(thing, "__module__", None)
    return f"{kind} {module}.{name}" if isinstance(module, str) else f"{kind} {name}"


def _holders(thing: object, count: int, referrers: list[object]) -> tuple[str, ...]:
    named: Counter[str] = Counter()
    for referrer in referrers:
        # By type: isinstance() asks an object what it is, which may fail.
        if type(referrer) is FrameType and _is_relib(referrer):
            continue
        if issubclass(type(thing), type) and type(referrer) is thing:
            named[f"instance of {_qualname(thing)}"] += 1
        else:
            named[_describe_holder(thing, referrer)] += 1
    unseen = count - named.total()
    if unseen > 0 and issubclass(type(thing), type):
        # The collector does not know instances that have no object fields.
        named[f"instance of {_qualname(thing)}"] += unseen
    return tuple(name if n == 1 else f"{n} × {name}" for name, n in named.most_common(8))


def _qualname(kind: object) -> str:
    """Of a class; its metaclass is not asked."""
    name = type.__dict__["__qualname__"].__get__(kind)
    return name if isinstance(name, str) else "?"


def _is_relib(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__package__", "")).partition(".")[0] == "relib"


def _describe_holder(thing: object, referrer: object) -> str:
    try:
        return _name_of_holder(thing, referrer)
    except Exception:
        return type(referrer).__name__


def _name_of_holder(thing: object, referrer: object) -> str:
    if isinstance(referrer, FrameType):
        code = referrer.f_code
        return f"frame of {code.co_qualname}() in {Path(code.co_filename).name}"
    if isinstance(referrer, dict):
        keys = [key for key, value in list(referrer.items()) if value is thing]
        where = f" as {keys[0]!r}" if keys and isinstance(keys[0], str) else ""
        if isinstance(referrer.get("__name__"), str) and "__spec__" in referrer:
            where = f" as {keys[0]}" if where else ""
            return f"module {referrer['__name__']}{where}"
        return f"dict{where}"
    if isinstance(referrer, weakref.ReferenceType):
        return "weak reference callback"
    return type(referrer).__name__


# --- the rest ------------------------------------------------------------------------------------


def thread_pin(thread_id: int, how: str) -> Pin:
    """A pin for a thread that is, or may be, in the version's code."""
    name = _thread_name(thread_id)
    shown = f"thread {name!r} ({thread_id})" if name else f"thread {thread_id}"
    words = {
        "running": f"{shown} is running its code",
        "stack": f"{shown} is inside a call of its code",
        "start": f"{shown} is about to start in its code",
    }
    what = words.get(how, f"{shown} could not be examined and may be in its code")
    return Pin("thread", what, thread_id=thread_id, thread_name=name)


def _thread_name(thread_id: int) -> str | None:
    for thread in threading.enumerate():
        if thread.native_id == thread_id:
            return thread.name
    try:
        return Path(f"/proc/self/task/{thread_id}/comm").read_text().strip()
    except OSError:
        return None


def signal_pin(numbers: Iterable[int]) -> Pin:
    """A pin for signals whose handler is the version's code."""
    names = []
    for number in numbers:
        try:
            names.append(signal.Signals(number).name)
        except ValueError:
            names.append(f"signal {number}")
    return Pin("signal", f"its code handles {', '.join(names)}", len(names))
