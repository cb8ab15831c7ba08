/* From a library to a module object: PyInit_, creation, execution. */
#ifndef RELIB_INITIALISE_H
#define RELIB_INITIALISE_H

#include <Python.h>

/* create(library, symbol, spec) -> (module, executed). Calls the init function `symbol` of the
   library; for multi-phase initialisation makes the module from the definition that it returns,
   with `executed` false; a single-phase module comes back executed. The result may be no module
   object when the extension has its own Py_mod_create. Exceptions of the extension pass through;
   LookupError when there is no such symbol. Needs the GIL. */
PyObject *relib_create(PyObject *self, PyObject *args);

/* execute(module) -> None. Runs the Py_mod_exec slots. Needs the GIL. */
PyObject *relib_execute(PyObject *self, PyObject *module);

/* drop_reference(object) -> None. Takes back a reference that an extension keeps and never gives
   back. Needs the GIL; the caller knows that the count is one too many. */
PyObject *relib_drop_reference(PyObject *self, PyObject *object);

/* share_namespace(public, module) -> None. Makes `public`, a plain module object, show the
   namespace of `module`, or the dict `module`. Attribute access stays as fast as on any module.
   Needs the GIL. */
PyObject *relib_share_namespace(PyObject *self, PyObject *args);

#endif
