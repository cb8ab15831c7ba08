/* A set of objects, with what is known of each. */
#ifndef RELIB_MEMBER_SET_H
#define RELIB_MEMBER_SET_H

#include <Python.h>
#include <stdint.h>

/* The order of clearing. The collector finalizes everything first, then clears objects in the
   order of its list (CPython 3.11-3.13, Modules/gcmodule.c and Python/gc.c, delete_garbage; the
   lists keep the order of tracking). A tp_dealloc of the module's own code that runs while things
   are cleared still needs its namespace, its type and above all its module state, whose lookup
   fails with a crash once the module has been cleared: so these go last, and the keeper after all
   else. */
typedef enum {
    RELIB_INSTANCES,
    RELIB_CONTAINERS,
    RELIB_FUNCTIONS,
    RELIB_NAMESPACE,
    RELIB_TYPES,
    RELIB_MODULE,
    RELIB_KEEPER,
    RELIB_RANKS, /* how many; or none yet */
} relib_rank;

typedef struct {
    PyObject *object; /* borrowed: nothing is freed while no code runs, the collector's included */
    Py_ssize_t outside; /* references to it from elsewhere, once they have been counted */
    relib_rank rank;
    char leaf;     /* not an object of the collector's */
    char instance; /* its end may run code */
} relib_member;

/* Starts as zeros. */
typedef struct {
    relib_member *items;
    size_t count, room;
    uint32_t *index; /* open addressing: position + 1 */
    size_t slots;
} relib_member_set;

/* The item that an object is, or NULL. */
relib_member *relib_member_set_find(const relib_member_set *set, const PyObject *object);

/* The item that an object is; if it is new, it has the rank RELIB_RANKS. NULL without memory.
   Earlier items may move. */
relib_member *relib_member_set_add(relib_member_set *set, PyObject *object);

void relib_member_set_free(relib_member_set *set);

#endif
