#include "members.h"

#include "created.h"
#include "keeper.h"

/* Past this many objects the search stops; the rest counts as outside. */
#define MOST_OBJECTS 200000
/* A larger container that others hold too is not entered: it is the program's data. */
#define LARGE 512

/* --- the set of members ----------------------------------------------------------------------- */

/* The item that an object is, added if need be; NULL when there is no room. */
static relib_member *
put(relib_graph *g, relib_member_set *set, PyObject *object, relib_rank rank)
{
    if (g->failed || set->count >= MOST_OBJECTS)
        return relib_member_set_find(set, object);
    relib_member *item = relib_member_set_add(set, object);
    if (item == NULL)
        g->failed = 1;
    else if (item->rank == RELIB_RANKS)
        item->rank = rank;
    return item;
}

static void
add(relib_graph *g, PyObject *object, relib_rank rank)
{
    put(g, &g->members, object, rank);
}

relib_member *
relib_graph_member(const relib_graph *g, const PyObject *object)
{
    return relib_member_set_find(&g->members, object);
}

void
relib_graph_release(relib_graph *g)
{
    relib_member_set_free(&g->members);
    relib_member_set_free(&g->strangers);
    if (g->collecting)
        PyGC_Enable();
}

/* --- whose a thing is ------------------------------------------------------------------------- */

static int
has_pointer(const relib_graph *g, const PyObject *object)
{
    return relib_library_is_pointed_to(g->library, object, (size_t)Py_TYPE(object)->tp_basicsize);
}

/* A namespace says whose it is. Borrowed, or NULL. */
static PyObject *
entry_of(PyObject *dict, const char *key)
{
    return PyDict_GetItemString(dict, key); /* clears errors itself */
}

static int
is_our_name(const relib_graph *g, PyObject *name)
{
    return name != NULL && PyUnicode_Check(name) && PyUnicode_Compare(name, g->name) == 0;
}

typedef struct {
    const relib_graph *g;
    int look_for_theirs, ours, theirs;
} namespaces;

/* A visitproc: notes a reference to the version's namespace, or that of another version. */
static int
note_namespace(PyObject *object, void *argument)
{
    namespaces *seen = argument;
    if (object == seen->g->namespace)
        seen->ours = 1;
    else if (seen->look_for_theirs && PyDict_CheckExact(object) &&
             entry_of(object, "__relib__") != NULL)
        seen->theirs |= is_our_name(seen->g, entry_of(object, "__name__"));
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
is_our_heap_type(const relib_graph *g, PyTypeObject *type)
{
    PyObject *module = ((PyHeapTypeObject *)type)->ht_module;
    if (module == g->module || relib_library_is_pointed_to(g->library, (PyObject *)type,
                                                           sizeof(PyHeapTypeObject)))
        return 1;
    if (module != NULL || type->tp_dict == NULL)
        return 0;
    /* A class may say that it is from elsewhere, and all versions have one name; what counts is
       whose functions it has. */
    PyObject *key, *value;
    const int named = is_our_name(g, entry_of(type->tp_dict, "__module__"));
    namespaces seen = {g, named, 0, 0};
    for (Py_ssize_t at = 0; !seen.ours && PyDict_Next(type->tp_dict, &at, &key, &value);)
        if (PyObject_IS_GC(value) && Py_TYPE(value)->tp_traverse != NULL)
            Py_TYPE(value)->tp_traverse(
                value, is_wrapper(value) ? note_namespaces_of : note_namespace, &seen);
    return seen.ours || (named && !seen.theirs);
}

static int
is_our_type(relib_graph *g, PyTypeObject *type)
{
    if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE) || type == g->foreign)
        return 0;
    int ours = is_our_heap_type(g, type);
    if (!ours)
        g->foreign = type; /* most functions are of one type */
    return ours;
}

/* Of an exception that the module keeps, say. */
static int
is_our_frame(const relib_graph *g, PyFrameObject *frame)
{
    PyObject *globals = PyFrame_GetGlobals(frame);
    Py_XDECREF(globals);
    return globals == g->namespace;
}

/* --- what belongs to the version -------------------------------------------------------------- */

static int
is_ours_alone(const PyObject *object)
{
    return Py_REFCNT(object) == 1;
}

enum { ELSEWHERE = -1, STRANGER = -2 };

/* The rank of an object that belongs to the version; ELSEWHERE where the rest of the program begins;
   STRANGER for what belongs to the version if nobody else refers to it. */
