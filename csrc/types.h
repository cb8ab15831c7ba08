/* The types of a library: its static ones, and those of others that are its code. */
#ifndef RELIB_TYPES_H
#define RELIB_TYPES_H

#include <Python.h>
#include <stdint.h>

/* types_inside(namespace, library) -> names of the types in a dict whose code is the library's. */
PyObject *relib_types_inside(PyObject *self, PyObject *args);

/* Adds to `names` those of the static types that lie in [lo, hi) and that Python has made ready.
   Needs the GIL. 0, or -1 with MemoryError. */
int relib_find_static_types(PyObject *names, uintptr_t lo, uintptr_t hi);

/* static_types(lo, hi) -> list of the names of the static types that lie in [lo, hi), a writable
   segment of a library, and that Python has made ready. Needs the GIL. NULL with ValueError or
   MemoryError. */
PyObject *relib_static_types(PyObject *self, PyObject *args);

#endif
