/* The objects that hang together with a version's module: it, its namespace, its functions and
   types, their instances, and what these have to themselves. Found by tp_traverse; the search stops
   where the rest of the program begins. Nothing is changed. */
#ifndef RELIB_MEMBERS_H
#define RELIB_MEMBERS_H

#include "library.h"
#include "member_set.h"

typedef struct {
    relib_library *library;
    PyObject *module, *namespace, *name;
    relib_member_set members;   /* the module is the first */
    relib_member_set strangers; /* at which the search has stopped; `outside`: how often */
    const PyTypeObject *foreign; /* the last type that was found not to be the version's */
    int failed;     /* no memory */
    int collecting; /* whether the collector was on, which up to Python 3.11 any allocation starts */
} relib_graph;

/* Finds them, and keeps the collector off until relib_graph_release. `held` is a list with the
   module as its one item. Sets library->instances. Needs the GIL. 0, or -1 with an exception;
   then there is nothing to release. */
int relib_graph_explore(relib_graph *g, PyObject *held, relib_library *library);

void relib_graph_release(relib_graph *g);

/* The member that an object is, or NULL. */
relib_member *relib_graph_member(const relib_graph *g, const PyObject *object);

/* members(held, library) -> list of them. Needs the GIL. */
PyObject *relib_members(PyObject *self, PyObject *args);

#endif
