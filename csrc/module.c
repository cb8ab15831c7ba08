/* relib._native: the names under which Python finds the rest of this folder. */
#include <Python.h>

#include "collect.h"
#include "initialise.h"
#include "instances.h"
#include "interpose.h"
#include "keeper.h"
#include "library.h"
#include "members.h"
#include "pins.h"
#include "pointers.h"
#include "threads.h"
#include "types.h"
#include "upgrade.h"
#include "views.h"

static PyMethodDef methods[] = {
    {"create", relib_create, METH_VARARGS, NULL},
    {"execute", relib_execute, METH_O, NULL},
    {"drop_reference", relib_drop_reference, METH_O, NULL},
    {"share_namespace", relib_share_namespace, METH_VARARGS, NULL},
    {"held_from_outside", relib_held_from_outside, METH_VARARGS, NULL},
    {"become", relib_become, METH_VARARGS, NULL},
    {"watch_instances", relib_watch_instances, METH_O, NULL},
    {"instances_into", relib_instances_into, METH_O, NULL},
    {"names_of_instances", relib_names_of_instances, METH_VARARGS, NULL},
    {"members", relib_members, METH_VARARGS, NULL},
    {"types_inside", relib_types_inside, METH_VARARGS, NULL},
    {"disarm", relib_keeper_disarm, METH_NOARGS, NULL},
    {"rejuvenate", relib_rejuvenate, METH_VARARGS, NULL},
    {"threads_inside", relib_threads_inside, METH_VARARGS, NULL},
    {"calls_on_own_stack", relib_calls_on_own_stack, METH_VARARGS, NULL},
    {"signal_handlers", relib_signal_handlers, METH_VARARGS, NULL},
    {"thread_keys", relib_thread_keys, METH_VARARGS, NULL},
    {"thread_keys_known", relib_thread_keys_known, METH_NOARGS, NULL},
    {"pointers_into", relib_pointers_into, METH_VARARGS, NULL},
    {"static_types", relib_static_types, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "relib._native", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

static int
add_constants(PyObject *module)
{
    static const struct {
        const char *name;
        long value;
    } constants[] = {
        {"USES_SIGNALS", RELIB_USES_SIGNALS},       {"USES_KEYS", RELIB_USES_KEYS},
        {"USES_REGISTRIES", RELIB_USES_REGISTRIES}, {"USES_FOR_EVER", RELIB_USES_FOR_EVER},
        {"USES_LOOSE", RELIB_USES_LOOSE},
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(constants); i++)
        if (PyModule_AddIntConstant(module, constants[i].name, constants[i].value) < 0)
            return -1;
    return 0;
}

PyMODINIT_FUNC
PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && (relib_library_init(module) < 0 || relib_keeper_init(module) < 0 ||
                            relib_views_init() < 0 ||
                            add_constants(module) < 0))
        Py_CLEAR(module);
    return module;
}
