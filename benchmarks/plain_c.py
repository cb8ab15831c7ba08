"""A plain C extension, the same each time: as many functions as make it so long."""

from __future__ import annotations

__all__ = ["c_source"]

_HEAD = """\
#define PY_SSIZE_T_CLEAN
#include <Python.h>
"""

_FUNCTION = """
static PyObject *
mean{i}(PyObject *module, PyObject *items)
{{
    double total = {i}.0;
    Py_ssize_t count = PySequence_Size(items);
    if (count <= 0)
        return count < 0 ? NULL : PyFloat_FromDouble(0.0);
    for (Py_ssize_t at = 0; at < count; at++) {{
        PyObject *item = PySequence_GetItem(items, at);
        double value = item == NULL ? -1.0 : PyFloat_AsDouble(item);
        Py_XDECREF(item);
        if (value == -1.0 && PyErr_Occurred())
            return NULL;
        total += value;
    }}
    return PyFloat_FromDouble(total / (double)count);
}}
"""

_TAIL = """
static PyMethodDef functions[] = {{
{rows}
    {{NULL, NULL, 0, NULL}},
}};

static PyModuleDef_Slot slots[] = {{{{0, NULL}}}};

static struct PyModuleDef definition = {{
    PyModuleDef_HEAD_INIT, "{name}", NULL, 0, functions, slots, NULL, NULL, NULL,
}};

PyMODINIT_FUNC
PyInit_{name}(void)
{{
    return PyModuleDef_Init(&definition);
}}
"""


def c_source(name: str, lines: int) -> str:
    """C source of about `lines` lines, of an extension of this name."""
    count = max(1, round(lines / (_FUNCTION.count("\n") + 1)))
    rows = "\n".join(f'    {{"mean{i}", mean{i}, METH_O, NULL}},' for i in range(count))
    functions = "".join(_FUNCTION.format(i=i) for i in range(count))
    return _HEAD + functions + _TAIL.format(rows=rows, name=name)
