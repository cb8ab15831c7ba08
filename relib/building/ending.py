"""Ends from outside what a thread builds: when nobody waits for it, and when the program ends.

Compilers run in process groups of their own, so that neither Ctrl-C nor the end of the program
reaches them; whoever has begun a build must be able to end it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Iterator

__all__ = ["Alarm", "Ended", "Ending"]

_LONGEST = 5.0
"""Seconds to wait until the processes have been ended; it takes some milliseconds."""

_changed = threading.Condition()
_alarms: set[Alarm] = set()
_local = threading.local()


class Ended(BaseException):
    """Raised where compilers were running, or were to be started, that have been ended.

    Like KeyboardInterrupt it is no Exception: nothing is wrong with what was being built, and
    nothing else is to be tried in its place.
    """


class Ending:
    """Ends what threads build that have said that it belongs to this.

    >>> ending = Ending()
    >>> with ending.here():
    ...     pass  # a build, while another thread may call ending.end()
    >>> ending.end()
    >>> ending.ended
    True
    """

    def __init__(self) -> None:
        """What belongs to this belongs to what the thread that makes it is in, too."""
        self._above: Ending | None = getattr(_local, "ending", None)
        self._ended = False

    @property
    def ended(self) -> bool:
        """Whether everything is to end."""
        return self._ended or (self._above is not None and self._above.ended)

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """What this thread builds within belongs to this, and raises Ended once it has ended."""
        before = getattr(_local, "ending", None)
        _local.ending = self
        try:
            yield
        finally:
            _local.ending = before

    def end(self) -> None:
        """End the processes that run, and let no further one start; return when they are gone."""
        with _changed:
            self._ended = True
            _ring([alarm for alarm in _alarms if alarm.ending is not None and alarm.ending.ended])


class Alarm:
    """What tells a thread that waits for processes to end them, and to raise Ended.

    In a ``with`` block: leaving it says that they are gone.

    Raises:
        Ended: it has been told already.
    """

    def __init__(self) -> None:
        """In the thread that waits."""
        self.ending: Ending | None = getattr(_local, "ending", None)
        self.thread = threading.current_thread()
        self.rung = False

    def __enter__(self) -> Alarm:
        with _changed:
            if self.is_due():
                raise Ended
            self._ear, self._bell = os.pipe()
            _alarms.add(self)
        return self

    def is_due(self) -> bool:
        """Whether the processes are to be ended."""
        if self.ending is not None and self.ending.ended:
            return True
        return self.rung or (_at_exit and self.thread is not threading.main_thread())

    def fileno(self) -> int:
        """What becomes readable when it rings."""
        return self._ear

    def ring(self) -> None:
        """Wake the thread; with the lock held."""
        if not self.rung:
            self.rung = True
            os.write(self._bell, b"!")

    def __exit__(self, *_: object) -> None:
        with _changed:
            if self in _alarms:  # else this is the child of a fork, which has closed them
                _alarms.remove(self)
                self.close()
                _changed.notify_all()

    def close(self) -> None:
        """Hear nothing any more."""
        os.close(self._ear)
        os.close(self._bell)


def _ring(alarms: list[Alarm]) -> None:
    for alarm in alarms:
        alarm.ring()
    # not for its own: the thread that has said so is in no hurry to leave
    others = {alarm for alarm in alarms if alarm.thread is not threading.current_thread()}
    end = time.monotonic() + _LONGEST
    while others & _alarms and (left := end - time.monotonic()) > 0:
        _changed.wait(left)


_at_exit = False


def _end_all() -> None:
    """At the program's end: no thread but this one goes on, and would wait for its compilers."""
    global _at_exit
    with _changed:
        _at_exit = True
        _ring([alarm for alarm in _alarms if alarm.thread is not threading.current_thread()])


def _after_fork() -> None:
    """The processes are the parent's, and so are those who listen: they must not hear a thing."""
    global _changed
    _changed = threading.Condition()
    for alarm in _alarms:
        alarm.close()
    _alarms.clear()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_after_fork)
