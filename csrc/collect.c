#include "collect.h"

#include "created.h"
#include "keeper.h"

/* Past this many objects the search stops; the rest counts as outside. */
#define MOST_OBJECTS 200000
/* A larger container that others hold too is not entered: it is the program's data. */
#define LARGE 512

/* The order of clearing. The collector finalizes everything first, then clears objects in the
   order of its list (CPython 3.11-3.13, Modules/gcmodule.c and Python/gc.c, delete_garbage; the
   lists keep the order of tracking). A tp_dealloc of the module's own code that runs while things
   are cleared still needs its namespace, its type and above all its module state, whose lookup
   fails with a crash once the module has been cleared: so these go last, and the keeper after all
   else. */
enum rank { INSTANCES, CONTAINERS, FUNCTIONS, NAMESPACE, TYPES, MODULE, KEEPER, RANKS };

typedef struct {
    PyObject *object; /* borrowed: nothing is freed while no code runs, the collector's included */
    Py_ssize_t outside;
    enum rank rank;
    char leaf;     /* not a container of the collector's */
    char instance; /* see count_instances */
} member;

typedef struct {
    const relib_library *library;
    PyObject *module, *namespace, *name;
    member *members;
    size_t count, room;
    uint32_t *index; /* open addressing: position + 1 */
    size_t slots;
    int failed;
    int collecting; /* whether the collector was on, which up to Python 3.11 any allocation starts */
} graph;

/* --- the set of members ----------------------------------------------------------------------- */

static size_t
home_of(const graph *g, const PyObject *object)
{
    return (size_t)(((uintptr_t)object >> 4) * 0x9E3779B97F4A7C15ull >> 32) & (g->slots - 1);
}

static member *
member_of(const graph *g, const PyObject *object)
{
    for (size_t i = home_of(g, object); g->index[i]; i = (i + 1) & (g->slots - 1))
        if (g->members[g->index[i] - 1].object == object)
            return &g->members[g->index[i] - 1];
    return NULL;
}

static void
index_member(graph *g, size_t position)
{
    size_t i = home_of(g, g->members[position].object);
    while (g->index[i])
        i = (i + 1) & (g->slots - 1);
    g->index[i] = (uint32_t)position + 1;
}

static int
grow(graph *g)
{
    size_t room = g->room ? g->room * 2 : 256;
    member *members = PyMem_RawRealloc(g->members, room * sizeof(*members));
    if (members != NULL)
        g->members = members;
    uint32_t *index = PyMem_RawCalloc(room * 4, sizeof(*index));
    if (members == NULL || index == NULL) {
        PyMem_RawFree(index);
        return -1;
    }
    PyMem_RawFree(g->index);
    g->index = index;
    g->slots = room * 4;
    g->room = room;
    for (size_t i = 0; i < g->count; i++)
        index_member(g, i);
    return 0;
}

static void
add(graph *g, PyObject *object, enum rank rank, int leaf)
{
    if (g->failed || g->count >= MOST_OBJECTS || (g->index != NULL && member_of(g, object) != NULL))
        return;
    if (g->count == g->room && grow(g) < 0) {
        g->failed = 1;
        return;
    }
    g->members[g->count] = (member){object, 0, rank, (char)leaf, 0};
    index_member(g, g->count++);
}

static void
release(graph *g)
{
    PyMem_RawFree(g->members);
    PyMem_RawFree(g->index);
    if (g->collecting)
        PyGC_Enable();
}

/* --- what belongs to it ----------------------------------------------------------------------- */

static int
in_library(const graph *g, const void *address)
{
    return relib_library_holds(g->library, (uintptr_t)address);
}

/* Any word of the first `size` bytes behind the object's header that points into the library. */
static int
has_pointer(const graph *g, const PyObject *object, size_t size)
{
    const uintptr_t *words = (const uintptr_t *)object;
    for (size_t i = sizeof(PyObject) / sizeof(*words); i < size / sizeof(*words); i++)
        if (in_library(g, (const void *)words[i]))
            return 1;
    return 0;
}

/* A namespace says whose it is. Borrowed, or NULL. */
static PyObject *
entry_of(PyObject *dict, const char *key)
{
    PyObject *found = PyDict_GetItemString(dict, key); /* clears errors itself */
    return found;
}

