"""Permissions that hold for root as well."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec

import pytest

P = ParamSpec("P")

# linux/capability.h, linux/securebits.h, linux/prctl.h
CAPABILITY_VERSION_3 = 0x2008_0522
DAC_OVERRIDE = 1 << 1
DAC_READ_SEARCH = 1 << 2
NOROOT = 1 << 0
PR_SET_SECUREBITS = 28


def without_privileges(test: Callable[P, None]) -> Callable[P, None]:
    """Run a test where nobody may read or write what permissions forbid, not even root.

    It runs in a thread of its own: capabilities are a thread's, and these do not come back. What it
    starts has none either.
    """

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        if os.geteuid() != 0:
            return test(*args, **kwargs)
        with ThreadPoolExecutor(1) as executor:
            if not executor.submit(_drop).result():
                pytest.skip("capabilities cannot be dropped here")
            return executor.submit(test, *args, **kwargs).result()

    return run


def _drop() -> bool:
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; and their upper halves
    if libc.capget(header, sets):
        return False
    for index in range(3):
        sets[index] &= ~(DAC_OVERRIDE | DAC_READ_SEARCH)
    # a program that root executes would get them back
    return not libc.prctl(PR_SET_SECUREBITS, NOROOT, 0, 0, 0) and not libc.capset(header, sets)
