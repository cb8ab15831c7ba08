"""A large Cython source, the same each time: many iterators and functions with long docstrings."""

from __future__ import annotations

__all__ = ["large_source"]

_HEAD = '''# cython: language_level=3
"""Lazy operations on sequences, {count} times over."""
EDITION = 0

cdef object no_default = object()
'''

_BLOCK = '''

cdef class Window{i}:
    """ Yield overlapping runs of ``size`` items of ``items``

    >>> list(Window{i}([1, 2, 3], 2))
    [(1, 2), (2, 3)]
    """
    cdef object items
    cdef tuple last
    cdef Py_ssize_t size

    def __cinit__(self, items, Py_ssize_t size):
        self.items = iter(items)
        self.size = size
        self.last = ()

    def __iter__(self):
        return self

    def __next__(self):
        while len(self.last) < self.size:
            self.last += (next(self.items),)
        result = self.last
        self.last = result[1:]
        return result


cpdef dict group{i}(object key, object items):
    """ The items by ``key``, which is a function or an index

    >>> group{i}(len, ["a", "bb", "c"])
    {{1: ['a', 'c'], 2: ['bb']}}
    """
    cdef dict found = {{}}
    for item in items:
        name = key(item) if callable(key) else item[key]
        if name in found:
            (<list>found[name]).append(item)
        else:
            found[name] = [item]
    return found


def fold{i}(function, items, start=no_default, *, long limit={i}):
    """ Like functools.reduce, for the first ``limit`` items """
    cdef long count = 0
    for item in items:
        if count >= limit:
            break
        start = item if start is no_default else function(start, item)
        count += 1
    if start is no_default:
        raise TypeError("nothing to fold")
    return start


def pluck{i}(keys, items, default=None):
    """ One or more fields of each item """
    if isinstance(keys, list):
        for item in items:
            yield tuple([item.get(key, default) for key in keys])
    else:
        for item in items:
            yield item.get(keys, default)
'''


def large_source(lines: int) -> str:
    """Cython source of about `lines` lines."""
    count = max(1, round(lines / _BLOCK.count("\n")))
    return _HEAD.format(count=count) + "".join(_BLOCK.format(i=i) for i in range(count))