typedef struct {
    const graph *g;
    int ours, theirs;
} namespaces;

/* A visitproc: notes what versions' namespaces are referred to. */
static int
note_namespace(PyObject *object, void *argument)
{
    namespaces *seen = argument;
    if (object == seen->g->namespace)
        seen->ours = 1;
    else if (PyDict_CheckExact(object) && entry_of(object, "__relib__") != NULL)
        seen->theirs = 1;
    return seen->ours;
}

/* A visitproc for what wraps functions. */
static int
note_namespaces_of(PyObject *object, void *argument)
{
    return PyObject_IS_GC(object) && Py_TYPE(object)->tp_traverse != NULL &&
           !PyType_Check(object) && Py_TYPE(object)->tp_traverse(object, note_namespace, argument);
}

static int
is_wrapper(const PyObject *object)
{
    return Py_IS_TYPE(object, &PyProperty_Type) || Py_IS_TYPE(object, &PyStaticMethod_Type) ||
           Py_IS_TYPE(object, &PyClassMethod_Type);
}

static int
is_our_type(const graph *g, PyTypeObject *type)
{
    if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE))
        return 0;
    PyObject *module = ((PyHeapTypeObject *)type)->ht_module;
    if (module != NULL)
        return module == g->module;
    if (has_pointer(g, (PyObject *)type, sizeof(PyHeapTypeObject)))
        return 1;
    if (type->tp_dict == NULL)
        return 0;
    /* A class may say that it is from elsewhere, and all versions say that they have one name; what
       counts is whose functions it has. */
    PyObject *key, *value;
    namespaces seen = {g, 0, 0};
    for (Py_ssize_t at = 0; !seen.ours && PyDict_Next(type->tp_dict, &at, &key, &value);)
        if (PyObject_IS_GC(value) && Py_TYPE(value)->tp_traverse != NULL)
            Py_TYPE(value)->tp_traverse(
                value, is_wrapper(value) ? note_namespaces_of : note_namespace, &seen);
    if (seen.ours || seen.theirs)
        return seen.ours;
    module = entry_of(type->tp_dict, "__module__");
    return module != NULL && PyUnicode_Check(module) && PyUnicode_Compare(module, g->name) == 0;
}

/* Of an exception that the module keeps, say. */
static int
is_our_frame(const graph *g, PyFrameObject *frame)
{
    PyObject *globals = PyFrame_GetGlobals(frame);
    Py_XDECREF(globals);
    return globals == g->namespace;
}

static int
is_ours_alone(const PyObject *object)
{
    return Py_REFCNT(object) == 1;
}

/* The rank of a container that belongs to the module, or -1 for one at which the search stops. */
static int
rank_of(const graph *g, PyObject *object)
{
    if (object == g->namespace)
        return NAMESPACE;
    if (Py_IS_TYPE(object, relib_keeper_type))
        return relib_keeper_module(object) == g->module ? KEEPER : -1;
    if (PyFrame_Check(object))
        return is_our_frame(g, (PyFrameObject *)object) ? FUNCTIONS : -1;
    if (PyModule_Check(object))
        return is_our_type(g, Py_TYPE(object)) ? INSTANCES : -1;
    if (PyType_Check(object))
        return is_our_type(g, (PyTypeObject *)object) ? TYPES : -1;
    if (PyFunction_Check(object))
        return PyFunction_GET_GLOBALS(object) == g->namespace ? FUNCTIONS : -1;
    if (PyDict_CheckExact(object)) {
        if (PyDict_GET_SIZE(object) > LARGE && !is_ours_alone(object))
            return -1;
        /* Another module's namespace, reached through a function that was imported from it. */
        PyObject *name = entry_of(object, "__name__");
        return name != NULL && entry_of(object, "__spec__") != NULL ? -1 : CONTAINERS;
    }
    if (PyList_CheckExact(object) || PyTuple_CheckExact(object))
        return Py_SIZE(object) > LARGE && !is_ours_alone(object) ? -1 : CONTAINERS;
    if (PyAnySet_CheckExact(object))
        return PySet_GET_SIZE(object) > LARGE && !is_ours_alone(object) ? -1 : CONTAINERS;
    if (PyCFunction_Check(object))
        return FUNCTIONS;
    PyTypeObject *type = Py_TYPE(object);
    if ((type->tp_flags & Py_TPFLAGS_HEAPTYPE) && !is_our_type(g, type) && !is_ours_alone(object)) {
        /* An instance of a class of the program's (a logger, say) leads to all of the program.
           Cython's shared types are heap types too, and their instances are our code. */
        return has_pointer(g, object, (size_t)type->tp_basicsize) ? FUNCTIONS : -1;
    }
    return PyCallable_Check(object) ? FUNCTIONS : INSTANCES;
}

