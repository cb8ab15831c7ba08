"""What hand-written C can leave behind: it is taken back, or keeps the code mapped and is named.

Every scenario would crash a tool that closes a library because the module has been forgotten.
"""

from __future__ import annotations

import sys

import pytest
from conftest import Project

MODULE = """
    #define PY_SSIZE_T_CLEAN
    #include <Python.h>
    #include <structmember.h>
    #include <pthread.h>
    #include <signal.h>
    #include <stdlib.h>
    static PyObject *kept;
    static PyObject *hello(PyObject *self, PyObject *args) {{ return PyLong_FromLong(42); }}
    static PyMethodDef hello_method = {{"hello", hello, METH_VARARGS, "Says 42."}};
    static PyObject *use(PyObject *self, PyObject *args);
    static int execute(PyObject *m);
    {code}
    static PyMethodDef methods[] = {{
        {{"use", use, METH_VARARGS, NULL}}, {{"hello", hello, METH_VARARGS, NULL}},
        {{NULL, NULL, 0, NULL}}}};
    static PyModuleDef_Slot slots[] = {{{{Py_mod_exec, execute}}, {{0, NULL}}}};
    static struct PyModuleDef definition = {{
        PyModuleDef_HEAD_INIT, "mod", NULL, 0, methods, slots, NULL, NULL, NULL}};
    {init}
"""

MULTI_PHASE = "PyMODINIT_FUNC PyInit_mod(void) { return PyModuleDef_Init(&definition); }"
SINGLE_PHASE = """
    PyMODINIT_FUNC PyInit_mod(void) {
        definition.m_size = -1; definition.m_slots = NULL;
        PyObject *m = PyModule_Create(&definition);
        if (m && execute(m) < 0) Py_CLEAR(m);
        return m;
    }
"""
NOTHING = "static int execute(PyObject *m) { return 0; }"

HEAP_TYPE = """
    static PyObject *get(PyObject *self, PyObject *args) { return PyLong_FromLong(7); }
    static PyMethodDef type_methods[] = {{"get", get, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
    static PyType_Slot type_slots[] = {{Py_tp_methods, type_methods}, {0, NULL}};
    static PyType_Spec spec = {"mod.Thing", sizeof(PyObject), 0, Py_TPFLAGS_DEFAULT, type_slots};
"""
STATIC_TYPE = """
    static PyObject *get(PyObject *self, PyObject *args) { return PyLong_FromLong(7); }
    static PyMethodDef type_methods[] = {{"get", get, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}};
    static PyTypeObject Thing = {PyVarObject_HEAD_INIT(NULL, 0) .tp_name = "mod.Thing",
        .tp_basicsize = sizeof(PyObject), .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
        .tp_methods = type_methods, .tp_new = PyType_GenericNew};
    static int execute(PyObject *m) { return PyModule_AddType(m, &Thing); }
    static PyObject *use(PyObject *self, PyObject *args) {
        return PyObject_CallNoArgs((PyObject *)&Thing); }
"""

