/* What the process keeps that points into a library: signal handlers and thread-specific keys. */
#ifndef RELIB_PINS_H
#define RELIB_PINS_H

#include <Python.h>

#include "words.h"

/* signal_handlers(lo, hi) -> list of the signals whose handler lies in [lo, hi). Needs the GIL.
   NULL with ValueError or MemoryError. */
PyObject *relib_signal_handlers(PyObject *self, PyObject *args);

/* thread_keys(lo, hi) -> list of the pthread keys whose destructor lies in [lo, hi); empty when
   the C library does not show its keys. Needs the GIL. NULL with ValueError or MemoryError. */
PyObject *relib_thread_keys(PyObject *self, PyObject *args);

/* Where the C library has its keys; a size of 0 when it does not show them. Looks a symbol up the
   first time. Needs the GIL. */
relib_range relib_key_table(void);

/* thread_keys_known() -> whether the C library shows its keys. Needs the GIL. */
PyObject *relib_thread_keys_known(PyObject *self, PyObject *ignored);

#endif
