"""What a process has besides the modules that are measured: objects, or mappings."""

from __future__ import annotations

import gc
import mmap

__all__ = ["HOSTS", "furnish"]

HOSTS = {"plain": 0, "objects": 5_000_000, "mappings": 2_000}
"""Kinds of host, and how many objects or mappings each has."""

_kept: list[object] = []


def furnish(host: str, amount: int) -> None:
    """Fill this process, for good."""
    if host == "objects":
        _kept.append([[] for _ in range(amount)])
        gc.collect()  # they are old, as in a program that has been running for a while
    elif host == "mappings":
        # Every other one is read-only: the kernel would make one mapping of neighbours alike.
        protections = (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        _kept.extend(mmap.mmap(-1, mmap.PAGESIZE, flags, protections[i % 2]) for i in range(amount))
