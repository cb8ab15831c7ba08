"""The command that `relib watch --exec` runs after each good build."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["AfterBuild"]

_PATIENCE = 5.0
"""Seconds between being asked to end and being ended."""


class AfterBuild:
    """Runs a command, one at a time.

    Args:
        line: for the shell.
        ended: called with each exit status, from another thread; not for runs that are ended here.
    """

    def __init__(self, line: str, ended: Callable[[int], None]) -> None:
        self._line = line
        self._ended = ended
        self._run: _Run | None = None

    def start(self, environ: Mapping[str, str]) -> None:
        """Run it in this environment; a run that goes on is ended before."""
        self.end()
        self._run = _Run(self._line, environ, self._ended)
        self._run.start()

    def end(self) -> None:
        """End what runs, and all that it has started in its process group."""
        run, self._run = self._run, None
        if run is not None:
            run.end()


class _Run:
    def __init__(self, line: str, environ: Mapping[str, str], ended: Callable[[int], None]) -> None:
        self._line = line
        self._environ = environ
        self._tell = ended
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._unwanted = False
        self._ended = threading.Event()

    def start(self) -> None:
        """Run it."""
        # What a signal handler raises comes between any two steps of the main thread, and never in
        # another one: that one starts the shell, so that none is lost that `end` is to end.
        threading.Thread(target=self._follow, name="relib-command", daemon=True).start()

    def _follow(self) -> None:
        with self._lock:
            if self._unwanted:
                return
            # In a group of its own, to end what it starts with it. It is in the background then,
            # where reading from the terminal would stop it.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", self._line],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        # Without WNOWAIT its number, which is the group's, could come to belong to others.
        found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._ended.set()
        assert found is not None
        if not self._unwanted:
            exited = found.si_code == os.CLD_EXITED
            self._tell(found.si_status if exited else -found.si_status)

    def end(self) -> None:
        """Ask the whole group to end, and then make it."""
        with self._lock:
            self._unwanted = True
        if self._process is None:
            return
        group = self._process.pid
        os.killpg(group, signal.SIGTERM)
        _wait_for_group(group, _PATIENCE)
        os.killpg(group, signal.SIGKILL)
        self._ended.wait()
        self._process.wait()


def _wait_for_group(group: int, timeout: float) -> None:
    """Wait until all processes of a group have ended; the shell is often the first."""
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        process = _process_of(group)
        if process is None:
            return
        try:
            descriptor = os.pidfd_open(process)
        except OSError:  # it has ended, or this kernel (before 5.3) has none
            time.sleep(0.01)
            continue
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.poll(left * 1e3)
        finally:
            os.close(descriptor)


def _process_of(group: int) -> int | None:
    """A process of the group that has not ended yet."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            text = (directory / "stat").read_text(errors="replace")
        except OSError:
            continue
        state, _parent, found, *_ = text.rpartition(")")[2].split()
        if int(found) == group and state not in "ZX":
            return int(directory.name)
    return None