static int
is_plain(const PyObject *object)
{
    return PyUnicode_CheckExact(object) || PyLong_CheckExact(object) ||
           PyFloat_CheckExact(object) || PyBytes_CheckExact(object) || object == Py_None ||
           PyBool_Check(object) || PyCode_Check(object);
}

static int
visit(PyObject *object, void *argument)
{
    graph *g = argument;
    if (!PyObject_IS_GC(object)) {
        /* An instance without object fields; a capsule or ufunc that points into the library. */
        if (!is_plain(object) &&
            (is_our_type(g, Py_TYPE(object)) ||
             has_pointer(g, object, (size_t)Py_TYPE(object)->tp_basicsize)))
            add(g, object, INSTANCES, 1);
        return 0;
    }
    if (!PyObject_GC_IsTracked(object))
        return 0;
    int rank = rank_of(g, object);
    if (rank < 0)
        return 0;
    add(g, object, (enum rank)rank, 0);
    if (rank == INSTANCES && PyModule_Check(object))
        add(g, PyModule_GetDict(object), CONTAINERS, 0); /* it looks like a stranger's namespace */
    if (rank == TYPES) {
        /* After the type, whose tp_clear tells the method cache; a dict does not. */
        PyObject *dict = ((PyTypeObject *)object)->tp_dict;
        if (dict != NULL && PyObject_GC_IsTracked(dict))
            add(g, dict, TYPES, 0);
    }
    return 0;
}

/* How many of the members are instances of the version's own classes, or of classes that nobody
   else refers to, or have a finalizer (a suspended generator has): those whose end runs code. */
static size_t
count_instances(graph *g)
{
    size_t count = 0;
    const PyTypeObject *foreign = NULL; /* most functions are of one type */
    /* Objects of relib's own, whose end runs no code: without them most modules have none. */
    const PyObject *spec = entry_of(g->namespace, "__spec__");
    const PyObject *loader = entry_of(g->namespace, "__loader__");
    for (size_t i = 0; i < g->count; i++) {
        member *at = &g->members[i];
        PyTypeObject *type = Py_TYPE(at->object);
        at->instance = type->tp_finalize != NULL || type->tp_del != NULL;
        if (!at->instance && (type->tp_flags & Py_TPFLAGS_HEAPTYPE) && at->rank <= FUNCTIONS &&
            at->object != spec && at->object != loader) {
            at->instance = at->leaf || at->rank == INSTANCES ||
                           (type != foreign && is_our_type(g, type));
            if (!at->instance)
                foreign = type;
        }
        count += (size_t)at->instance;
    }
    return count;
}

