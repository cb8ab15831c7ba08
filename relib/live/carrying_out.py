"""Steps that are to be gone through to the end, whatever comes between."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["carry_out"]

_MOST = 3
"""How often a step is begun that is interrupted."""


def carry_out(steps: list[Callable[[], object]]) -> BaseException | None:
    """Go through all of the steps; what one raises does not keep the others from being done.

    Args:
        steps: each may be begun again when it has been interrupted by a KeyboardInterrupt. The list
            is empty at the end: whoever keeps what is raised keeps frames, which are not to keep
            what the steps were about.

    Returns:
        What was raised first, for the caller to raise when all is done.

    >>> carry_out([lambda: 1 / 0, lambda: print("done")])
    done
    ZeroDivisionError('division by zero')
    """
    steps.reverse()
    failure: BaseException | None = None
    interrupts = 0
    try:
        while steps:
            try:
                while steps:
                    steps[-1]()
                    interrupts = 0
                    steps.pop()
            except KeyboardInterrupt as error:
                failure = failure or error
                interrupts += 1
                if interrupts == _MOST:
                    interrupts = 0
                    steps.pop()
            except BaseException as error:
                failure = failure or error
                steps.pop()
        return failure
    finally:
        failure = None  # it refers to this frame