static int
rank_of(relib_graph *g, PyObject *object)
{
    if (object == g->namespace)
        return RELIB_NAMESPACE;
    if (Py_IS_TYPE(object, relib_keeper_type))
        return relib_keeper_module(object) == g->module ? RELIB_KEEPER : ELSEWHERE;
    if (PyFrame_Check(object))
        return is_our_frame(g, (PyFrameObject *)object) ? RELIB_FUNCTIONS : ELSEWHERE;
    if (PyModule_Check(object))
        return is_our_type(g, Py_TYPE(object)) ? RELIB_INSTANCES : ELSEWHERE;
    if (PyType_Check(object))
        return is_our_type(g, (PyTypeObject *)object) ? RELIB_TYPES : ELSEWHERE;
    if (PyFunction_Check(object))
        return PyFunction_GET_GLOBALS(object) == g->namespace ? RELIB_FUNCTIONS : ELSEWHERE;
    if (PyDict_CheckExact(object)) {
        if (PyDict_GET_SIZE(object) > LARGE && !is_ours_alone(object))
            return STRANGER;
        /* Another module's namespace, reached through a function that was imported from it. */
        PyObject *name = entry_of(object, "__name__");
        return name != NULL && entry_of(object, "__spec__") != NULL ? ELSEWHERE : RELIB_CONTAINERS;
    }
    if (PyList_CheckExact(object) || PyTuple_CheckExact(object))
        return Py_SIZE(object) > LARGE && !is_ours_alone(object) ? STRANGER : RELIB_CONTAINERS;
    if (PyAnySet_CheckExact(object))
        return PySet_GET_SIZE(object) > LARGE && !is_ours_alone(object) ? STRANGER
                                                                        : RELIB_CONTAINERS;
    if (PyCFunction_Check(object))
        return RELIB_FUNCTIONS;
    PyTypeObject *type = Py_TYPE(object);
    if ((type->tp_flags & Py_TPFLAGS_HEAPTYPE) && !is_ours_alone(object) &&
        !is_our_type(g, type)) {
        /* An instance of a class of the program's (a logger, say) leads to all of the program.
           Cython's shared types are heap types too, and their instances are our code. */
        return has_pointer(g, object) ? RELIB_FUNCTIONS : STRANGER;
    }
    return PyCallable_Check(object) ? RELIB_FUNCTIONS : RELIB_INSTANCES;
}

static int
is_plain(const PyObject *object)
{
    return PyUnicode_CheckExact(object) || PyLong_CheckExact(object) ||
           PyFloat_CheckExact(object) || PyBytes_CheckExact(object) || object == Py_None ||
           PyBool_Check(object) || PyCode_Check(object);
}

/* Whether a dict or tuple that the collector does not look at holds anything but plain data. It
   looks at none of those that hold nothing it knows, which an instance without object fields is
   (CPython 3.11-3.13, Objects/dictobject.c, MAINTAIN_TRACKING; _PyTuple_MaybeUntrack). The
   beginning of a large one has to do. */
static int
holds_more_than_data(PyObject *object)
{
    if (PyTuple_CheckExact(object)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object) && i < LARGE; i++)
            if (!is_plain(PyTuple_GET_ITEM(object, i)))
                return 1;
        return 0;
    }
    if (!PyDict_CheckExact(object))
        return 0;
    PyObject *key, *value;
    for (Py_ssize_t at = 0, i = 0; i < LARGE && PyDict_Next(object, &at, &key, &value); i++)
        if (!is_plain(key) || !is_plain(value))
            return 1;
    return 0;
}

/* What the object at hand brings with it. */
static void
add_with_dict(relib_graph *g, PyObject *object, relib_rank rank)
{
    add(g, object, rank);
    if (rank == RELIB_INSTANCES && PyModule_Check(object))
        /* Its namespace would be taken for that of a stranger. */
        add(g, PyModule_GetDict(object), RELIB_CONTAINERS);
    if (rank == RELIB_TYPES) {
        /* After the type, whose tp_clear tells the method cache; a dict does not. */
        PyObject *dict = ((PyTypeObject *)object)->tp_dict;
        if (dict != NULL && PyObject_GC_IsTracked(dict))
            add(g, dict, RELIB_TYPES);
    }
}

