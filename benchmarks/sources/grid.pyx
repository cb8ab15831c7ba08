# cython: language_level=3
"""Arrays of numpy, as memoryviews."""

import numpy as np
cimport numpy as cnp

cnp.import_array()


def smooth(double[:, ::1] cells):
    cdef Py_ssize_t i, j
    cdef cnp.ndarray[double, ndim=2] result = np.array(cells)
    for i in range(1, cells.shape[0] - 1):
        for j in range(1, cells.shape[1] - 1):
            result[i, j] = (
                cells[i - 1, j] + cells[i + 1, j] + cells[i, j - 1] + cells[i, j + 1]
            ) / 4
    return result


def total(double[:] values):
    cdef double found = 0
    cdef Py_ssize_t i
    for i in range(values.shape[0]):
        found += values[i]
    return found
