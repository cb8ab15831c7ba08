/* Live instances of types that are not a library's own but may point into it.

   Cython's memoryviews are instances of the anchor's types, and keep pointers to the conversion
   functions and the type description of the module that made them, without a reference to it
   (Cython 3.3, Utility/MemoryView.pyx, to_object_func, to_dtype_func, typeinfo; cython.view.array,
   callback_free_data). The instances of such a type are counted in and out, so that the few that
   live can be looked at. */
#ifndef RELIB_INSTANCES_H
#define RELIB_INSTANCES_H

#include "library.h"

/* watch_instances(type) -> None. From now on the type's instances, those of its subclasses too, are
   known. `type` must allocate with PyType_GenericAlloc, and is kept for ever.
   Needs the GIL. TypeError when it allocates otherwise. */
PyObject *relib_watch_instances(PyObject *self, PyObject *type);

/* instances_into(library) -> list of (object, references), the watched instances that point into
   it and how many references each has. Needs the GIL. */
PyObject *relib_instances_into(PyObject *self, PyObject *library);

#endif
