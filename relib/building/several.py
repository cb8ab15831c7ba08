"""Several builds at once, in threads that neither the program's end nor Ctrl-C waits for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

from relib.building.ending import Ending

__all__ = ["several"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def several(
    work: Callable[[Item], Result], items: Iterable[Item], *, jobs: int
) -> Iterator[Result]:
    """The results of ``work(item)``, in the order of the items, as they become ready.

    For builds of several extensions:

        builds = list(several(lambda module: module.next_build(), modules, jobs=config.jobs))

    The threads are no part of what a program waits for before it ends, as those of an executor are.
    When one item raises, no further one is begun, those that run are waited for, and what the first
    of them (in the order of the items) has raised is raised here. When the caller is interrupted
    (KeyboardInterrupt), or closes this iterator before its end, the compilers that the threads have
    started are ended, and none is alive when it is left. The same happens at the program's end.

    A single item, or one job, is worked on in the thread that asks: there Ctrl-C ends its compiler.

    Args:
        work: called with each item; it may use other items' results only if they do not depend on
            one another.
        items: what to work on.
        jobs: how many at the same time.

    >>> list(several(str.upper, ["a", "b", "c"], jobs=2))
    ['A', 'B', 'C']
    """
    items = list(items)
    jobs = min(jobs, len(items))
    if jobs < 2:
        yield from map(work, items)
        return
    turns = deque(enumerate(items))
    done: SimpleQueue[tuple[int, Result | _Raised]] = SimpleQueue()
    ending = Ending()

    def take_turns() -> None:
        with ending.here():
            while turns:
                try:
                    number, item = turns.popleft()
                except IndexError:  # another thread has taken the last one
                    return
                try:
                    done.put((number, work(item)))
                except BaseException as error:
                    turns.clear()
                    done.put((number, _Raised(error)))

    try:
        threads = _started(take_turns, jobs)
        if not threads:
            take_turns()
        ready: dict[int, Result | _Raised] = {}
        for number in range(len(items)):
            # They are begun in order: all before the first that raises will be there.
            while number not in ready:
                at, result = _next(done)
                ready[at] = result
            outcome = ready.pop(number)
            if isinstance(outcome, _Raised):
                for thread in threads:
                    thread.join()
                raise outcome.error
            yield outcome
    except BaseException:
        turns.clear()
        ending.end()
        raise


def _next(done: SimpleQueue[Result]) -> Result:
    # In steps: when another thread has received the signal of Ctrl-C, nothing wakes this one.
    while True:
        with suppress(Empty):
            return done.get(timeout=1)


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def _started(target: Callable[[], None], jobs: int) -> list[threading.Thread]:
    threads: list[threading.Thread] = []
    for number in range(1, jobs + 1):
        thread = threading.Thread(target=target, name=f"relib-build-{number}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more; from 3.12 on also while the program ends
            break
        threads.append(thread)
    return threads
