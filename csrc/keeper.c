#include "keeper.h"

#include <structmember.h>

PyTypeObject *relib_keeper_type;

typedef struct {
    PyObject_HEAD
    PyObject *module;
    PyObject *itself; /* an owned reference, which only tp_clear drops */
    relib_library *library;
    relib_keeper_debt *debts;
    size_t debt_count;
} keeper;

static keeper *armed; /* borrowed; at most one, for the length of one collection */

static void
disarm(keeper *self)
{
    PyMem_RawFree(self->debts);
    self->debts = NULL;
    self->debt_count = 0;
    if (armed == self)
        armed = NULL;
}

void
relib_keeper_arm(PyObject *object, relib_keeper_debt *debts, size_t count)
{
    if (armed != NULL)
        disarm(armed);
    armed = (keeper *)object;
    armed->debts = debts;
    armed->debt_count = count;
}

PyObject *
relib_keeper_disarm(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
    if (armed != NULL)
        disarm(armed);
    Py_RETURN_NONE;
}

static PyObject *
keeper_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *module, *library;
    if (!PyArg_ParseTuple(args, "O!O!:Keeper", &PyModule_Type, &module, relib_library_type,
                          &library))
        return NULL;
    if (((relib_library *)library)->keeper != NULL) {
        PyErr_SetString(PyExc_ValueError, "the library has a keeper already");
        return NULL;
    }
    keeper *self = (keeper *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->module = Py_NewRef(module);
    self->itself = Py_NewRef((PyObject *)self);
    self->library = (relib_library *)Py_NewRef(library);
    self->library->keeper = (PyObject *)self;
    return (PyObject *)self;
}

static int
keeper_traverse(keeper *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->module);
    Py_VISIT(self->itself);
    /* After the finalizers the collector asks a second time (handle_resurrected_objects), and they
       may have freed an instance: then too few references are reported, never too many. */
    for (size_t i = 0; i < self->debt_count; i++)
        if (Py_REFCNT(self->debts[i].type) >= self->debts[i].references)
            Py_VISIT(self->debts[i].type);
    return 0;
}

static int
keeper_clear(keeper *self)
{
    disarm(self);
    Py_CLEAR(self->module);
    Py_CLEAR(self->itself); /* last: the collector holds a reference meanwhile */
    return 0;
}

static void
keeper_dealloc(keeper *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    disarm(self);
    if (self->library != NULL)
        self->library->keeper = NULL;
    Py_CLEAR(self->library);
    Py_CLEAR(self->module);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

PyObject *
relib_keeper_module(PyObject *object)
{
    return ((keeper *)object)->module;
}

static PyMemberDef keeper_members[] = {
    {"module", T_OBJECT, offsetof(keeper, module), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot keeper_slots[] = {
    {Py_tp_members, keeper_members},
    {Py_tp_new, keeper_new},
    {Py_tp_traverse, keeper_traverse},
    {Py_tp_clear, keeper_clear},
    {Py_tp_dealloc, keeper_dealloc},
    {0, NULL},
};

static PyType_Spec keeper_spec = {
    .name = "relib._native.Keeper",
    .basicsize = sizeof(keeper),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = keeper_slots,
};

int
relib_keeper_init(PyObject *module)
{
    relib_keeper_type = (PyTypeObject *)PyType_FromSpec(&keeper_spec);
    if (relib_keeper_type == NULL)
        return -1;
    return PyModule_AddObjectRef(module, "Keeper", (PyObject *)relib_keeper_type);
}
