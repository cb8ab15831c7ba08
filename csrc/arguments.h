/* The argument that the searches share: a range of addresses. */
#ifndef RELIB_ARGUMENTS_H
#define RELIB_ARGUMENTS_H

#include <Python.h>

#include "words.h"

/* Reads (lo, hi) by `format`, "KK:" and the name of the function. Needs the GIL. 0, or -1 with
   TypeError or ValueError. */
static inline int
relib_range_argument(PyObject *args, const char *format, relib_range *range)
{
    unsigned long long lo, hi;
    if (!PyArg_ParseTuple(args, format, &lo, &hi))
        return -1;
    if (hi < lo) {
        PyErr_SetString(PyExc_ValueError, "the range ends before it starts");
        return -1;
    }
    *range = (relib_range){lo, hi - lo};
    return 0;
}

#endif
