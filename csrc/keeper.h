/* The link from a namespace back to its module, which makes the module live exactly as long as
   anything that runs its code.

   A function of Cython's refers to the namespace that it was defined in, not to the module; were
   the module to die before it, its state would be gone, and the function would crash when called.
   So the namespace holds a keeper, and the keeper holds the module.

   It also sees to the order of the end. Were it a plain reference, clearing the namespace and the
   types would drop the last reference to the module and free it before the collector has come to
   its tp_clear, and without that Cython never releases the module's state (it has no m_free). The
   keeper refers to itself, so it goes only when the collector clears it, which rejuvenate() puts
   last.

   Its own end is the proof that the module has gone. A weak reference is none: Python up to 3.13
   clears those to garbage before it runs finalizers, and one of these may bring everything back
   (CPython 3.11-3.13, gc_collect_main: handle_weakrefs comes before finalize_garbage).

   And it stands in for objects that the collector does not know. An instance of a class without
   object fields refers to its class, and cannot be asked: the class, the module and the namespace
   that holds the instance would be a cycle that is never collected. Once it is shown that nothing
   else holds such instances, the keeper is told of their references, and reports them as its own
   for the length of one collection. */
#ifndef RELIB_KEEPER_H
#define RELIB_KEEPER_H

#include "library.h"

extern PyTypeObject *relib_keeper_type;

/* The module that a keeper keeps, borrowed, or NULL. */
PyObject *relib_keeper_module(PyObject *keeper);

/* A reference that an instance owns. */
typedef struct {
    PyTypeObject *type;    /* borrowed */
    Py_ssize_t references; /* to the type, from anywhere, when the keeper was told */
} relib_keeper_debt;

/* From now until relib_keeper_disarm the keeper reports these references. Takes over `debts`, made
   with PyMem_RawMalloc. Needs the GIL. */
void relib_keeper_arm(PyObject *keeper, relib_keeper_debt *debts, size_t count);

/* disarm() -> None. Ends what relib_keeper_arm began, on whatever keeper is left. */
PyObject *relib_keeper_disarm(PyObject *self, PyObject *args);

/* Adds Keeper(module, library) to `module`; library->keeper is the keeper until it is freed.
   Needs the GIL. 0, or -1 with an exception. */
int relib_keeper_init(PyObject *module);

#endif
