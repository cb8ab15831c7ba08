#include "collect.h"

#include "created.h"
#include "keeper.h"
#include "members.h"

/* --- trial deletion --------------------------------------------------------------------------- */

static int
subtract(PyObject *object, void *argument)
{
    relib_member *found = relib_graph_member(argument, object);
    if (found != NULL)
        found->outside--;
    return 0;
}

/* --- what leads to the code ------------------------------------------------------------------- */

typedef struct {
    const relib_graph *g;
    uint32_t *queue, *seen; /* seen in the walk of this number */
    uint32_t number;
    size_t count;
} walk;

/* 0, or -1 when there is no memory. */
static int
begin_walks(walk *w, const relib_graph *g)
{
    *w = (walk){g, PyMem_RawMalloc(g->members.count * sizeof(*w->queue)),
                PyMem_RawCalloc(g->members.count, sizeof(*w->seen)), 0, 0};
    return w->queue == NULL || w->seen == NULL ? -1 : 0;
}

static void
end_walks(walk *w)
{
    PyMem_RawFree(w->queue);
    PyMem_RawFree(w->seen);
}

static int
step(PyObject *object, void *argument)
{
    walk *w = argument;
    relib_member *found = relib_graph_member(w->g, object);
    if (found != NULL && w->seen[found - w->g->members.items] != w->number) {
        w->seen[found - w->g->members.items] = w->number;
        w->queue[w->count++] = (uint32_t)(found - w->g->members.items);
    }
    return 0;
}

/* Whether whoever holds this member can come to the version's code by it. What the version shares
   with the rest of the program (int.__repr__ in the dict of an enum, a logger) is among the
   members too, is held by everybody, and leads nowhere. Without memory: yes. */
static int
leads_to_code(const relib_graph *g, const relib_member *start)
{
    walk w;
    int found = begin_walks(&w, g) < 0;
    w.number = 1;
    if (!found)
        step(start->object, &w);
    for (size_t i = 0; !found && i < w.count; i++) {
        const relib_member *at = &g->members.items[w.queue[i]];
        PyTypeObject *type = Py_TYPE(at->object);
        found = at->rank >= RELIB_NAMESPACE || at->leaf ||
                relib_library_is_pointed_to(g->library, at->object,
                                            (size_t)type->tp_basicsize);
        if (!found && type->tp_traverse != NULL)
            type->tp_traverse(at->object, step, &w);
    }
    end_walks(&w);
    return found;
}

PyObject *
relib_held_from_outside(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *held, *library;
    relib_graph g;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &held, relib_library_type, &library) ||
        relib_graph_explore(&g, held, (relib_library *)library) < 0)
        return NULL;
    for (size_t i = 0; i < g.members.count; i++) {
        Py_ssize_t references = Py_REFCNT(g.members.items[i].object);
        /* Immortal objects (CPython 3.12+) have no count to speak of. */
        g.members.items[i].outside = references >= (Py_ssize_t)1 << 30 ? PY_SSIZE_T_MIN : references;
    }
    g.members.items[0].outside--; /* `held` itself */
    for (size_t i = 0; i < g.members.count; i++) {
        PyTypeObject *type = Py_TYPE(g.members.items[i].object);
        if (g.members.items[i].leaf)
            subtract((PyObject *)type, &g); /* instances own a reference to a heap type */
        else if (type->tp_traverse != NULL)
            type->tp_traverse(g.members.items[i].object, subtract, &g);
    }
    PyObject *found = PyList_New(0);
    for (size_t i = 0; found != NULL && i < g.members.count; i++) {
        if (g.members.items[i].outside <= 0 || !leads_to_code(&g, &g.members.items[i]))
            continue;
        PyObject *one = Py_BuildValue("(On)", g.members.items[i].object, g.members.items[i].outside);
        if (one == NULL || PyList_Append(found, one) < 0)
            Py_CLEAR(found);
        Py_XDECREF(one);
    }
    relib_graph_release(&g);
    return found;
}

/* --- what leads to instances ------------------------------------------------------------------ */

