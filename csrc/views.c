#include "views.h"

#include <stddef.h>
#include <structmember.h>

static PyTypeObject *memory_type;

typedef struct {
    PyObject_HEAD
    PyObject *weak_references;
    Py_buffer buffer;
    int open; /* whether it gives the buffer out */
} memory;

PyObject *
relib_view(const Py_buffer *buffer, PyObject **owner)
{
    memory *self = (memory *)memory_type->tp_alloc(memory_type, 0);
    if (self == NULL)
        return NULL;
    self->buffer = *buffer;
    /* A buffer that PyBuffer_FillInfo has filled has its shape in itself (Objects/abstract.c). */
    if (buffer->shape == &buffer->len)
        self->buffer.shape = &self->buffer.len;
    if (buffer->strides == &buffer->itemsize)
        self->buffer.strides = &self->buffer.itemsize;
    self->open = 1;
    PyObject *view = PyMemoryView_FromObject((PyObject *)self);
    self->open = 0;
    *owner = (PyObject *)self;
    Py_DECREF(self);
    return view;
}

/* Once: the view copies the shape, which may lie on the stack of who has asked for it. */
static int
memory_getbuffer(memory *self, Py_buffer *view, int Py_UNUSED(flags))
{
    if (!self->open) {
        view->obj = NULL;
        PyErr_SetString(PyExc_BufferError, "this memory gives out no further views");
        return -1;
    }
    *view = self->buffer;
    view->obj = Py_NewRef((PyObject *)self);
    return 0;
}

static int
memory_traverse(memory *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void
memory_dealloc(memory *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (self->weak_references != NULL)
        PyObject_ClearWeakRefs((PyObject *)self);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMemberDef memory_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(memory, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot memory_slots[] = {
    {Py_bf_getbuffer, memory_getbuffer},
    {Py_tp_traverse, memory_traverse},
    {Py_tp_dealloc, memory_dealloc},
    {Py_tp_members, memory_members},
    {0, NULL},
};

static PyType_Spec memory_spec = {
    .name = "relib._native.StaticMemory",
    .basicsize = sizeof(memory),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = memory_slots,
};

int
relib_views_init(void)
{
    memory_type = (PyTypeObject *)PyType_FromSpec(&memory_spec);
    return memory_type == NULL ? -1 : 0;
}
