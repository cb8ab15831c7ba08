/* Which threads of the process are inside a library. */
#ifndef RELIB_THREADS_H
#define RELIB_THREADS_H

#include "stacks.h"

/* threads_inside(lo, hi) -> list of (kernel thread id, how) of every thread but the calling one
   that is, or may be, inside [lo, hi). How: "running" its code, with its return address on the
   "stack", about to "start" in it, or "unknown". Threads that wait are examined from outside and
   never disturbed. (0, "unknown") when the threads cannot be listed. Needs the GIL and keeps it.
   NULL with ValueError or MemoryError. */
PyObject *relib_threads_inside(PyObject *self, PyObject *args);

#endif
