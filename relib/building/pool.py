"""The processes that translate, as the program sees them: started late, kept warm, replaceable.

What runs in them is :mod:`relib.building.worker`. One is enough for one extension at a time; when
more are being built, there are as many as may be built at the same time. A process belongs to the
process that started it: after a fork the child starts its own.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

__all__ = ["Died", "Expired", "Pool", "pool"]

_OUTPUT_BYTES = 1 << 20
_SCRIPT = Path(__file__).with_name("worker.py")


@dataclass(eq=False)
class Died(Exception):  # a fact for translate(), which makes the error of it
    """The process ended before it answered, or could not be started."""

    reason: str
    output: str
    """What it had printed."""


@dataclass(eq=False)
class Expired(Exception):
    """The process did not answer in time; it was ended."""

    output: str


def search_path() -> list[str]:
    """`sys.path` as another process with another working directory must have it."""
    return [os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)]  # noqa: PTH100


class _Process:
    """One process that translates."""

    def __init__(self, version: str) -> None:
        if not sys.executable:
            raise Died("this Python does not know its own executable (sys.executable is empty)", "")
        self.version = version
        """The Cython that was installed when it was started."""
        self.lately: object = None
        """What the request was like that it answered last: it is prepared for such."""
        self._ready = False
        self._buffer = bytearray()
        # A file and not a pipe: nobody has to read it while the process writes, and what it said
        # last is still there when it has died.
        self._output: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._socket, theirs = socket.socketpair()
        environment = os.environ | {"PYTHONHASHSEED": "0"}  # the same C in every process
        try:
            with theirs:
                self._process: subprocess.Popen[bytes] = subprocess.Popen(
                    [sys.executable, "-P", "-W", "ignore", str(_SCRIPT), str(os.getpid())],
                    stdin=theirs.fileno(),
                    stdout=self._output.fileno(),
                    stderr=self._output.fileno(),
                    # Nothing there shortens the paths that Cython writes, and no directory of the
                    # user's is kept busy.
                    cwd="/",
                    env=environment,
                    # Out of reach of Ctrl-C, which the terminal sends to the program's group.
                    start_new_session=True,
                )
        except OSError as error:
            self.forget()
            raise Died(f"{sys.executable} cannot be started: {error.strerror}", "") from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def start(self, deadline: float) -> None:
        """Wait until Cython has been imported; raises what `translate` raises."""
        if not self._ready:
            with self._guarded():
                self._send({"sys_path": search_path()}, deadline)
                hello = self._receive(deadline)
            if "failed" in hello:
                self.stop()
                raise Died(f"it cannot import Cython: {hello['failed']}", hello["traceback"])
            self._ready = True

    def begin(self, request: dict[str, Any], deadline: float) -> None:
        """Give it a request; return when it has been taken up. Raises what `finish` raises."""
        with self._guarded():
            self._send(request, deadline)
            self._receive(deadline)

    def finish(self, deadline: float) -> dict[str, Any]:
        """Return the result of the request that has been taken up.

        Raises:
            Died: the process ended instead.
            Expired: there was no answer before `deadline` (of time.monotonic).
        """
        with self._guarded():
            return self._receive(deadline)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """End the process if the exchange is broken off, for whatever reason.

        An answer that came later would be taken for that to the next request.
        """
        try:
            yield
        except TimeoutError:
            raise Expired(self.stop()) from None
        except OSError:
            # It closes its end by ending only; if that takes long, it is as good as dead.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            code = self._process.poll()
            raise Died(_how(code), self.stop()) from None
        except BaseException:
            self.stop()
            raise

    def _send(self, message: dict[str, Any], deadline: float) -> None:
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        self._socket.sendall(json.dumps(message).encode("ascii") + b"\n")

    def _receive(self, deadline: float) -> dict[str, Any]:
        while (end := self._buffer.find(b"\n")) < 0:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            chunk = self._socket.recv(1 << 16)
            if not chunk:
                raise ConnectionResetError
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        message: dict[str, Any] = json.loads(line)
        return message

    def output(self) -> str:
        """What the process has printed since the last request."""
        with contextlib.suppress(OSError):
            size = os.fstat(self._output.fileno()).st_size
            start = max(0, size - _OUTPUT_BYTES)
            return os.fsdecode(os.pread(self._output.fileno(), _OUTPUT_BYTES, start))
        return ""

    def stop(self) -> str:
        """End the process and return what it has printed."""
        if self._output.closed:
            return ""
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()
        output = self.output()
        self.forget()
        return output

    def forget(self) -> None:
        """Close what connects this process with it, without touching it."""
        with contextlib.suppress(OSError):
            self._socket.close()
        with contextlib.suppress(OSError):
            self._output.close()

    def disown(self) -> None:
        """Forget it in a child of the process that it belongs to."""
        self.forget()
        self._process.returncode = 0  # else Popen would warn that it still runs, or wait for it


def _likeness(request: dict[str, Any]) -> object:
    return (request["cplus"], request["include_path"], request["directives"], request["shared"])


def _how(code: int | None) -> str:
    if code is None:
        return "it stopped answering"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
    return f"it exited with status {code}"


class Pool:
    """Processes that translate, started when they are first wanted."""

    def __init__(self) -> None:
        """Start none yet."""
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._busy = 0
        # the one that was used last comes last: it is the warmest
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()

    def ask(
        self, request: dict[str, Any], *, version: str, timeout: float, jobs: int = 1
    ) -> dict[str, Any]:
        """Have a request answered; "output" of the answer is what was printed meanwhile.

        Args:
            request: for the worker's translate().
            version: the Cython that is installed now. A process that was started with another one
                is replaced.
            timeout: seconds that it may take, without waiting for its turn.
            jobs: how many requests may be answered at the same time, this one included.

        Raises:
            Died: the process could not be started, or ended instead, and so did another one.
            Expired: it took too long.
        """
        with self._turn(jobs):
            deadline = time.monotonic() + timeout
            try:
                process, answer = self._answered(request, version, deadline)
            except Died:
                # Whoever has killed it (the system, for want of memory) did not mean the request.
                process, answer = self._answered(request, version, deadline)
            if answer["last"]:
                # The next request shall not have to wait for Cython to be imported.
                process.stop()
                with contextlib.suppress(Died):
                    process = self._started(version)
            process.lately = _likeness(request)
            with self._changed:
                self._idle.append(process)
            return answer

    def _answered(
        self, request: dict[str, Any], version: str, deadline: float
    ) -> tuple[_Process, dict[str, Any]]:
        process = self._begun(request, version, deadline)
        try:
            answer = process.finish(deadline)
            answer["output"] = process.output()
        except BaseException:
            process.stop()
            raise
        return process, answer

    def prepare(self, version: str) -> None:
        """Start a process, so that the first request finds it importing Cython or done with it."""
        with self._changed:
            self._idle = [process for process in self._idle if process.alive()]
            if self._idle or self._busy:
                return
            with contextlib.suppress(Died):  # the first request will tell
                self._idle.append(self._started(version))

    def stop(self) -> None:
        """End all processes; later requests start new ones."""
        for process in self._all:
            process.stop()

    def processes(self) -> list[int]:
        """The ids of the processes that are alive."""
        return [process.pid for process in self._all if process.alive()]

    @contextlib.contextmanager
    def _turn(self, jobs: int) -> Iterator[None]:
        with self._changed:
            while self._busy >= max(1, jobs):
                self._changed.wait()
            self._busy += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify()

    def _begun(self, request: dict[str, Any], version: str, deadline: float) -> _Process:
        """A process that has taken up the request."""
        while (process := self._taken(_likeness(request))) is not None:
            if process.alive() and process.version == version:
                # It may have died in its sleep: then another one can still do it.
                with contextlib.suppress(Died):
                    process.start(deadline)
                    process.begin(request, deadline)
                    return process
            process.stop()
        process = self._started(version)
        process.start(deadline)
        process.begin(request, deadline)
        return process

    def _taken(self, likeness: object) -> _Process | None:
        """An idle process: one that did the like of it before, or else the warmest."""
        with self._changed:
            if not self._idle:
                return None
            alike = [process for process in self._idle if process.lately == likeness]
            process = alike[-1] if alike else self._idle[-1]
            self._idle.remove(process)
            return process

    def _started(self, version: str) -> _Process:
        process = _Process(version)
        with self._changed:
            self._all = {process, *(other for other in self._all if other.alive())}
        return process

    def _after_fork(self) -> None:
        for process in self._all:
            process.disown()
        self._reset()  # the lock too: another thread may have held it, and is not here


pool = Pool()
"""The processes of this program."""

os.register_at_fork(after_in_child=pool._after_fork)
atexit.register(pool.stop)
