/* Functions that keep their identity while their code is exchanged. */
#ifndef RELIB_UPGRADE_H
#define RELIB_UPGRADE_H

#include <Python.h>

/* become(function, newer, husks) -> None. Gives `function` all that `newer` is made of: code, defaults,
   closure, globals. Whoever holds it runs the new code, at no cost per call. What it was made of
   before is the husk, a new function, so that the old version can go on using it: it is put into the
   dict `husks` under the id of `function`, in the same step, so that no interrupt can lose it. Weak
   references and attributes set by the program stay with the identity. Both must be of the same
   type: Cython's functions, fused ones, or built-in functions. TypeError when they are not,
   MemoryError; then nothing has been changed. Needs the GIL. */
PyObject *relib_become(PyObject *self, PyObject *args);

#endif
