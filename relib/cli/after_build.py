"""The command that `relib watch --exec` runs after each good build."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping

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
        self._run = run = _Run(self._line, environ)
        threading.Thread(target=self._wait, args=(run,), daemon=True).start()

    def end(self) -> None:
        """End what runs, and all that it has started in its process group."""
        run, self._run = self._run, None
        if run is not None:
            run.end()

    def _wait(self, run: _Run) -> None:
        status = run.wait()
        if run is self._run:
            self._ended(status)


class _Run:
    def __init__(self, line: str, environ: Mapping[str, str]) -> None:
        # In a group of its own, to end what it starts with it. It is in the background then, where
        # reading from the terminal would stop it.
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", line], env=environ, stdin=subprocess.DEVNULL, process_group=0
        )
        self._ended = threading.Event()

    def wait(self) -> int:
        """Wait until the shell has ended; its exit status, or minus the signal that ended it."""
        # Without WNOWAIT its number, which is the group's, could come to belong to others.
        found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._ended.set()
        assert found is not None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def end(self) -> None:
        """Ask the whole group to end, and then make it."""
        os.killpg(self._process.pid, signal.SIGTERM)
        self._ended.wait(_PATIENCE)
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
