"""Compilers as child processes: several at once, each with a deadline, none left behind."""

from __future__ import annotations

import contextlib
import functools
import os
import selectors
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relib.building.ending import Alarm, Ended

__all__ = ["Finished", "compiler_environment", "giving_way", "run_all"]

# One bad template can make a C++ compiler print without end; this much of it is kept.
_OUTPUT_BYTES = 8 << 20

_way = threading.local()


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended."""

    command: tuple[str, ...]
    returncode: int
    """As in :mod:`subprocess`: negative when a signal ended it."""
    output: str
    """What it wrote to stdout and stderr, in order."""
    expired: bool
    """It took too long, and was ended with everything that it had started."""


@dataclass(slots=True)
class _Child:
    index: int
    command: tuple[str, ...]
    process: subprocess.Popen[bytes]
    deadline: float
    killed: bool = False
    spool: int | None = None
    """A file that it writes into, in the place of a pipe."""
    pidfd: int | None = None
    """What tells that it has ended, if there is no pipe."""
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0

    def read(self) -> bool:
        """Take what the child has written; False at the end of its output."""
        assert self.process.stdout is not None
        chunk = os.read(self.process.stdout.fileno(), 1 << 16)
        if self.size < _OUTPUT_BYTES:
            self.chunks.append(chunk)
            self.size += len(chunk)
        return bool(chunk)

    def kill(self) -> None:
        """End the child and all that it has started."""
        self.strike()
        self._reap()

    def strike(self) -> None:
        """The same without waiting for it."""
        # Before it is reaped: its number cannot belong to another group until then.
        if self.process.returncode is None:
            self.killed = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def read_spooled(self) -> None:
        """Take what the child has written into its file."""
        if self.spool is not None:
            size = min(os.fstat(self.spool).st_size, _OUTPUT_BYTES)
            self.chunks.append(os.pread(self.spool, size, 0))

    def end(self) -> Finished:
        """Wait for a child that has closed its output, or whose time is up."""
        try:
            if time.monotonic() >= self.deadline:
                self.kill()
            self.process.wait(max(0.0, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
        self._reap()
        self.read_spooled()
        self.close()
        return Finished(
            self.command,
            self.process.returncode,
            # File names come as bytes; fsdecode gives them the form that Path and open() take.
            os.fsdecode(b"".join(self.chunks)),
            self.killed and self.process.returncode != 0,
        )

    def _reap(self) -> None:
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def close(self) -> None:
        """Let go of what else belongs to it."""
        # Taken out first: whoever is interrupted comes here again, and by then the number may be
        # another file's.
        fds = (self.spool, self.pidfd)
        self.spool = self.pidfd = None
        for fd in fds:
            if fd is not None:
                os.close(fd)

    @property
    def signal_of_end(self) -> int:
        """What becomes readable when it writes or ends."""
        if self.pidfd is not None:
            return self.pidfd
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def is_at_end(self) -> bool:
        """Whether it has ended, or closed its output; called when there is news."""
        return self.pidfd is not None or not self.read()


def compiler_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a compiler: this process's, with messages in plain English.

    >>> compiler_environment({"PATH": "/bin", "LC_ALL": "de_DE"})
    {'PATH': '/bin', 'LC_ALL': 'C'}
    """
    child = dict(os.environ if environ is None else environ)
    child["LC_ALL"] = "C"
    return child


@contextlib.contextmanager
def giving_way(niceness: int) -> Iterator[None]:
    """The commands that this thread runs within give way to the program, by so much more.

    The thread itself does not: what else it starts, and leaves running, would for ever; and the
    program waits for it wherever it has a lock.
    """
    _way.niceness = niceness
    try:
        yield
    finally:
        _way.niceness = 0


