/* Pointers into a library that other libraries keep in their data. */
#ifndef RELIB_POINTERS_H
#define RELIB_POINTERS_H

#include <Python.h>

/* pointers_into(lo, hi) -> list of (library path, symbol or "", offset from it, target - lo), one
   for each word that points into [lo, hi), at most 64: of the writable segments of all other
   libraries and the program, of Python's thread states, and of the hooks that Python keeps in
   lists. The path is "" for the program. Needs the GIL. NULL with ValueError or MemoryError. */
PyObject *relib_pointers_into(PyObject *self, PyObject *args);

#endif
