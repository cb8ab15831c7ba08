/* The static types of a library. */
#ifndef RELIB_STATIC_TYPES_H
#define RELIB_STATIC_TYPES_H

#include <Python.h>

/* static_types(lo, hi) -> list of the names of the static types that lie in [lo, hi), a writable
   segment of a library, and that Python has made ready. Needs the GIL. NULL with ValueError or
   MemoryError. */
PyObject *relib_static_types(PyObject *self, PyObject *args);

#endif
