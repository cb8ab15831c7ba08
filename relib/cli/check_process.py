"""May this process look at its own threads and mappings, as unloading has to?"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

from relib.cli.finding import BAD, GOOD, NOTE, Finding

__all__ = ["check_process"]

_ADVICE = (
    "a sandbox keeps it from being read (seccomp, hidepid, gVisor): where code is in use cannot be "
    "told, so nothing that a thread might execute is ever unmapped"
)

# No address, on any 64-bit machine, and no number that is likely to be on a stack.
_NOWHERE = 0x5A5A_5A5A_5A5A_0000


def check_process() -> Iterator[Finding]:
    """/proc and process_vm_readv, which the unload checklist reads threads with."""
    try:
        maps = Path("/proc/self/maps").read_bytes()
    except OSError as error:
        yield Finding("/proc", BAD, f"/proc/self/maps cannot be read ({error.strerror})", _ADVICE)
        return
    if not maps:
        yield Finding("/proc", BAD, "/proc/self/maps is empty", _ADVICE)
        return
    yield Finding("/proc", GOOD, "can be read")
    yield _threads()


def _threads() -> Finding:
    """Have the helper examine a thread that waits, as an unload would."""
    try:
        from relib import _native
    except ImportError:
        return Finding("threads", NOTE, "could not be examined: relib._native does not import")
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait, daemon=True)
    thread.start()
    try:
        # Nothing can be there, so whoever is said to be could not be examined.
        unclear = _native.threads_inside(_NOWHERE, _NOWHERE + 4096)
    finally:
        leave.set()
        thread.join()
    if unclear:
        text = f"{len(unclear)} could not be examined (/proc/self/task, process_vm_readv)"
        return Finding("threads", BAD, text, _ADVICE)
    return Finding("threads", GOOD, "can be examined while they wait")