# name: (C, what is held, what is done with it, the kind of its pin or None when nothing holds,
#        how it is let go or None when it never is)
HAZARDS: dict[str, tuple[str, str, str, str | None, str | None]] = {
    "static type": (STATIC_TYPE, "m.use()", "held.get() == 7", "static type", None),
    "static type without an instance": (STATIC_TYPE, "None", "held is None", "static type", None),
    "static type with a subclass": (
        STATIC_TYPE,
        "type('Sub', (m.Thing,), {})()",
        "held.get() == 7",
        "static type",
        None,
    ),
    "heap type without module": (
        HEAP_TYPE
        + NOTHING
        + """
        static PyObject *use(PyObject *self, PyObject *args) {
            PyObject *type = PyType_FromSpec(&spec);
            PyObject *made = type ? PyObject_CallNoArgs(type) : NULL;
            Py_XDECREF(type);
            return made; }""",
        "m.use()",
        "held.get() == 7",
        "object",
        "held = None",
    ),
    "heap type in a C variable": (
        HEAP_TYPE
        + """
        static int execute(PyObject *m) {
            kept = PyType_FromModuleAndSpec(m, &spec, NULL);
            return kept ? 0 : -1; }
        static PyObject *use(PyObject *self, PyObject *args) {
            return PyObject_CallNoArgs(kept); }""",
        "m.use()",
        "held.get() == 7",
        "object",
        None,
    ),
    "heap type without module in a C variable": (
        HEAP_TYPE
        + """
        static int execute(PyObject *m) { return (kept = PyType_FromSpec(&spec)) ? 0 : -1; }
        static PyObject *use(PyObject *self, PyObject *args) {
            return PyObject_CallNoArgs(kept); }""",
        "m.use()",
        "held.get() == 7",
        "object",
        None,
    ),
    **{
        f"instance of a heap type in a {container} that the collector does not know": (
            HEAP_TYPE
            + f"""
            static PyObject *use(PyObject *self, PyObject *args) {{ Py_RETURN_NONE; }}
            static int execute(PyObject *m) {{
                PyObject *type = PyType_FromModuleAndSpec(m, &spec, NULL);
                PyObject *made = type ? PyObject_CallNoArgs(type) : NULL;
                Py_XDECREF(type);
                return made ? PyModule_AddObject(m, "things", {make}) : -1; }}""",
            "[gc.collect()].clear()",
            "held is None",
            None,
            "held = None",
        )
        for container, make in {
            "dict": 'Py_BuildValue("{s:N}", "one", made)',
            "tuple": 'Py_BuildValue("((N))", made)',
        }.items()
    },
    "bare function": (
        NOTHING
        + """
        static PyObject *use(PyObject *self, PyObject *args) {
            return PyCFunction_New(&hello_method, NULL); }""",
        "m.use()",
        "held() == 42",
        "object",
        "held = None",
    ),
    "function of another module": (
        NOTHING
        + """
        static PyMethodDef more[] = {{"hello", hello, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL}};
        static PyObject *use(PyObject *self, PyObject *args) {
            if (PyModule_AddFunctions(PyTuple_GetItem(args, 0), more) < 0) return NULL;
            Py_RETURN_NONE; }""",
        "m.use(types)",
        "types.hello() == 42",
        "object",
        None,
    ),
    "method of another class": (
        NOTHING
        + """
        static PyObject *use(PyObject *self, PyObject *args) {
            PyObject *type = PyTuple_GetItem(args, 0);
            PyObject *method = PyDescr_NewMethod((PyTypeObject *)type, &hello_method);
            if (!method || PyObject_SetAttrString(type, "hello", method) < 0) return NULL;
            return method; }""",
        "m.use(Mine)",
        "Mine().hello() == 42",
        "for ever",
        None,
    ),
    "capsule with a destructor": (
        NOTHING
        + """
        static int gone;
        static void goes(PyObject *capsule) { gone++; }
        static PyObject *use(PyObject *self, PyObject *args) {
            return PyCapsule_New(&gone, NULL, goes); }""",
        "m.use()",
        "'capsule' in repr(held)",
        "capsule",
        "held = None",
    ),
    "capsule with a name": (
        NOTHING
        + """
        static PyObject *use(PyObject *self, PyObject *args) {
            return PyCapsule_New(&kept, "mod.api", NULL); }""",
        "m.use()",
        "'mod.api' in repr(held)",
        "capsule",
        "held = None",
    ),
    "view of static memory": (
        NOTHING
        + """
        static char text[] = "static";
        static PyObject *use(PyObject *self, PyObject *args) {
            return PyMemoryView_FromMemory(text, 6, PyBUF_READ); }""",
        "m.use()",
        "bytes(held) == b'static'",
        "object",
        "held = None",
    ),
    "slice of a view of static memory": (
        NOTHING
        + """
        static char text[] = "static";
        static PyObject *use(PyObject *self, PyObject *args) {
            return PyMemoryView_FromMemory(text, 6, PyBUF_READ); }""",
        "m.use()[1:]",
        "bytes(held) == b'tatic'",
        "object",
        "held = None",
    ),
    "named tuple type": (
        NOTHING
        + """
        static PyStructSequence_Field fields[] = {{"a", "the first"}, {NULL, NULL}};
        static PyStructSequence_Desc description = {"mod.Pair", "A pair.", fields, 1};
        static PyObject *use(PyObject *self, PyObject *args) {
            PyTypeObject *type = PyStructSequence_NewType(&description);
            PyObject *made = type ? PyStructSequence_New(type) : NULL;
            if (made) PyStructSequence_SetItem(made, 0, PyLong_FromLong(3));
            Py_XDECREF(type);
            return made; }""",
        "m.use()",
        "held.a == 3 and type(held).a and 'Pair' in repr(held)",
        "object",
        "held = None",
    ),
    "exit function of Python's": (
        """
        static void late(void) { free(malloc(1)); }
        static int execute(PyObject *m) { return Py_AtExit(late); }
        static PyObject *use(PyObject *self, PyObject *args) { Py_RETURN_NONE; }""",
        "None",
        "held is None",
        "pointer",
        None,
    ),
    "profile function": (
        NOTHING
        + """
        static int calls;
        static int profile(PyObject *o, PyFrameObject *f, int what, PyObject *arg) {
            calls++; return 0; }
        static PyObject *use(PyObject *self, PyObject *args) {
            PyEval_SetProfile(profile, NULL); Py_RETURN_NONE; }""",
        "m.use()",
        "(lambda: True)()",
        "pointer",
        "sys.setprofile(None)",
    ),
    "profile function of another thread": (
        NOTHING
        + """
        static int profile(PyObject *o, PyFrameObject *f, int what, PyObject *arg) { return 0; }
        static PyObject *use(PyObject *self, PyObject *args) {
            PyEval_SetProfile(profile, NULL); Py_RETURN_NONE; }""",
        "in_thread(m.use)",
        "held.is_alive()",
        "pointer",
        "gate.set(); held.join()",
    ),
    # CPython before 3.12 does not wipe the entry of a call that has been made.
    "pending call": (
        NOTHING
        + """
        static int pending(void *arg) { return 0; }
        static PyObject *use(PyObject *self, PyObject *args) {
            Py_AddPendingCall(pending, NULL); Py_RETURN_NONE; }""",
        "m.use()",
        "held is None",
        "pointer" if sys.version_info < (3, 12) else None,
        None,
    ),
    "input hook": (
        """
        static int hook(void) { return 0; }
        static int execute(PyObject *m) { PyOS_InputHook = hook; return 0; }
        static PyObject *use(PyObject *self, PyObject *args) {
            PyOS_InputHook = NULL; Py_RETURN_NONE; }""",
        "m.use",
        "held",
        "pointer",
        "held = held() and None",
    ),
    "audit hook": (
        """
        static int hook(const char *event, PyObject *args, void *data) { return 0; }
        static int execute(PyObject *m) { return PySys_AddAuditHook(hook, NULL); }
        static PyObject *use(PyObject *self, PyObject *args) { Py_RETURN_NONE; }""",
        "None",
        "sys.audit('relib.test') is None",
        "pointer",
        None,
    ),
    "signal handler": (
        """
        static void handler(int number) { (void)number; }
        static int execute(PyObject *m) {
            struct sigaction action = {0};
            action.sa_handler = handler;
            return sigaction(SIGUSR2, &action, NULL); }
        static PyObject *use(PyObject *self, PyObject *args) { Py_RETURN_NONE; }""",
        "None",
        "os.kill(os.getpid(), signal.SIGUSR2) is None",
        "signal",
        "signal.signal(signal.SIGUSR2, signal.SIG_DFL)",
    ),
    "thread key with a destructor": (
        """
        static pthread_key_t key;
        static void goes(void *value) { free(value); }
        static int execute(PyObject *m) {
            return pthread_key_create(&key, goes) || pthread_setspecific(key, malloc(8)); }
        static PyObject *use(PyObject *self, PyObject *args) { Py_RETURN_NONE; }""",
        "None",
        "held is None",
        "key",
        None,
    ),
    "exit function of C": (
        """
        static void late(void) { free(malloc(1)); }
        static int execute(PyObject *m) { return atexit(late); }
        static PyObject *use(PyObject *self, PyObject *args) { Py_RETURN_NONE; }""",
        "None",
        "held is None",
        None,
        "held = None",
    ),
    "deleted thread key": (
        """
        static pthread_key_t key;
        static int execute(PyObject *m) { return pthread_key_create(&key, free); }
        static void goes(void *value) { free(value); }
        static PyObject *use(PyObject *self, PyObject *args) {
            pthread_key_delete(key);
            pthread_key_create(&key, goes);
            pthread_key_delete(key);
            Py_RETURN_NONE; }""",
        "m.use()",
        "held is None",
        None,
        "held = None",
    ),
    "buffer of a stream": (
        """
        static char buffer[4096];
        static int execute(PyObject *m) { return setvbuf(stdout, buffer, _IOFBF, sizeof(buffer)); }
        static PyObject *use(PyObject *self, PyObject *args) {
            fflush(stdout);
            setvbuf(stdout, NULL, _IONBF, 0);
            Py_RETURN_NONE; }""",
        "m.use",
        "ctypes.CDLL(None).puts(b'printed') >= 0",
        "pointer",
        "held = held() and None",
    ),
    "string in the environment": (
        """
        static char entry[] = "RELIB__TEST=static";
        static int execute(PyObject *m) { return putenv(entry); }
        static PyObject *use(PyObject *self, PyObject *args) { Py_RETURN_NONE; }""",
        "None",
        "subprocess.run(['true']).returncode == 0",
        "pointer",
        "os.putenv('RELIB__TEST', 'of the program')",
    ),
    "exit function with an argument": (
        """
        static void late(int status, void *argument) { free(argument); }
        static int execute(PyObject *m) { return on_exit(late, NULL); }
        static PyObject *use(PyObject *self, PyObject *args) { Py_RETURN_NONE; }""",
        "None",
        "held is None",
        "for ever",
        None,
    ),
    "data of code objects": (
        """
        static void goes(void *value) { free(value); }
        static int execute(PyObject *m) {
        #if PY_VERSION_HEX >= 0x030C0000
            Py_ssize_t index = PyUnstable_Eval_RequestCodeExtraIndex(goes);
            return PyUnstable_Code_SetExtra(
        #else
            Py_ssize_t index = _PyEval_RequestCodeExtraIndex(goes);
            return _PyCode_SetExtra(
        #endif
                (void *)PyFrame_GetCode(PyEval_GetFrame()), index, malloc(8)); }
        static PyObject *use(PyObject *self, PyObject *args) { Py_RETURN_NONE; }""",
        "None",
        "held is None",
        "pointer",
        None,
    ),
    "destructor of a capsule of the program's": (
        NOTHING
        + """
        static void goes(PyObject *capsule) { free(malloc(1)); }
        static PyObject *use(PyObject *self, PyObject *args) {
            PyObject *capsule = PyTuple_GET_ITEM(args, 0);
            if (PyCapsule_SetDestructor(capsule, goes) < 0) return NULL;
            return Py_NewRef(capsule); }""",
        "m.use(capsule())",
        "'capsule' in repr(held)",
        "capsule",
        "held = None",
    ),
    "destructor of a capsule of its own": (
        NOTHING
        + """
        static void goes(PyObject *capsule) { free(malloc(1)); }
        static PyObject *use(PyObject *self, PyObject *args) {
            PyObject *capsule = PyCapsule_New(&kept, NULL, NULL);
            if (PyCapsule_SetDestructor(capsule, goes) < 0) return NULL;
            return capsule; }""",
        "m.use()",
        "'capsule' in repr(held)",
        "capsule",
        "held = None",
    ),
    "submodule in sys.modules": (
        """
        static struct PyModuleDef inner = {PyModuleDef_HEAD_INIT, "mod.inner", NULL, -1, NULL};
        static int execute(PyObject *m) {
            static PyMethodDef functions[] = {{"hello", hello, METH_VARARGS, NULL},
                                              {NULL, NULL, 0, NULL}};
            inner.m_methods = functions;
            PyObject *sub = PyModule_Create(&inner);
            PyObject *all = PyImport_GetModuleDict();
            int result = sub ? PyDict_SetItemString(all, "mod.inner", sub) : -1;
            return result < 0 ? -1 : PyModule_AddObject(m, "inner", sub); }
        static PyObject *use(PyObject *self, PyObject *args) { Py_RETURN_NONE; }""",
        "sys.modules['mod.inner'].hello",
        "held() == 42",
        "object",
        "held = None; del sys.modules['mod.inner']",
    ),
}


