"""Calls a module's own ``before_unload()``, before its code goes."""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING

from relib.errors import BeforeUnloadFailed, Timeout

if TYPE_CHECKING:
    from relib.live.version import Version

__all__ = ["call_before_unload"]


def call_before_unload(version: Version, timeout: float) -> None:
    """Call the version's ``before_unload()``, if it has one, in a thread of its own.

    A thread of its own, because nothing else can bound the time that native code takes.

    Args:
        version: the current version.
        timeout: seconds to wait for it.

    Raises:
        BeforeUnloadFailed: it raised; the cause says what.
        Timeout: it has not returned. It goes on running.
    """
    module = version.held[0]
    hook = vars(module).get("before_unload")
    del module
    if hook is None:
        return
    failures: list[BaseException] = []
    context = contextvars.copy_context()

    def call() -> None:
        try:
            context.run(hook)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=call, name=f"before_unload of {version.name}", daemon=True)
    thread.start()
    thread.join(timeout)
    if thread.is_alive():
        raise Timeout(
            f"before_unload() of {version.name} v{version.number} has not returned after "
            f"{timeout:g} s; the module stays loaded. Let it return sooner, or give it more time "
            f"(unload-timeout)",
            name=version.name,
        )
    if failures:
        error = failures.pop()
        raise BeforeUnloadFailed(
            f"before_unload() of {version.name} v{version.number} raised {type(error).__name__}: "
            f"{error}; the module stays loaded",
            name=version.name,
        ) from error
