"""Edits of the C that Cython generates, so that the module can be unloaded.

A module compiled with ``CYTHON_USE_MODULE_STATE`` keeps its objects where the garbage collector
finds them, and lets go of them when it is collected; but not all of them (Cython 3.1 to 3.3). What
the edits add, by the names that :class:`Amended` reports:

``globals``
    Python objects and memoryviews in C variables (``cdef object cache``, the base classes of
    ``cpdef enum``) are visited and released. One of them that refers back to the module, as every
    function and every instance of its classes does, would keep it for ever.
``builtins``
    The same for builtins that the module has looked up.
``code cache``
    Code objects made for tracebacks are freed: 2 kB for every module that has seen an exception.
    (They need not be visited: the collector does not track code objects.)
``locks``
    So are the locks of memoryviews, where they are not Cython's shared module's.
``namespace``
    What the module's names refer to goes before its constants and types do. Otherwise instances
    die when these are gone, and a ``__dealloc__`` that calls a Python function crashes.
``late``
    If there is such a ``__dealloc__``, the collector is made to start with that. An instance that
    is in a reference cycle may nevertheless die later; its ``__dealloc__`` and ``__del__`` are then
    left out, unless they are plain C.
``state``
    One pointer leads to the module's state, in the place of a table by interpreter, which is never
    freed, and which takes a lock's worth of atomic operations for each use from Python 3.12 on.
``types``
    An instance that dies lets go of its class. (In Cython 3.1 none does; in 3.2 none of a class
    whose base is not a class of the same module.)
``members``
    A class with both a ``__dict__`` and a ``__weakref__`` can be made. Cython gives its type two
    tables of members, of which CPython takes the last, and that one is empty ("KeyError:
    '__dictoffset__'" on import; Compiler/ModuleNode.py, generate_type_spec).
``failure``
    A module whose execution raises says that it failed. (Cython 3.1 and 3.2 take back the wrong
    registration, and then return success.)
``free``
    A module that dies without a collection lets go of everything as well.
``imports``
    A module whose C functions or variables were cimported is kept alive: Cython keeps bare pointers
    into it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from relib.building import injected
from relib.building.generated_text import Pattern, Text

__all__ = ["Amended", "amend"]

# These modules are never unloaded, and nothing of theirs needs to be kept.
_PERMANENT = "relib._anchor."


@dataclass(frozen=True, slots=True)
class Amended:
    """The edited C."""

    text: str
    edits: tuple[str, ...]
    """The names of the edits made. One that has nothing to do in this module is not made."""
    missed: tuple[str, ...]
    """The names of those for which the place was not found. The module works without them, but it
    may not be possible to unload it, or unloading it may leak."""


def amend(c_source: str) -> Amended:
    """Edit the C or C++ of one Cython module.

    Args:
        c_source: what Cython generated.

    >>> amend("int main(void) { return 0; }").edits
    ()
    """
    text = Text(c_source)
    visit: list[str] = []
    empty: list[str] = []
    release: list[str] = []
    finish: list[str] = []
    declare: list[str] = []

    # Nothing can be done without a place to do it.
    clear = text.find(_CLEAR)
    traverse = text.find(_TRAVERSE)
    if clear is None or traverse is None or (end := c_source.find(_CLEAR_END, clear.end())) < 0:
        return Amended(c_source, (), _ALL)

    instances, others, views = _globals(text)
    empty += [f"__PYX_RELIB_RELEASE({name}, {none});" for name, none in instances]
    empty += ["__pyx_relib_forget(state->__pyx_d, 1, only);"]
    empty += [f"__PYX_RELIB_RELEASE({name}, {none});" for name, none in others]
    visit += [f"Py_VISIT({name});" for name, _ in (*instances, *others)]
    if views:
        declare += [injected.VIEWS % (len(views), ", ".join(f"&{name}" for name in views))]
        visit += [injected.VISIT_VIEWS]
        empty += [injected.RELEASE_VIEWS]
    text.edits.append("namespace")
    if "struct __Pyx_CodeObjectCache __pyx_code_cache;\n" in c_source:
        release += [injected.FREE_CODE_CACHE]
        text.edits.append("code cache")
    builtins = _builtins(text)
    visit += [f"Py_VISIT({name});" for name in builtins]
    finish += [f"Py_CLEAR({name});" for name in builtins]
    if _imports(text):
        declare += [injected.KEEP]
        visit += ["Py_VISIT(__pyx_relib_kept);"]
        finish += ["Py_CLEAR(__pyx_relib_kept);"]
    if "static PyThread_type_lock __pyx_memoryview_thread_locks[" in c_source:
        finish += [injected.FREE_LOCKS]
        text.edits.append("locks")
    _members(text)
    _types(text)
    _failure(text)
    late = _late(text)
    direct = _state(text, late)
    if direct:
        asked = ("PyType_IS_GC", "__Pyx_PyType_HasFeature")
        bases = dict.fromkeys(
            f"__pyx_ptype_{base[1]}"
            for base in _BASE.finditer(c_source)
            if c_source.endswith(asked, max(0, base.start() - 30), base.start())
        )
        release += [f"__pyx_relib_after.{name} = state->{name};" for name in bases]
        finish += ["__pyx_relib_state = &__pyx_relib_after;"]
    if direct and late:
        declare += ["CYTHON_UNUSED static PyObject *__pyx_relib_end = NULL;"]
        visit += ["Py_VISIT(__pyx_relib_end);"]
        finish += ["Py_CLEAR(__pyx_relib_end);"]
    free = _free(text)

    block = injected.BLOCK.format(
        declare="\n".join(declare),
        visit="\n  ".join(visit),
        empty="\n  ".join(empty),
        release="\n  ".join(release),
        finish="\n  ".join(finish),
        end=injected.END if direct and late else "",
        free=injected.FREE if free else "",
    )
    text.insert(clear.start(), f"#endif\n{block}#if CYTHON_USE_MODULE_STATE\n")
    text.insert(clear.end(), "  __pyx_relib_release(clear_module_state);\n")
    text.insert(end, "__pyx_relib_finish();\n")
    text.insert(traverse.end(), injected.CALL_VISIT)
    return Amended(text.result(), tuple(text.edits), tuple(text.missed))


# --- finding -------------------------------------------------------------------------------------

_CLEAR = Pattern(
    "static CYTHON_SMALL_CODE int __pyx_m_clear(PyObject *m) {\n",
    r" *__pyx_mstatetype \*clear_module_state = .*\n"
    r" *if \(!clear_module_state\) return 0;\n",
)
_CLEAR_END = "return 0;\n}\n#endif\n"
_TRAVERSE = Pattern(
    "static CYTHON_SMALL_CODE int __pyx_m_traverse(PyObject *m, visitproc visit, void *arg) {\n",
    r" *__pyx_mstatetype \*traverse_module_state = .*\n"
    r" *if \(!traverse_module_state\) return 0;\n",
)
_GLOBAL_INIT = Pattern(
    "static int __Pyx_modinit_", r"[Gg]lobal_init_code\([^)]*\) \{\n(.*?)\n\}", re.S
)
_GLOBAL = re.compile(r"^ *(\w+) = (.+); Py_INCREF\(Py_None\);$", re.M)
_VIEW = Pattern("__Pyx_memviewslice", r"\)? (\w+)(?: = \{.*\})?;\n")
_BUILTINS_INIT = Pattern("static int __Pyx_InitCachedBuiltins(", r"[^)]*\) \{\n(.*?)\n\}", re.S)
_BUILTIN = re.compile(r"^ *(__pyx_builtin_\w+) = __Pyx_GetBuiltinName\(", re.M)
_IMPORT_INIT = Pattern(
    "static int __Pyx_modinit_",
    r"(?:[Vv]ariable|[Ff]unction)_import_code\([^)]*\) \{\n(.*?)\n\}",
    re.S,
)
_IMPORT = re.compile(
    r"^ *(__pyx_t_\d+) = PyImport_ImportModule\(\"([^\"]+)\"\); if \((?:unlikely\()?!\1\)?\) "
    r"(__PYX_ERR\(\d+, \d+, __pyx_L1_error\))\n",
    re.M,
)
_FINALIZER = re.compile(r"__pyx_pw_\w*__(?:dealloc|del)__\(o\);\n")
_FINALIZER_ENDS = ("__dealloc__(o);\n", "__del__(o);\n")
_MEMBERS = Pattern("{Py_tp_members, (void*)", r"(\w+_members)\},\n")
_WRONG_REMOVAL = Pattern(" PyState_RemoveModule(&__pyx_moduledef);\n")
_FREE_ROOT = Pattern("(*Py_TYPE(o)->tp_free)(o);\n")
_FREE_BUILTIN_BASE = Pattern("__Pyx_PyType_GetSlot(", r"(.+), tp_dealloc, destructor\)\(o\);\n")
_FREE_OTHER_BASE = Pattern("__Pyx_call_next_tp_dealloc(o, __pyx_tp_dealloc_", r"\w+\);\n")
_OTHER_BASE = re.compile(r"likely\((__pyx_mstate_global->__pyx_ptype_\w+)\)")
# (of those that PyType_IS_GC or __Pyx_PyType_HasFeature is asked about)
_BASE = Pattern("(__pyx_mstate_global->__pyx_ptype_", r"(\w+)[,)]")
_STATE_PROTOTYPES = Pattern(
    "static PyObject *__Pyx_State_FindModule(void*);\n"
    "static int __Pyx_State_AddModule(PyObject* module, void*);\n"
    "static int __Pyx_State_RemoveModule(void*);\n"
)
_STATE_TABLE = Pattern(
    "/* MultiPhaseInitModuleState */\n",
    r" *#if CYTHON_PEP489_MULTI_PHASE_INIT && CYTHON_USE_MODULE_STATE\n",
)
_STATE_GLOBAL = Pattern(
    "#define __pyx_mstate_global "
    "(__Pyx_PyModule_GetState(__Pyx_State_FindModule(&__pyx_moduledef)))\n"
)
_NO_FREE = Pattern("__pyx_m_clear, /* m_clear */\n", r" *NULL /\* m_free \*/\n")

_ALL = (
    "state",
    "globals",
    "builtins",
    "code cache",
    "locks",
    "namespace",
    "members",
    "types",
    "failure",
    "late",
    "free",
    "imports",
)

_Global = tuple[str, str]
"""A C variable, and None as a value for it."""


def _globals(text: Text) -> tuple[list[_Global], list[_Global], list[str]]:
    """The C variables that own Python objects: instances of classes, others, memoryviews.

    Which do is told by where Cython sets them to None; a `PyObject *` that is declared as such in
    the source looks the same, but is not (Cython 3.1 to 3.3, Compiler/PyrexTypes.py,
    PyObjectType.global_init_code).
    """
    views = [
        view[1]
        for view in _VIEW.finditer(text.original)
        if text.before(view) in ("static ", "__PYX_EXTERN_C DL_EXPORT(")
    ]
    body = text.find(_GLOBAL_INIT)
    if body is None:
        text.missed.append("globals")
        return [], [], views
    found: list[_Global] = _GLOBAL.findall(body[1])
    if found or views:
        text.edits.append("globals")
    instances = [(name, none) for name, none in found if none.startswith("((struct ")]
    return instances, [entry for entry in reversed(found) if entry not in instances], views


def _builtins(text: Text) -> list[str]:
    body = text.find(_BUILTINS_INIT)
    if body is None:
        text.missed.append("builtins")
        return []
    found = [
        name for name in _BUILTIN.findall(body[1]) if f"static PyObject *{name};" in text.original
    ]
    if found:
        text.edits.append("builtins")
    return found


def _imports(text: Text) -> bool:
    """Keep the modules whose functions and variables this one uses by pointer."""
    found = False
    for body in _IMPORT_INIT.finditer(text.original):
        for line in _IMPORT.finditer(text.original, *body.span(1)):
            if not line[2].startswith(_PERMANENT):
                text.insert(line.end(), f"  if (__pyx_relib_keep({line[1]}) < 0) {line[3]}\n")
                found = True
        known = len(_IMPORT.findall(body[1]))
        if body[1].count("PyImport_ImportModule(") > known and "imports" not in text.missed:
            text.missed.append("imports")
    if found:
        text.edits.append("imports")
    return found


def _members(text: Text) -> None:
    for slot in _MEMBERS.finditer(text.original):
        table = text.original.find(f"static PyMemberDef {slot[1]}[]")
        if table >= 0:
            text.insert(table, "CYTHON_UNUSED ")
            text.replace(*slot.span(), f"#if !CYTHON_USE_TYPE_SLOTS\n{slot[0]}#endif\n")
            if "members" not in text.edits:
                text.edits.append("members")


def _types(text: Text) -> None:
    for pattern in (_FREE_ROOT, _FREE_BUILTIN_BASE, _FREE_OTHER_BASE):
        for call in pattern.finditer(text.original):
            start = text.original.rfind("\nstatic ", 0, call.start()) + 1
            before = text.original[start : call.start()]
            if (
                text.before(call).strip()
                or not before.startswith("static void __pyx_tp_dealloc_")
                or re.search(r"\*tp = .*Py_TYPE\(o\);", before)  # Cython 3.3 does it itself
            ):
                continue
            base = call[1] if pattern is _FREE_BUILTIN_BASE else ""
            if pattern is _FREE_OTHER_BASE:
                if (found := _OTHER_BASE.search(before)) is None:
                    text.missed.append("types")
                    continue
                base = found[1]
            text.replace(*call.span(), injected.free_instance(call[0], base))
            if "types" not in text.edits:
                text.edits.append("types")


def _failure(text: Text) -> None:
    call = text.find(_WRONG_REMOVAL)
    if call is not None:
        text.edit("failure", (call, call[0].replace(" PyState_", " __Pyx_State_")))


def _late(text: Text) -> bool:
    found = False
    if not any(end in text.original for end in _FINALIZER_ENDS):
        return False
    for call in _FINALIZER.finditer(text.original):
        if not text.before(call).strip() and not _is_plain_c(text, call[0].partition("(")[0]):
            text.insert(call.start(), "if (!__pyx_relib_over) ")
            found = True
    if found:
        text.edits.append("late")
    return found


def _is_plain_c(text: Text, wrapper: str) -> bool:
    """Whether a `__dealloc__` uses nothing of Python and none of the module's functions."""
    outer = text.body(f"static void {wrapper}(")
    if outer is None or (inner := re.search(r"__pyx_pf_\w+", outer)) is None:
        return False
    body = text.body(f"static void {inner[0]}(")
    if body is None:
        return False
    code = re.sub(r"/\*.*?\*/", "", body, flags=re.S)
    return not re.search(r"\b(?:__Pyx|__PYX|Py|_Py|__pyx_(?!v_|t_|L\d))\w*", code)


def _state(text: Text, late: bool) -> bool:
    prototype = "static int __pyx_relib_begin(PyObject *module);\n"
    functions = injected.STATE_FUNCTIONS.replace(
        "@begin", "__pyx_relib_begin(module)" if late else "0"
    )
    return text.edit(
        "state",
        (text.find(_STATE_PROTOTYPES), (prototype if late else "") + functions),
        (text.find(_STATE_TABLE), "#if 0\n"),
        (text.find(_STATE_GLOBAL), injected.STATE_DIRECT),
    )


def _free(text: Text) -> bool:
    return text.edit("free", (text.find(_NO_FREE), "__pyx_m_clear,\n      __pyx_relib_free\n"))
