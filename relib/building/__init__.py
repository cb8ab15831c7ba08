"""From sources to a build in the store."""

from __future__ import annotations

import sysconfig
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import threading

    from relib.config import Config

__all__ = ["prepare", "warm_up"]

# Builds run in several threads, and without a lock CPython 3.11 lets a second one see a table that
# is half filled, with no CC in it, say (Lib/sysconfig.py, get_config_vars; 3.12 has a lock).
sysconfig.get_config_vars()


def prepare() -> None:
    """Start the process that translates Cython, without waiting for it.

    Whoever knows that a build is to come saves it half a second so.
    """
    from relib.building import translate

    translate.prepare()


def warm_up(config: Config) -> threading.Thread:
    """Get everything ready for a first build, in the background.

    The process that translates is started, and the compilers are asked what they are. What cannot
    be done is left to the first build, which will say so.

    Args:
        config: the settings in force.

    Returns:
        The thread that does it; nobody needs to wait for it.
    """
    import threading

    thread = threading.Thread(target=_warm_up, args=(config,), name="relib-warm-up", daemon=True)
    thread.start()
    return thread


def _warm_up(config: Config) -> None:
    from contextlib import suppress

    from relib.building.tiers import plans
    from relib.errors import RelibError
    from relib.extension import Extension

    with suppress(RelibError):
        prepare()
    nothing = Extension("nothing", (config.root / "nothing.c",))
    for tier in ("instant", "optimized"):
        with suppress(RelibError):
            list(plans(nothing, config, tier))
