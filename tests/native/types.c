/* Static types, and what looks like them. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

typedef struct { PyObject_HEAD } Thing;
static PyTypeObject Meta = {PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "types.Meta",
    .tp_basicsize = 0, .tp_flags = Py_TPFLAGS_DEFAULT};
static PyTypeObject Base = {PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "types.Base",
    .tp_basicsize = sizeof(Thing), .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE};
static PyTypeObject Derived = {PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "types.Derived",
    .tp_basicsize = sizeof(Thing), .tp_flags = Py_TPFLAGS_DEFAULT};
static PyTypeObject OfMeta = {PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "types.OfMeta",
    .tp_basicsize = sizeof(Thing), .tp_flags = Py_TPFLAGS_DEFAULT};
static PyTypeObject NotReady = {PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "types.NotReady",
    .tp_basicsize = sizeof(Thing), .tp_flags = Py_TPFLAGS_DEFAULT};
static char gap[70000] = {1};
static PyTypeObject Far = {PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "types.F\303\244r",
    .tp_basicsize = sizeof(Thing), .tp_flags = Py_TPFLAGS_DEFAULT};
static PyStructSequence_Field fields[] = {{"one", NULL}, {NULL, NULL}};
static PyStructSequence_Desc description = {"types.Sequence", NULL, fields, 1};
static PyTypeObject Sequence;

/* What looks like types and is none: a table of them, and copies. */
PyTypeObject *table[200];
PyTypeObject copies[2];

static PyType_Slot slots[] = {{0, NULL}};
static PyType_Spec heap = {"types.Heap", sizeof(Thing), 0, Py_TPFLAGS_DEFAULT, slots};

PyObject *make(int level) {
    Meta.tp_base = &PyType_Type;
    Derived.tp_base = &Base;
    if (level == 0) Py_RETURN_NONE;
    if (PyType_Ready(&Meta) < 0) return NULL;
    Py_SET_TYPE(&OfMeta, &Meta);
    if (PyType_Ready(&Base) < 0 || PyType_Ready(&Derived) < 0 || PyType_Ready(&OfMeta) < 0 ||
        PyType_Ready(&Far) < 0 || PyStructSequence_InitType2(&Sequence, &description) < 0)
        return NULL;
    for (int i = 0; i < 200; i++)
        table[i] = i % 3 ? i % 2 ? &PyType_Type : &PyUnicode_Type : &Base;
    copies[0] = Base;
    copies[1] = PyUnicode_Type;
    gap[3] = NotReady.tp_name[0];
    return PyType_FromSpec(&heap);
}