static int
visit(PyObject *object, void *argument)
{
    relib_graph *g = argument;
    if (!PyObject_IS_GC(object)) {
        /* An instance without object fields; a capsule or ufunc that points into the library. */
        if (!is_plain(object) && (is_our_type(g, Py_TYPE(object)) || has_pointer(g, object))) {
            relib_member *leaf = put(g, &g->members, object, RELIB_INSTANCES);
            if (leaf != NULL)
                leaf->leaf = 1;
        }
        return 0;
    }
    if (!PyObject_GC_IsTracked(object)) {
        if (holds_more_than_data(object))
            add(g, object, RELIB_CONTAINERS);
        return 0;
    }
    if (relib_member_set_find(&g->members, object) != NULL)
        return 0;
    int rank = rank_of(g, object);
    if (rank >= 0) {
        add_with_dict(g, object, (relib_rank)rank);
    } else if (rank == STRANGER) {
        relib_member *stranger = put(g, &g->strangers, object, RELIB_INSTANCES);
        if (stranger != NULL)
            stranger->outside++;
    }
    return 0;
}

/* A stranger to which only members refer is one of them: what is in several globals, say. */
static void
adopt(relib_graph *g)
{
    for (size_t i = 0; i < g->strangers.count; i++) {
        relib_member *at = &g->strangers.items[i];
        if (at->outside != Py_REFCNT(at->object))
            continue;
        at->outside = -1; /* once */
        add(g, at->object,
            PyDict_CheckExact(at->object) || PyList_CheckExact(at->object) ||
                    PyTuple_CheckExact(at->object) || PyAnySet_CheckExact(at->object)
                ? RELIB_CONTAINERS
            : PyCallable_Check(at->object) ? RELIB_FUNCTIONS
                                           : RELIB_INSTANCES);
    }
}

/* How many of the members are instances of the version's own classes, or of classes that nobody
   else refers to, or have a finalizer (a suspended generator has): those whose end runs code. */
static size_t
count_instances(relib_graph *g)
{
    size_t count = 0;
    /* Objects of relib's own, whose end runs no code: without them most modules have none. */
    const PyObject *spec = entry_of(g->namespace, "__spec__");
    const PyObject *loader = entry_of(g->namespace, "__loader__");
    for (size_t i = 0; i < g->members.count; i++) {
        relib_member *at = &g->members.items[i];
        PyTypeObject *type = Py_TYPE(at->object);
        at->instance = type->tp_finalize != NULL || type->tp_del != NULL;
        if (!at->instance && (type->tp_flags & Py_TPFLAGS_HEAPTYPE) &&
            at->rank <= RELIB_FUNCTIONS && at->object != spec && at->object != loader)
            at->instance = at->leaf || at->rank == RELIB_INSTANCES || is_our_type(g, type);
        count += (size_t)at->instance;
    }
    return count;
}

/* --- the search ------------------------------------------------------------------------------- */

static void
add_roots(relib_graph *g)
{
    add(g, g->module, RELIB_MODULE);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(g->library->created); i++) {
        PyObject *object = relib_created_alive(PyList_GET_ITEM(g->library->created, i));
        if (object == NULL || object == g->module)
            continue;
        if (PyObject_IS_GC(object) && PyObject_GC_IsTracked(object))
            add(g, object, PyType_Check(object) ? RELIB_TYPES : RELIB_FUNCTIONS);
        /* A submodule: its namespace would be taken for that of a stranger. */
        if (PyModule_Check(object))
            add(g, PyModule_GetDict(object), RELIB_CONTAINERS);
    }
}

int
relib_graph_explore(relib_graph *g, PyObject *held, relib_library *library)
{
    *g = (relib_graph){.library = library};
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
    add_roots(g);
    for (size_t i = 0; i < g->members.count; i++) {
        PyObject *object = g->members.items[i].object;
        if (g->members.items[i].leaf)
            visit((PyObject *)Py_TYPE(object), g); /* which it owns a reference to */
        else if (Py_TYPE(object)->tp_traverse != NULL)
            Py_TYPE(object)->tp_traverse(object, visit, g);
        if (i + 1 == g->members.count)
            adopt(g);
    }
    library->instances = count_instances(g);
    Py_DECREF(g->name);
    if (g->failed) {
        relib_graph_release(g);
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

PyObject *
relib_members(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *held, *library;
    relib_graph g;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &held, relib_library_type, &library) ||
        relib_graph_explore(&g, held, (relib_library *)library) < 0)
        return NULL;
    PyObject *all = PyList_New((Py_ssize_t)g.members.count);
    for (size_t i = 0; all != NULL && i < g.members.count; i++)
        PyList_SET_ITEM(all, (Py_ssize_t)i, Py_NewRef(g.members.items[i].object));
    relib_graph_release(&g);
    return all;
}
