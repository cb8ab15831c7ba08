#include "instances.h"

/* Open addressing; borrowed pointers, NULL where free, GONE where one has been taken out. */
static PyObject **table;
static size_t room, used; /* used counts GONE too */
#define GONE ((PyObject *)1)

static size_t
home_of(const PyObject *object)
{
    return (size_t)(((uintptr_t)object >> 4) * 0x9E3779B97F4A7C15ull >> 32) & (room - 1);
}

static void
put(PyObject *object)
{
    size_t i = home_of(object);
    while (table[i] != NULL && table[i] != GONE)
        i = (i + 1) & (room - 1);
    used += table[i] == NULL;
    table[i] = object;
}

static int
make_room(void)
{
    if (used * 2 < room)
        return 0;
    PyObject **old = table;
    size_t old_room = room, alive = 0;
    for (size_t i = 0; i < old_room; i++)
        alive += old[i] != NULL && old[i] != GONE;
    size_t more = 64;
    while (more < alive * 4)
        more *= 2;
    table = PyMem_RawCalloc(more, sizeof(*table));
    if (table == NULL) {
        table = old;
        return -1;
    }
    room = more;
    used = 0;
    for (size_t i = 0; i < old_room; i++)
        if (old[i] != NULL && old[i] != GONE)
            put(old[i]);
    PyMem_RawFree(old);
    return 0;
}

static PyObject *
allocate(PyTypeObject *type, Py_ssize_t items)
{
    if (make_room() < 0)
        return PyErr_NoMemory();
    PyObject *object = PyType_GenericAlloc(type, items);
    if (object != NULL)
        put(object);
    return object;
}

static void
forget(const PyObject *object)
{
    if (room == 0)
        return;
    for (size_t i = home_of(object); table[i] != NULL; i = (i + 1) & (room - 1)) {
        if (table[i] == object) {
            table[i] = GONE;
            return;
        }
    }
}

static void
release_tracked(void *object)
{
    forget(object);
    PyObject_GC_Del(object);
}

static void
release(void *object)
{
    forget(object);
    PyObject_Free(object);
}

PyObject *
relib_watch_instances(PyObject *Py_UNUSED(self), PyObject *object)
{
    PyTypeObject *type = (PyTypeObject *)object;
    if (PyType_Check(object) && type->tp_alloc == allocate)
        Py_RETURN_NONE;
    if (!PyType_Check(object) || type->tp_alloc != PyType_GenericAlloc ||
        (type->tp_free != PyObject_GC_Del && type->tp_free != PyObject_Free)) {
        PyErr_Format(PyExc_TypeError, "%R cannot be watched: it has an allocator of its own",
                     object);
        return NULL;
    }
    Py_INCREF(type);
    type->tp_alloc = allocate;
    type->tp_free = type->tp_free == PyObject_GC_Del ? release_tracked : release;
    Py_RETURN_NONE;
}

PyObject *
relib_instances_into(PyObject *Py_UNUSED(self), PyObject *argument)
{
    if (!Py_IS_TYPE(argument, relib_library_type)) {
        PyErr_SetString(PyExc_TypeError, "expected a Library");
        return NULL;
    }
    const relib_library *library = (relib_library *)argument;
    int collecting = PyGC_Disable(); /* which would take some out of the table */
    PyObject *found = PyList_New(0);
    for (size_t i = 0; found != NULL && i < room; i++) {
        PyObject *object = table[i];
        if (object == NULL || object == GONE || Py_REFCNT(object) <= 0)
            continue;
        if (!relib_library_is_pointed_to(library, object, (size_t)Py_TYPE(object)->tp_basicsize))
            continue;
        PyObject *one = Py_BuildValue("(On)", object, Py_REFCNT(object));
        if (one == NULL || PyList_Append(found, one) < 0)
            Py_CLEAR(found);
        Py_XDECREF(one);
    }
    if (collecting)
        PyGC_Enable();
    return found;
}