def module(code: str, init: str = MULTI_PHASE) -> str:
    return MODULE.format(code=code, init=init)


SCENARIO = """
import ctypes, subprocess, types
class Mine: pass
capsule_of = ctypes.pythonapi.PyCapsule_New
capsule_of.restype, capsule_of.argtypes = ctypes.py_object, [ctypes.c_void_p] * 3
def capsule(): return capsule_of(1, None, None)
gate, inside = threading.Event(), threading.Event()
def in_thread(function):
    def run():
        function()
        inside.set()
        gate.wait()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    inside.wait()
    return thread
module = relib.load("mod.c")
m = module.module
held = {held}
del m
report = module.unload()
print(report)
kinds = {{pin.kind for pin in report.pins}}
assert kinds == ({{{kind!r}}} - {{None}}), report
assert mapped("mod") == bool(kinds)
for look in range(2):
    assert ({use})
    relib.reap()
    assert mapped("mod") == bool(kinds)
{free}
"""


AGAIN = ["static type", "bare function", "capsule with a destructor", "submodule in sys.modules"]


@pytest.mark.parametrize(
    ("hazard", "init"),
    [(hazard, MULTI_PHASE) for hazard in HAZARDS] + [(hazard, SINGLE_PHASE) for hazard in AGAIN],
    ids=[*HAZARDS, *(f"{hazard}, single-phase" for hazard in AGAIN)],
)
def test_what_c_leaves_behind_is_known(project: Project, hazard: str, init: str) -> None:
    code, held, use, kind, free = HAZARDS[hazard]
    project.write("mod.c", module(code, init))
    outcome = project.run(
        SCENARIO.format(
            held=held,
            use=use,
            kind=kind,
            free=free and f"{free}\nuntil(lambda: not mapped('mod') or gc.collect() and False)",
        )
    )
    assert not outcome.errors


