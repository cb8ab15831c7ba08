"""Initialisation in C that goes another way than most."""

from __future__ import annotations

import pytest
from conftest import Project
from test_hazards_c import MULTI_PHASE, SINGLE_PHASE, module

USE = "\nstatic PyObject *use(PyObject *self, PyObject *args) { Py_RETURN_NONE; }"

# name: (C, what is executed instead of the ordinary slots, the error of load())
ODD = {
    "an object that is no module": (
        """
        static int execute(PyObject *m) { return 0; }
        static PyObject *create(PyObject *spec, PyModuleDef *d) { return PyList_New(0); }
        static PyModuleDef_Slot odd[] = {{Py_mod_create, create}, {0, NULL}};""",
        "LoadError",
    ),
    "a module of its own": (
        """
        static int execute(PyObject *m) { return 0; }
        static PyObject *create(PyObject *spec, PyModuleDef *d) { return PyModule_New("mine"); }
        static PyModuleDef_Slot odd[] = {{Py_mod_create, create}, {Py_mod_exec, execute},
                                         {0, NULL}};""",
        None,
    ),
    "an exec slot that fails": (
        """
        static PyObject *goes(PyObject *self, PyObject *ignored) { Py_RETURN_NONE; }
        static PyMethodDef goes_method = {"goes", goes, METH_NOARGS, NULL};
        static int execute(PyObject *m) {
            PyObject *function = PyCFunction_New(&goes_method, NULL);
            PySys_SetObject("left_behind", function);
            Py_XDECREF(function);
            PyErr_SetString(PyExc_OSError, "no luck");
            return -1; }
        static PyModuleDef_Slot odd[] = {{Py_mod_exec, execute}, {0, NULL}};""",
        "ExecError",
    ),
    "an exec slot that deletes names": (
        """
        static int execute(PyObject *m) {
            PyDict_Clear(PyModule_GetDict(m));
            return 0; }
        static PyModuleDef_Slot odd[] = {{Py_mod_exec, execute}, {0, NULL}};""",
        None,
    ),
    "an exec slot that replaces itself": (
        """
        static int execute(PyObject *m) {
            return PyDict_SetItemString(PyImport_GetModuleDict(), "mod", Py_None); }
        static PyModuleDef_Slot odd[] = {{Py_mod_exec, execute}, {0, NULL}};""",
        None,
    ),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_initialisation_is_survived(project: Project, what: str) -> None:
    code, error = ODD[what]
    init = f"""
        {MULTI_PHASE.replace("return", "definition.m_slots = odd; return")}"""
    project.write(
        "mod.c",
        module(code + "\nstatic PyObject *use(PyObject *a, PyObject *b) { Py_RETURN_NONE; }", init),
    )
    outcome = project.run(
        f"""
        error = {error!r}
        for cycle in range(3):
            try:
                module = relib.load("mod.c")
            except relib.RelibError as caught:
                assert type(caught).__name__ == error, repr(caught)
                assert "mod" not in sys.modules
            else:
                assert error is None
                kept = [getattr(module.module, "hello", None)]
                report = module.unload()
                if kept[0]:
                    assert not report.unloaded and kept[0]() == 42
                kept.clear()
        if hasattr(sys, "left_behind"):
            until(lambda: mapped("mod") == 1)
            assert sys.left_behind() is None
            del sys.left_behind
        until(lambda: not mapped("mod") or gc.collect() and False)
        """
    )
    assert not outcome.errors


def test_a_single_phase_module_finds_its_own_state(project: Project) -> None:
    code = """
        static int execute(PyObject *m) { return PyState_AddModule(m, PyModule_GetDef(m)); }
        static struct PyModuleDef definition;
        static PyObject *use(PyObject *self, PyObject *args) {
            PyObject *found = PyState_FindModule(&definition);
            return PyBool_FromLong(found == self); }"""
    project.write("mod.c", module(code, SINGLE_PHASE))
    project.run(
        """
        for cycle in range(3):
            module = relib.load("mod.c")
            assert module.module.use()
            report = module.unload()
            # the interpreter's own list of such modules refers to it, for good
            assert [pin.kind for pin in report.pins] == ["object"], report
            assert mapped("mod") == cycle + 1
        other = relib.load("mod.c")
        assert other.module.use() and other.module.hello() == 42
        """
    )


def test_constructors_and_destructors_run_once_each(project: Project) -> None:
    code = """
        static void __attribute__((constructor)) begin(void) {
            FILE *f = fopen("said", "a"); fputs("begin\\n", f); fclose(f); }
        static void __attribute__((destructor)) end(void) {
            FILE *f = fopen("said", "a"); fputs("end\\n", f); fclose(f); }
        static void late(void) {
            FILE *f = fopen("said", "a"); fputs("late\\n", f); fclose(f); }
        static int execute(PyObject *m) { return atexit(late); }
        static PyObject *use(PyObject *self, PyObject *args) { Py_RETURN_NONE; }"""
    project.write("mod.c", module(code))
    project.run(
        """
        for cycle in range(3):
            assert relib.load("mod.c").unload().unloaded
        said = open("said").read().split()
        assert [sorted(said[i : i + 3]) for i in (0, 3, 6)] == [["begin", "end", "late"]] * 3
        """
    )
