#define _GNU_SOURCE
#include "initialise.h"

#include <dlfcn.h>

#include "library.h"

typedef PyObject *(*init_function)(void);

PyObject *
relib_create(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *object, *spec;
    const char *symbol;
    if (!PyArg_ParseTuple(args, "O!sO", relib_library_type, &object, &symbol, &spec))
        return NULL;
    relib_library *library = (relib_library *)object;
    void *address = library->handle != NULL ? dlsym(library->handle, symbol) : NULL;
    if (address == NULL) {
        PyErr_Format(PyExc_LookupError, "%s has no function %s", library->path, symbol);
        return NULL;
    }
    PyObject *made = ((init_function)address)();
    if (made == NULL) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_SystemError, "%s returned NULL without setting an exception",
                         symbol);
        return NULL;
    }
    if (PyErr_Occurred()) {
        /* As CPython's own importer sees it (Python/importdl.c): the extension is broken. A
           definition lies in the library and is not counted. */
        if (!PyObject_TypeCheck(made, &PyModuleDef_Type))
            Py_DECREF(made);
        return NULL;
    }
    if (!PyObject_TypeCheck(made, &PyModuleDef_Type))
        return Py_BuildValue("(NO)", made, Py_True);
    PyObject *module = PyModule_FromDefAndSpec((PyModuleDef *)made, spec);
    return module == NULL ? NULL : Py_BuildValue("(NO)", module, Py_False);
}

PyObject *
relib_execute(PyObject *Py_UNUSED(self), PyObject *module)
{
    PyModuleDef *definition = PyModule_Check(module) ? PyModule_GetDef(module) : NULL;
    if (definition == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "not a module made from a definition");
        return NULL;
    }
    if (PyModule_ExecDef(module, definition) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *
relib_drop_reference(PyObject *Py_UNUSED(self), PyObject *object)
{
    if (Py_REFCNT(object) < 2) {
        PyErr_SetString(PyExc_ValueError, "there is no reference to take back");
        return NULL;
    }
    Py_DECREF(object);
    Py_RETURN_NONE;
}

/* The head of a module object, the same in CPython 3.11 to 3.15
   (Include/internal/pycore_moduleobject.h). */
typedef struct {
    PyObject_HEAD
    PyObject *md_dict;
} module_head;

/* Machine code that was compiled for a module that it takes for a constant looks at its dict
   without a check, for as long as nobody tells that the dict has changed (CPython 3.13-3.15,
   Python/optimizer_bytecodes.c, _CHECK_ATTR_MODULE): tell it. An entry is replaced by itself,
   because another one would move those that somebody iterates over. 0, or -1 with MemoryError. */
static int
announce_change(PyObject *namespace)
{
    static PyObject *name; /* for ever */
    if (name == NULL && (name = PyUnicode_InternFromString("__relib__")) == NULL)
        return -1;
    PyObject *keeper = PyDict_GetItemWithError(namespace, name);
    if (keeper == NULL)
        return PyErr_Occurred() ? -1 : 0; /* not that of a version */
    Py_INCREF(keeper);
    int result = PyDict_SetItem(namespace, name, Py_None);
    if (result == 0)
        result = PyDict_SetItem(namespace, name, keeper);
    Py_DECREF(keeper);
    return result;
}

PyObject *
relib_share_namespace(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *public, *source;
    if (!PyArg_ParseTuple(args, "O!O", &PyModule_Type, &public, &source))
        return NULL;
    PyObject *namespace = PyModule_Check(source) ? PyModule_GetDict(source) : source;
    module_head *head = (module_head *)public;
    if (!PyDict_Check(namespace) || PyModule_GetDict(public) != head->md_dict) {
        PyErr_SetString(PyExc_TypeError, "expected a module and a module or dict");
        return NULL;
    }
    /* One store: a thread that reads an attribute sees the old or the new namespace, never a mix.
       The interpreter's inline caches are keyed by the version of the dict's keys, which no two
       dicts share (CPython 3.11-3.15, Python/specialize.c, specialize_module_load_attr). */
    if (PY_VERSION_HEX >= 0x030D0000 && announce_change(head->md_dict) < 0)
        return NULL;
    Py_SETREF(head->md_dict, Py_NewRef(namespace));
    Py_RETURN_NONE;
}