def test_garbage_is_not_collected_while_it_is_looked_at(project: Project) -> None:
    project.write(
        "mod.c",
        module(
            NOTHING
            + """
        static PyObject *use(PyObject *self, PyObject *args) {
            return PyCFunction_New(&hello_method, NULL); }"""
        ),
    )
    outcome = project.run(
        """
        from relib import _native
        class Box: pass
        version = relib.load("mod.c").current
        use = version.held[0].use
        pairs = [(n, n) for n in range(5000)]  # no memory is left that has been a pair
        gc.disable()
        for _ in range(100):
            box = Box()
            box.itself, box.function = box, use()
        del box
        _native.members(version.held, version.library)  # leaves one: for the arguments
        gc.set_threshold(1)
        gc.enable()
        found = _native.held_from_outside(version.held, version.library)
        gc.disable()
        functions = [one for one, _ in found if type(one) is type(use) and one is not use]
        assert len(functions) == 100 and all(function() == 42 for function in functions)
        """
    )
    assert not outcome.errors


# As PEP 573 and 630 would have it: the type belongs to its module, whose state holds it.
STATEFUL = """
    #include <Python.h>
    typedef struct { PyObject *thing; } state;
    static struct PyModuleDef definition;
    static PyObject *get(PyObject *self, PyTypeObject *type, PyObject *const *arguments,
                         Py_ssize_t count, PyObject *names) {
        state *its = PyType_GetModuleState(type);
        return PyBool_FromLong(its != NULL && its->thing == (PyObject *)Py_TYPE(self));
    }
    static PyMethodDef methods[] = {
        {"get", (PyCFunction)(void (*)(void))get, METH_METHOD | METH_FASTCALL | METH_KEYWORDS, ""},
        {NULL, NULL, 0, NULL}};
    static int visit_thing(PyObject *self, visitproc visit, void *arg) {
        Py_VISIT(Py_TYPE(self)); return 0; }
    static void free_thing(PyObject *self) {
        PyTypeObject *type = Py_TYPE(self);
        PyObject_GC_UnTrack(self); type->tp_free(self); Py_DECREF(type); }
    static PyType_Slot slots[] = {{Py_tp_methods, methods}, {Py_tp_traverse, visit_thing},
                                  {Py_tp_dealloc, free_thing}, {0, NULL}};
    static PyType_Spec spec = {"mod.Thing", sizeof(PyObject), 0,
                               Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                               slots};
    static int execute(PyObject *m) {
        state *its = PyModule_GetState(m);
        its->thing = PyType_FromModuleAndSpec(m, &spec, NULL);
        return its->thing ? PyModule_AddType(m, (PyTypeObject *)its->thing) : -1; }
    static int visit_state(PyObject *m, visitproc visit, void *arg) {
        state *its = PyModule_GetState(m);
        if (its != NULL) Py_VISIT(its->thing);
        return 0; }
    static int clear_state(PyObject *m) {
        state *its = PyModule_GetState(m);
        if (its != NULL) Py_CLEAR(its->thing);
        return 0; }
    static void free_state(void *m) { clear_state(m); }
    static PyModuleDef_Slot phases[] = {{Py_mod_exec, execute}, {0, NULL}};
    static struct PyModuleDef definition = {
        PyModuleDef_HEAD_INIT, "mod", NULL, sizeof(state), NULL, phases, visit_state, clear_state,
        free_state};
    PyMODINIT_FUNC PyInit_mod(void) { return PyModuleDef_Init(&definition); }
"""


def test_a_type_of_the_modules_own_goes_with_it(project: Project) -> None:
    """At once when nothing of it is held; else with what is, which works until then."""
    project.write("mod.c", STATEFUL)
    outcome = project.run(
        """
        module = relib.load("mod.c")
        assert module.module.Thing().get() is True
        class Sub(module.module.Thing): pass
        assert Sub().get() is False
        del Sub
        report = module.unload().require_unloaded()
        assert not mapped("mod")

        module = relib.load("mod.c")
        held = module.module.Thing()
        report = module.unload()
        assert not report.unloaded and "mod.Thing" in str(report), report
        assert held.get() is True and mapped("mod") == 1
        del report
        held = None
        until(lambda: not mapped("mod"))
        assert relib.retired() == []
        """
    )
    assert not outcome.errors
