#include "upgrade.h"

#include <string.h>

/* No function has more words (Cython 3.3's fused functions have 27). */
#define MOST 64
typedef struct {
    PyObject **words; /* of the function */
    size_t count;
    char owned[MOST]; /* whether a word is a reference that the function owns */
} references;

/* A visitproc: `object` is owned by the words that are a reference to it. */
static int
own(PyObject *object, void *argument)
{
    references *found = argument;
    for (size_t i = 0; i < found->count; i++)
        found->owned[i] |= found->words[i] == object;
    return 0;
}

/* Cython leaves out of tp_traverse what cannot be part of a cycle (Cython 3.3,
   Utility/CythonFunction.c, __Pyx_VISIT_CONST). A built-in function computes its __name__. */
static int
own_constants(references *found, PyObject *function)
{
    static const char *const names[] = {"__name__", "__qualname__", "__code__"};
    if (PyCFunction_CheckExact(function))
        return 0;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject *value = PyObject_GetAttrString(function, names[i]);
        if (value == NULL && !PyErr_ExceptionMatches(PyExc_AttributeError))
            return -1;
        PyErr_Clear();
        if (value != NULL)
            own(value, found);
        Py_XDECREF(value); /* the function keeps it alive */
    }
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

/* Exchanges the contents; `owned` says which words of `newer` are references of its own. */
static void
exchange(PyObject *function, PyObject *newer, PyObject *husk, const char *owned)
{
    PyTypeObject *type = Py_TYPE(function);
    size_t count = (size_t)type->tp_basicsize / sizeof(void *);
    void **to = (void **)function, **from = (void **)newer, **old = (void **)husk;
    for (size_t i = sizeof(PyObject) / sizeof(void *); i < count; i++) {
        if (stays(type, i)) {
            old[i] = NULL;
            continue;
        }
        /* The old content moves, references and all. A function that refers to itself without
           owning the reference (a Cython function is its own m_self) goes on doing so. */
        old[i] = to[i] == function ? husk : to[i];
        to[i] = from[i] == newer ? function : from[i];
        if (owned[i] && from[i] != newer)
            Py_INCREF((PyObject *)from[i]);
    }
}

PyObject *
relib_become(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *function, *newer, *husks;
    if (!PyArg_ParseTuple(args, "OOO!:become", &function, &newer, &PyDict_Type, &husks))
        return NULL;
    PyTypeObject *type = Py_TYPE(function);
    references found = {(PyObject **)newer, (size_t)type->tp_basicsize / sizeof(void *), {0}};
    if (type != Py_TYPE(newer) || !can_become(type) || function == newer || found.count > MOST) {
        PyErr_SetString(PyExc_TypeError, "expected two different functions of the same kind");
        return NULL;
    }
    type->tp_traverse(newer, own, &found);
    if (own_constants(&found, newer) < 0)
        return NULL;
    /* Room for the husk first: to put it there is then nothing that can fail. */
    PyObject *key = PyLong_FromVoidPtr(function);
    if (key == NULL || PyDict_SetItem(husks, key, Py_None) < 0) {
        Py_XDECREF(key);
        return NULL;
    }
    PyObject *husk = _PyObject_GC_New(type);
    if (husk == NULL) {
        PyDict_DelItem(husks, key);
        Py_DECREF(key);
        return PyErr_NoMemory();
    }
    exchange(function, newer, husk, found.owned);
    PyObject_GC_Track(husk);
    int stored = PyDict_SetItem(husks, key, husk);
    Py_DECREF(key);
    Py_DECREF(husk);
    if (stored < 0)
        return NULL;
    Py_RETURN_NONE;
}
