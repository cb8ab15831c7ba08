/* Who else holds the members of a version, and their end.

   They form a cycle (module, namespace, functions, types), which only the cyclic collector frees; a
   full collection costs time for every object of the program. So they are put into the youngest
   generation, which is all that then has to be collected. */
#ifndef RELIB_COLLECT_H
#define RELIB_COLLECT_H

#include "library.h"

/* held_from_outside(held, library) -> list of (object, references): the members that lead to the
   version's code and have references from elsewhere, and how many; empty when it is only held by
   `held`, a list with the module as its one item. Changes nothing. Needs the GIL. */
PyObject *relib_held_from_outside(PyObject *self, PyObject *args);

/* names_of_instances(held, library) -> list of the module's names whose values lead to instances of
   its classes. Needs the GIL. */
PyObject *relib_names_of_instances(PyObject *self, PyObject *args);

/* rejuvenate(held, library, last) -> number of objects moved to the youngest generation, in the
   order in which they can be cleared safely. If this is the last time, adds weak references to the
   types and functions among them to library.created: what outlives its module still points into
   the code. Call disarm() after the collection. Needs the GIL. */
PyObject *relib_rejuvenate(PyObject *self, PyObject *args);

#endif