/* Whether an instance would go with this value of the namespace's. */
static int
leads_to_instance(walk *w, PyObject *value)
{
    w->number++;
    w->count = 0;
    step(value, w);
    for (size_t i = 0; i < w->count; i++) {
        const relib_member *at = &w->g->members.items[w->queue[i]];
        if (at->instance)
            return 1;
        if (!at->leaf && at->rank != RELIB_NAMESPACE && at->rank < RELIB_MODULE &&
            Py_TYPE(at->object)->tp_traverse != NULL)
            Py_TYPE(at->object)->tp_traverse(at->object, step, w);
    }
    return 0;
}

PyObject *
relib_names_of_instances(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *held, *library, *key, *value;
    relib_graph g;
    walk w;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &held, relib_library_type, &library) ||
        relib_graph_explore(&g, held, (relib_library *)library) < 0)
        return NULL;
    PyObject *names = PyList_New(0);
    if (begin_walks(&w, &g) < 0) {
        Py_CLEAR(names);
        PyErr_NoMemory();
    }
    for (Py_ssize_t at = 0; names != NULL && PyDict_Next(g.namespace, &at, &key, &value);)
        if (leads_to_instance(&w, value) && PyList_Append(names, key) < 0)
            Py_CLEAR(names);
    end_walks(&w);
    relib_graph_release(&g);
    return names;
}

/* --- into the youngest generation ------------------------------------------------------------- */

/* Tells the keeper of the references that the leaves own. 0, or -1 when there is no memory. */
static int
arm(const relib_graph *g)
{
    PyObject *keeper = NULL;
    size_t count = 0;
    relib_keeper_debt *debts = PyMem_RawMalloc(g->members.count * sizeof(*debts));
    if (debts == NULL)
        return -1;
    for (size_t i = 0; i < g->members.count; i++) {
        PyTypeObject *type = Py_TYPE(g->members.items[i].object);
        if (g->members.items[i].rank == RELIB_KEEPER)
            keeper = g->members.items[i].object;
        if (g->members.items[i].leaf && relib_graph_member(g, (PyObject *)type) != NULL)
            debts[count++] = (relib_keeper_debt){type, Py_REFCNT(type)};
    }
    if (keeper != NULL && count > 0)
        relib_keeper_arm(keeper, debts, count);
    else
        PyMem_RawFree(debts);
    return 0;
}

/* Whether it would still point into the code if it outlived its module. */
static int
survives(const relib_graph *g, const relib_member *at)
{
    PyTypeObject *type = Py_TYPE(at->object);
    return PyType_Check(at->object) ||
           (at->rank == RELIB_FUNCTIONS && !at->leaf && type->tp_weaklistoffset > 0 &&
            relib_library_is_pointed_to(g->library, at->object,
                                            (size_t)type->tp_basicsize));
}

PyObject *
relib_rejuvenate(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *held, *library;
    int last;
    relib_graph g;
    if (!PyArg_ParseTuple(args, "O!O!p", &PyList_Type, &held, relib_library_type, &library,
                          &last) ||
        relib_graph_explore(&g, held, (relib_library *)library) < 0)
        return NULL;
    /* Before the last time some of the leaves are freed on the way, and their references with them:
       the keeper would report one too many (a debug build of Python stops there). */
    if (last && arm(&g) < 0) {
        relib_graph_release(&g);
        return PyErr_NoMemory();
    }
    Py_ssize_t moved = 0;
    int noted = 0;
    for (size_t i = 0; last && noted == 0 && i < g.members.count; i++)
        if (survives(&g, &g.members.items[i]))
            noted = relib_created_note((relib_library *)library, g.members.items[i].object);
    if (noted < 0) {
        relib_graph_release(&g);
        return NULL;
    }
    for (int rank = 0; rank < RELIB_RANKS; rank++) {
        for (size_t i = 0; i < g.members.count; i++) {
            if ((int)g.members.items[i].rank != rank ||
                !PyObject_IS_GC(g.members.items[i].object) ||
                !PyObject_GC_IsTracked(g.members.items[i].object))
                continue;
            PyObject_GC_UnTrack(g.members.items[i].object);
            PyObject_GC_Track(g.members.items[i].object);
            moved++;
        }
    }
    relib_graph_release(&g);
    return PyLong_FromSsize_t(moved);
}
