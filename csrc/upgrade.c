#include "upgrade.h"

#include <string.h>

/* The objects that a function refers to, as its tp_traverse gives them. */
#define MOST 24
typedef struct {
    PyObject *objects[MOST];
    int count, overflow;
} references;

static int
collect(PyObject *object, void *argument)
{
    references *found = argument;
    if (found->count == MOST)
        found->overflow = 1;
    else
        found->objects[found->count++] = object;
    return 0;
}

/* Cython leaves out of tp_traverse what cannot be part of a cycle (Cython 3.3,
   Utility/CythonFunction.c, __Pyx_VISIT_CONST). A built-in function computes its __name__. */
static int
add_constants(references *found, PyObject *function)
{
    static const char *const names[] = {"__name__", "__qualname__", "__code__"};
    if (PyCFunction_CheckExact(function))
        return 0;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject *value = PyObject_GetAttrString(function, names[i]);
        if (value == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError))
            return -1;
        PyErr_Clear();
        if (value != NULL) {
            int known = 0;
            for (int k = 0; k < found->count; k++)
                known |= found->objects[k] == value;
            if (!known)
                collect(value, found);
            Py_DECREF(value); /* the function keeps it alive */
        }
    }
    return 0;
}

static int
refers_to(const references *found, const PyObject *object)
{
    for (int i = 0; i < found->count; i++)
        if (found->objects[i] == object)
            return 1;
    return 0;
}

/* Whether a word of the object belongs to the identity and not to the code. */
static int
stays(const PyTypeObject *type, size_t word)
{
    Py_ssize_t at = (Py_ssize_t)(word * sizeof(void *));
    return at == type->tp_weaklistoffset || (type->tp_dictoffset > 0 && at == type->tp_dictoffset);
}

static int
can_become(PyTypeObject *type)
{
    return type == &PyCFunction_Type || strcmp(type->tp_name, "builtin_function_or_method") == 0 ||
           strstr(type->tp_name, "cython_function_or_method") != NULL ||
           strstr(type->tp_name, "fused_cython_function") != NULL;
}

PyObject *
relib_become(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *function, *newer;
    if (!PyArg_ParseTuple(args, "OO:become", &function, &newer))
        return NULL;
    PyTypeObject *type = Py_TYPE(function);
    if (type != Py_TYPE(newer) || !can_become(type) || function == newer) {
        PyErr_SetString(PyExc_TypeError, "expected two different functions of the same kind");
        return NULL;
    }
    references owned = {{0}, 0, 0};
    type->tp_traverse(newer, collect, &owned);
    if (add_constants(&owned, newer) < 0)
        return NULL;
    PyObject *husk = owned.overflow ? PyErr_NoMemory() : _PyObject_GC_New(type);
    if (husk == NULL)
        return NULL;
    size_t first = sizeof(PyObject) / sizeof(void *);
    size_t count = (size_t)type->tp_basicsize / sizeof(void *);
    void **to = (void **)function, **from = (void **)newer, **old = (void **)husk;
    for (size_t i = first; i < count; i++) {
        if (stays(type, i)) {
            old[i] = NULL;
            continue;
        }
        /* The old content moves, references and all. A function that refers to itself without
           owning the reference (a Cython function is its own m_self) goes on doing so. */
        old[i] = to[i] == function ? husk : to[i];
        to[i] = from[i] == newer ? function : from[i];
        if (from[i] != newer && from[i] != NULL && refers_to(&owned, from[i]))
            Py_INCREF((PyObject *)from[i]);
    }
    PyObject_GC_Track(husk);
    return husk;
}
