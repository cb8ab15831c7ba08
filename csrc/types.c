#include "types.h"

#include <string.h>

#include "arguments.h"
#include "library.h"
#include "mappings.h"

/* Bytes copied at a time; a type that crosses the end of a piece is seen in the next one. */
#define PIECE 65536

/* --- is it a type? ---------------------------------------------------------------------------- */

static int
looks_ready(const PyTypeObject *copy)
{
    return (copy->tp_flags & Py_TPFLAGS_READY) && !(copy->tp_flags & Py_TPFLAGS_HEAPTYPE) &&
           copy->tp_name != NULL && copy->tp_base != NULL && copy->tp_mro != NULL &&
           (uintptr_t)copy->tp_mro % sizeof(void *) == 0;
}

/* What looks like a type by its flags is one when it is the first in its own method resolution
   order, which no other memory is. All of it is read without trust, as it may not be one. */
static int
is_type(const relib_memory *memory, const PyTypeObject *copy, uintptr_t address)
{
    PyTupleObject order; /* with room for one item */
    return relib_memory_read(memory, (uintptr_t)copy->tp_mro, &order, sizeof(order)) ==
               sizeof(order) &&
           Py_TYPE(&order) == &PyTuple_Type && (uintptr_t)order.ob_item[0] == address;
}

/* 0, or -1 with an exception. */
static int
append_name(PyObject *list, const relib_memory *memory, const PyTypeObject *copy)
{
    char name[256];
    size_t size = relib_memory_read(memory, (uintptr_t)copy->tp_name, name, sizeof(name));
    PyObject *item = PyUnicode_DecodeUTF8(name, (Py_ssize_t)strnlen(name, size), "replace");
    int result = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return result;
}

/* --- the search ------------------------------------------------------------------------------- */

/* Looks at the types that start in the first `size` bytes of a copy of what is at `address`.
   Returns how many bytes are done, which are more where a type crosses their end; 0 with an
   exception. */
static size_t
search_piece(PyObject *list, const relib_memory *memory, uintptr_t address, const char *piece,
             size_t size)
{
    size_t at = 0;
    while (at < size) {
        const PyTypeObject *copy = (const PyTypeObject *)(piece + at);
        if (!looks_ready(copy) || !is_type(memory, copy, address + at)) {
            at += sizeof(void *);
            continue;
        }
        if (append_name(list, memory, copy) < 0)
            return 0;
        at += sizeof(PyTypeObject);
    }
    return at;
}

int
relib_find_static_types(PyObject *names, uintptr_t lo, uintptr_t hi)
{
    uintptr_t at = (lo + sizeof(void *) - 1) & ~(sizeof(void *) - 1);
    if (at >= hi || hi - at < sizeof(PyTypeObject))
        return 0;
    char *piece = PyMem_RawMalloc(hi - at < PIECE ? hi - at : PIECE);
    if (piece == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int failed = 0;
    relib_memory memory;
    relib_memory_open(&memory);
    while (!failed && at < hi && hi - at >= sizeof(PyTypeObject)) {
        size_t wanted = hi - at < PIECE ? hi - at : PIECE;
        size_t got = relib_memory_read(&memory, at, piece, wanted);
        if (got < sizeof(PyTypeObject)) {
            at = (at | 4095) + 1; /* a page that cannot be read */
            continue;
        }
        size_t done = search_piece(names, &memory, at, piece, got - sizeof(PyTypeObject) + 1);
        failed = done == 0;
        at += done;
    }
    relib_memory_close(&memory);
    PyMem_RawFree(piece);
    return failed ? -1 : 0;
}

PyObject *
relib_static_types(PyObject *Py_UNUSED(self), PyObject *args)
{
    relib_range range;
    if (relib_range_argument(args, "KK:static_types", &range) < 0)
        return NULL;
    PyObject *names = PyList_New(0);
    if (names != NULL && relib_find_static_types(names, range.low, range.low + range.size) < 0)
        Py_CLEAR(names);
    return names;
}

/* --- shared types ----------------------------------------------------------------------------- */

PyObject *
relib_types_inside(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *namespace, *library, *key, *value;
    if (!PyArg_ParseTuple(args, "O!O!", &PyDict_Type, &namespace, relib_library_type, &library))
        return NULL;
    PyObject *found = PyList_New(0);
    for (Py_ssize_t at = 0; found != NULL && PyDict_Next(namespace, &at, &key, &value);) {
        if (PyType_Check(value) && PyUnicode_Check(key) &&
            PyType_HasFeature((PyTypeObject *)value, Py_TPFLAGS_HEAPTYPE) &&
            relib_library_is_pointed_to((relib_library *)library, value,
                                        sizeof(PyHeapTypeObject)) &&
            PyList_Append(found, key) < 0)
            Py_CLEAR(found);
    }
    return found;
}