/* Finds the sub-graph, and keeps the collector off until release(). 0, or -1 with an exception. */
static int
explore(graph *g, PyObject *held, relib_library *library)
{
    *g = (graph){.library = library};
    if (PyList_GET_SIZE(held) != 1 || !PyModule_Check(PyList_GET_ITEM(held, 0))) {
        PyErr_SetString(PyExc_ValueError, "held must be a list with the module as its one item");
        return -1;
    }
    g->module = PyList_GET_ITEM(held, 0);
    g->namespace = PyModule_GetDict(g->module);
    g->name = PyModule_GetNameObject(g->module);
    if (g->name == NULL) {
        PyErr_Clear(); /* the program has deleted __name__ */
        g->name = PyUnicode_FromString("");
        if (g->name == NULL)
            return -1;
    }
    g->collecting = PyGC_Disable();
    add(g, g->module, MODULE, 0);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(library->created); i++) {
        PyObject *object = relib_created_alive(PyList_GET_ITEM(library->created, i));
        if (object != NULL && object != g->module && PyObject_IS_GC(object) &&
            PyObject_GC_IsTracked(object))
            add(g, object, PyType_Check(object) ? TYPES : FUNCTIONS, 0);
        /* A submodule: its namespace would be taken for that of a stranger. */
        if (object != NULL && object != g->module && PyModule_Check(object))
            add(g, PyModule_GetDict(object), CONTAINERS, 0);
    }
    for (size_t i = 0; i < g->count; i++) {
        PyObject *object = g->members[i].object;
        if (!g->members[i].leaf && Py_TYPE(object)->tp_traverse != NULL)
            Py_TYPE(object)->tp_traverse(object, visit, g);
    }
    library->instances = count_instances(g);
    Py_DECREF(g->name);
    if (g->failed) {
        release(g);
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

/* --- trial deletion --------------------------------------------------------------------------- */

static int
subtract(PyObject *object, void *argument)
{
    member *found = member_of(argument, object);
    if (found != NULL)
        found->outside--;
    return 0;
}

/* --- what leads to the code ------------------------------------------------------------------- */

typedef struct {
    const graph *g;
    uint32_t *queue, *seen; /* seen in the walk of this number */
    uint32_t number;
    size_t count;
} walk;

/* 0, or -1 when there is no memory. */
static int
begin_walks(walk *w, const graph *g)
{
    *w = (walk){g, PyMem_RawMalloc(g->count * sizeof(*w->queue)),
                PyMem_RawCalloc(g->count, sizeof(*w->seen)), 0, 0};
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
    member *found = member_of(w->g, object);
    if (found != NULL && w->seen[found - w->g->members] != w->number) {
        w->seen[found - w->g->members] = w->number;
        w->queue[w->count++] = (uint32_t)(found - w->g->members);
    }
    return 0;
}

/* Whether whoever holds this member can come to the version's code by it. What the version shares
   with the rest of the program (int.__repr__ in the dict of an enum, a logger) is among the
   members too, is held by everybody, and leads nowhere. Without memory: yes. */
static int
leads_to_code(const graph *g, const member *start)
{
    walk w;
    int found = begin_walks(&w, g) < 0;
    w.number = 1;
    if (!found)
        step(start->object, &w);
    for (size_t i = 0; !found && i < w.count; i++) {
        const member *at = &g->members[w.queue[i]];
        PyTypeObject *type = Py_TYPE(at->object);
        found = at->rank >= NAMESPACE || at->leaf ||
                has_pointer(g, at->object, (size_t)type->tp_basicsize);
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
    graph g;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &held, relib_library_type, &library) ||
        explore(&g, held, (relib_library *)library) < 0)
        return NULL;
    for (size_t i = 0; i < g.count; i++) {
        Py_ssize_t references = Py_REFCNT(g.members[i].object);
        /* Immortal objects (CPython 3.12+) have no count to speak of. */
        g.members[i].outside = references >= (Py_ssize_t)1 << 30 ? PY_SSIZE_T_MIN : references;
    }
    g.members[0].outside--; /* `held` itself */
    for (size_t i = 0; i < g.count; i++) {
        PyTypeObject *type = Py_TYPE(g.members[i].object);
        if (g.members[i].leaf)
            subtract((PyObject *)type, &g); /* instances own a reference to a heap type */
        else if (type->tp_traverse != NULL)
            type->tp_traverse(g.members[i].object, subtract, &g);
    }
    PyObject *found = PyList_New(0);
    for (size_t i = 0; found != NULL && i < g.count; i++) {
        if (g.members[i].outside <= 0 || !leads_to_code(&g, &g.members[i]))
            continue;
        PyObject *one = Py_BuildValue("(On)", g.members[i].object, g.members[i].outside);
        if (one == NULL || PyList_Append(found, one) < 0)
            Py_CLEAR(found);
        Py_XDECREF(one);
    }
    release(&g);
    return found;
}