def run_all(
    commands: Sequence[Sequence[str]],
    *,
    jobs: int,
    timeout: float,
    cwd: Path,
    brief: bool = False,
) -> list[Finished | None]:
    """Run commands, at most ``jobs`` at a time, and return how each ended.

    After one has failed no further one is started (those are None in the result); the ones that run
    are waited for, so that what is reported does not depend on which was faster. However this
    function is left, also by KeyboardInterrupt, no process that it started, and none in their
    process groups, is still alive.

    Args:
        commands: program and arguments of each.
        jobs: how many run at the same time.
        timeout: seconds that each may take.
        cwd: the directory they run in.
        brief: they are known to write little, and line by line: tcc wakes a reader two hundred
            times for the attributes that it does not know. They write into a file.

    Raises:
        OSError: a command could not be started.
        Ended: they have been ended by another thread, or the program is ending.
    """
    results: list[Finished | None] = [None] * len(commands)
    waiting = deque(enumerate(commands))
    children = _Children()
    running = children.running
    start = functools.partial(
        _start,
        timeout=timeout,
        cwd=cwd,
        environ=compiler_environment(),
        brief=brief,
        niceness=getattr(_way, "niceness", 0),
    )
    failed = False
    # The alarm is left last: that says that the processes are gone.
    with Alarm() as alarm, selectors.DefaultSelector() as selector:
        selector.register(alarm, selectors.EVENT_READ)
        try:
            while running or (waiting and not failed):
                while waiting and not failed and len(running) < max(1, jobs):
                    child = children.start(functools.partial(start, *waiting.popleft()))
                    selector.register(child.signal_of_end, selectors.EVENT_READ, child)
                soonest = min(child.deadline for child in running)
                ready = selector.select(max(0.0, soonest - time.monotonic()))
                if alarm.is_due():
                    raise Ended
                at_end = [key.data for key, _ in ready if key.data.is_at_end()]
                now = time.monotonic()
                for child in [c for c in running if c in at_end or c.deadline <= now]:
                    selector.unregister(child.signal_of_end)
                    finished = child.end()
                    running.remove(child)
                    results[child.index] = finished
                    failed |= finished.expired or finished.returncode != 0
        finally:
            children.end()
    return results


class _Children:
    """The children that run. Between the fork and the note of it, none is lost."""

    def __init__(self) -> None:
        self.running: list[_Child] = []
        self._lock = threading.Lock()
        self._ended = False

    def start(self, start: Callable[[], _Child]) -> _Child:
        """Start a child and note it.

        KeyboardInterrupt, as all that a signal handler raises, comes between any two steps of the
        main thread, and never in another one: that one starts the child.
        """
        if threading.current_thread() is not threading.main_thread():
            self.running.append(start())
            return self.running[-1]
        failures: list[BaseException] = []
        thread = threading.Thread(
            target=self._start_noted, args=(start, failures), name="relib-compiler"
        )
        thread.start()
        thread.join()
        if failures:
            raise failures.pop()
        return self.running[-1]

    def _start_noted(self, start: Callable[[], _Child], failures: list[BaseException]) -> None:
        with self._lock:
            if self._ended:
                return  # the main thread does not wait for this any more
            try:
                self.running.append(start())
            except BaseException as error:
                failures.append(error)

    def end(self) -> None:
        """Kill those that run; no further one starts."""
        with self._lock:
            self._ended = True
        for child in self.running:  # all, before another interrupt comes while one is waited for
            child.strike()
        for child in self.running:
            child.kill()
            child.close()


def _start(
    index: int,
    command: Sequence[str],
    *,
    timeout: float,
    cwd: Path,
    environ: dict[str, str],
    brief: bool,
    niceness: int,
) -> _Child:
    spool = os.memfd_create("relib", os.MFD_CLOEXEC) if brief and _has_pidfd() else None
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if spool is None else spool,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=environ,
            # A group of its own: the driver's cc1, as and ld can then be ended together with it.
            process_group=0,
        )
    except BaseException:
        if spool is not None:
            os.close(spool)
        raise
    if niceness:
        with contextlib.suppress(OSError):  # it has ended already
            now = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PGRP, process.pid, now + niceness)
    child = _Child(index, tuple(command), process, time.monotonic() + timeout, spool=spool)
    try:
        if spool is not None:
            child.pidfd = os.pidfd_open(process.pid)
    except OSError:
        child.kill()
        child.close()
        raise
    return child


@functools.cache
def _has_pidfd() -> bool:
    """Whether a file descriptor can stand for a process (Linux 5.3)."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return hasattr(os, "memfd_create")
