"""Which tier a module is built in, where the settings leave it open.

``auto`` is quick where somebody waits and a better build follows: while a session watches, a save
is answered by an instant build, and the optimized one takes its place when it is ready. A program
that loads or reloads by itself gets the optimized build at once.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from relib.free_in_child import free_in_child

if TYPE_CHECKING:
    from relib.config import Config

__all__ = ["follow", "tier_now"]

_lock = free_in_child(threading.Lock())
_followers = 0


def follow(change: int) -> None:
    """There is one more (1) or one less (-1) that sees to it that optimized builds follow."""
    global _followers
    with _lock:
        _followers += change


def tier_now(config: Config) -> str:
    """The tier of a build that is to be made now.

    >>> from pathlib import Path
    >>> from relib.config import load_config
    >>> tier_now(load_config(Path("/src"), tier="instant")), tier_now(load_config(Path("/src")))
    ('instant', 'optimized')
    """
    if config.tier != "auto":
        return config.tier
    return "instant" if _followers else "optimized"