PyObject *
relib_members(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *held, *library;
    graph g;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &held, relib_library_type, &library) ||
        explore(&g, held, (relib_library *)library) < 0)
        return NULL;
    PyObject *all = PyList_New((Py_ssize_t)g.count);
    for (size_t i = 0; all != NULL && i < g.count; i++)
        PyList_SET_ITEM(all, (Py_ssize_t)i, Py_NewRef(g.members[i].object));
    release(&g);
    return all;
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
        const member *at = &w->g->members[w->queue[i]];
        if (at->instance)
            return 1;
        if (!at->leaf && at->rank != NAMESPACE && at->rank < MODULE &&
            Py_TYPE(at->object)->tp_traverse != NULL)
            Py_TYPE(at->object)->tp_traverse(at->object, step, w);
    }
    return 0;
}

PyObject *
relib_names_of_instances(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *held, *library, *key, *value;
    graph g;
    walk w;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &held, relib_library_type, &library) ||
        explore(&g, held, (relib_library *)library) < 0)
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
    release(&g);
    return names;
}

/* --- into the youngest generation ------------------------------------------------------------- */

/* Tells the keeper of the references that the leaves own. 0, or -1 when there is no memory. */
static int
arm(const graph *g)
{
    PyObject *keeper = NULL;
    size_t count = 0;
    relib_keeper_debt *debts = PyMem_RawMalloc(g->count * sizeof(*debts));
    if (debts == NULL)
        return -1;
    for (size_t i = 0; i < g->count; i++) {
        PyTypeObject *type = Py_TYPE(g->members[i].object);
        if (g->members[i].rank == KEEPER)
            keeper = g->members[i].object;
        if (g->members[i].leaf && member_of(g, (PyObject *)type) != NULL)
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
survives(const graph *g, const member *at)
{
    PyTypeObject *type = Py_TYPE(at->object);
    return PyType_Check(at->object) ||
           (at->rank == FUNCTIONS && !at->leaf && type->tp_weaklistoffset > 0 &&
            has_pointer(g, at->object, (size_t)type->tp_basicsize));
}

PyObject *
relib_rejuvenate(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *held, *library;
    int last;
    graph g;
    if (!PyArg_ParseTuple(args, "O!O!p", &PyList_Type, &held, relib_library_type, &library,
                          &last) ||
        explore(&g, held, (relib_library *)library) < 0)
        return NULL;
    /* Before the last time some of the leaves are freed on the way, and their references with them:
       the keeper would report one too many (a debug build of Python stops there). */
    if (last && arm(&g) < 0) {
        release(&g);
        return PyErr_NoMemory();
    }
    Py_ssize_t moved = 0;
    int noted = 0;
    for (size_t i = 0; last && noted == 0 && i < g.count; i++)
        if (survives(&g, &g.members[i]))
            noted = relib_created_note((relib_library *)library, g.members[i].object);
    if (noted < 0) {
        release(&g);
        return NULL;
    }
    for (int rank = 0; rank < RANKS; rank++) {
        for (size_t i = 0; i < g.count; i++) {
            if (g.members[i].leaf || (int)g.members[i].rank != rank)
                continue;
            PyObject_GC_UnTrack(g.members[i].object);
            PyObject_GC_Track(g.members[i].object);
            moved++;
        }
    }
    release(&g);
    return PyLong_FromSsize_t(moved);
}

/* --- shared types ----------------------------------------------------------------------------- */

PyObject *
relib_types_inside(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *namespace, *library, *key, *value;
    if (!PyArg_ParseTuple(args, "O!O!", &PyDict_Type, &namespace, relib_library_type, &library))
        return NULL;
    graph g = {.library = (relib_library *)library};
    PyObject *found = PyList_New(0);
    for (Py_ssize_t at = 0; found != NULL && PyDict_Next(namespace, &at, &key, &value);) {
        if (!PyType_Check(value) || !PyUnicode_Check(key) ||
            !PyType_HasFeature((PyTypeObject *)value, Py_TPFLAGS_HEAPTYPE))
            continue;
        if (has_pointer(&g, value, sizeof(PyHeapTypeObject)) && PyList_Append(found, key) < 0)
            Py_CLEAR(found);
    }
    return found;
}
