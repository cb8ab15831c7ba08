"""The process that translates: Cython, imported once and kept warm.

Run as a script by :mod:`relib.building.pool`, never imported there for what it does: it needs
nothing of relib, so that it starts without it. Its stdin is a socket on which each line is a JSON
object: first `{"sys_path": [...]}`, answered by `{"ready": true}` or `{"failed": ...}`, then
requests of :func:`translate`, each answered by `{"begun": true}` and its result. What Cython prints
goes to stdout and stderr, which are one file that the parent reads.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
import types
from pathlib import Path
from typing import Any

__all__ = ["main"]


# A session's worth of compiles leaves a few MB behind in Cython's caches; past this much something
# leaks, and a new process is cheaper than to find out what.
_MEMORY_BYTES = int(os.environ.get("RELIB__WORKER_MEMORY", 1 << 30))
# Garbage is collected when nobody waits: after this many seconds without a request, or else when
# there are this many objects (a large module makes 150,000).
_IDLE = 0.05
_OBJECTS = 500_000


def main(parent: int) -> None:
    """Serve the process `parent` until it closes the connection or ends."""
    # Ctrl-C in the terminal is for the program. The parent starts this process in a session of its
    # own, so that the terminal's signals do not come here; this is for what is sent to it by hand.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()  # a crash in Cython's own machine code then leaves words, not silence
    connection = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    lines = connection.makefile("r", encoding="ascii", newline="\n")
    first = lines.readline()
    if not first:
        return
    sys.path[:] = json.loads(first)["sys_path"]
    # A deep expression needs a deep stack in Cython, which recurses over the tree.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 3000))
    gc.disable()
    try:
        _stand_alone()
        from relib.building.translation import Translator

        translator = Translator()
    except BaseException as error:
        reason = "".join(traceback.format_exception_only(error)).strip()
        _send(connection, {"failed": reason, "traceback": traceback.format_exc()})
        return
    _send(connection, {"ready": True})
    if not _readable(connection, 0):
        translator.rehearse()
    garbage = False
    while True:
        # readline() may have read ahead, but never past a request: the parent waits for answers.
        if garbage and (gc.get_count()[0] > _OBJECTS or not _readable(connection, _IDLE)):
            _tidy(translator, connection)
            garbage = False
        line = lines.readline()
        if not line:
            return
        os.ftruncate(1, 0)
        os.lseek(1, 0, os.SEEK_SET)
        _send(connection, {"begun": True})
        answer = translator.translate(json.loads(line))
        answer["last"] = answer["crash"] is not None or _resident() > _MEMORY_BYTES
        sys.stdout.flush()
        sys.stderr.flush()
        _send(connection, answer)
        garbage = True


def _stand_alone() -> None:
    """Let this program's other files be imported, without relib itself, which may not be there."""
    here = Path(__file__).parent
    for name, place in (("relib", here.parent), ("relib.building", here)):
        package = sys.modules[name] = types.ModuleType(name)
        package.__path__ = [str(place)]


def _tidy(translator: Any, connection: socket.socket) -> None:
    """Do what would keep a request waiting, in parts, for as long as none comes."""
    translator.settle()
    gc.collect()
    if not _readable(connection, 0) and translator.improve():
        # What was left of the stock before may go, and what there is now stays, as does what the
        # first translation imported: to look at it again would make collections ten times as long.
        gc.unfreeze()
        gc.collect()
        gc.freeze()


def _send(connection: socket.socket, answer: dict[str, Any]) -> None:
    # The parent may be gone; then the next readline() finds out.
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(answer).encode("ascii") + b"\n")


def _readable(connection: socket.socket, seconds: float) -> bool:
    return bool(select.select([connection], [], [], seconds)[0])


def _resident() -> int:
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _end_with(parent: int) -> None:
    """End this process when the process `parent` has ended.

    The connection's end says so too, but not in the middle of a compile, and not while a process
    that `parent` forked has inherited the other end. (PR_SET_PDEATHSIG would not do: it fires when
    the *thread* that started this process ends; Linux, prctl(2).)
    """
    try:
        waiting = select.poll()
        waiting.register(os.pidfd_open(parent), select.POLLIN)
        waiting.poll()
    except ProcessLookupError:
        pass
    except (AttributeError, OSError):  # Linux before 5.3, other systems
        with contextlib.suppress(ProcessLookupError):
            while True:
                os.kill(parent, 0)
                time.sleep(2)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
