"""The C that :mod:`relib.building.amend` puts into the C of a Cython module."""

from __future__ import annotations

__all__ = [
    "BLOCK",
    "CALL_VISIT",
    "END",
    "FREE",
    "FREE_CODE_CACHE",
    "FREE_LOCKS",
    "KEEP",
    "RELEASE_VIEWS",
    "STATE_DIRECT",
    "STATE_FUNCTIONS",
    "VIEWS",
    "VISIT_VIEWS",
    "free_instance",
]

# @begin: a call of __pyx_relib_begin, or 0.
STATE_FUNCTIONS = """\
static PyObject *__pyx_relib_module = NULL;
static void *__pyx_relib_state = NULL;
static CYTHON_INLINE PyObject *__Pyx_State_FindModule(void *def) {
  (void)def;
  return __pyx_relib_module;
}
static CYTHON_INLINE int __Pyx_State_AddModule(PyObject *module, void *def) {
  (void)def;
  __pyx_relib_module = module;
  __pyx_relib_state = PyModule_GetState(module);
  return __pyx_relib_state ? @begin : -1;
}
static CYTHON_INLINE int __Pyx_State_RemoveModule(void *def) {
  (void)def;
  __pyx_relib_module = NULL;
  return 0;
}
"""

# After the end: base classes, which an instance that dies late asks for, and nothing else.
STATE_DIRECT = """\
static __pyx_mstatetype __pyx_relib_after;
#define __pyx_mstate_global ((__pyx_mstatetype *)__pyx_relib_state)
"""

BLOCK = """\
CYTHON_UNUSED static int __pyx_relib_over = 0;
{declare}
#if CYTHON_USE_MODULE_STATE
#define __PYX_RELIB_RELEASE(name, none) do {{ \\
    PyObject *relib_old = (PyObject *)(name); \\
    if (relib_old && (!only || __pyx_relib_holds(relib_old, only))) {{ \\
      (name) = none; Py_INCREF(Py_None); Py_DECREF(relib_old); \\
    }} \\
  }} while (0)
static CYTHON_SMALL_CODE int __pyx_relib_is_code(PyObject *o) {{
  return PyModule_Check(o) || PyType_Check(o) || PyFunction_Check(o) || PyCFunction_Check(o)
    || strstr(Py_TYPE(o)->tp_name, "cython_function");
}}
/* Whether an object is an instance of one of the module's classes, or leads to one soon. */
typedef struct {{ PyObject *module; int depth; int count; }} __pyx_relib_Search;
static CYTHON_SMALL_CODE int __pyx_relib_search(PyObject *o, void *arg) {{
  __pyx_relib_Search *search = (__pyx_relib_Search *)arg;
  PyTypeObject *type;
  int found;
  for (type = Py_TYPE(o); type; type = type->tp_base) {{
    if ((type->tp_flags & Py_TPFLAGS_HEAPTYPE)
        && ((PyHeapTypeObject *)type)->ht_module == search->module) return 1;
  }}
  if (search->depth == 3 || ++search->count > 1000 || __pyx_relib_is_code(o)
      || !PyObject_IS_GC(o) || !Py_TYPE(o)->tp_traverse) return 0;
  search->depth++;
  found = Py_TYPE(o)->tp_traverse(o, __pyx_relib_search, arg);
  search->depth--;
  return found;
}}
static CYTHON_SMALL_CODE int __pyx_relib_holds(PyObject *o, PyObject *module) {{
  __pyx_relib_Search search = {{module, 0, 0}};
  return __pyx_relib_search(o, &search);
}}
static CYTHON_SMALL_CODE int __pyx_relib_visit(visitproc visit, void *arg) {{
  (void)visit; (void)arg;
  {visit}
  return 0;
}}
/* Last in, first out. */
static CYTHON_SMALL_CODE void __pyx_relib_forget(PyObject *names, int only_data, PyObject *only) {{
  Py_ssize_t i;
  PyObject *keys = PyDict_Keys(names);
  for (i = keys ? PyList_GET_SIZE(keys) : 0; i-- > 0;) {{
    PyObject *key = PyList_GET_ITEM(keys, i);
    PyObject *value = PyDict_GetItemWithError(names, key);
    if (!value) continue;
    if (only_data && __pyx_relib_is_code(value)) continue;
    if (only && !__pyx_relib_holds(value, only)) continue;
    if (PyUnicode_Check(key) && PyUnicode_GetLength(key) > 1
        && PyUnicode_ReadChar(key, 0) == '_' && PyUnicode_ReadChar(key, 1) == '_') continue;
    if (PyDict_SetItem(names, key, Py_None) < 0) PyErr_Clear();
  }}
  Py_XDECREF(keys);
  PyErr_Clear();
}}
/* Data goes before the functions, classes and modules that it may use; with `only`, which is the
   module, no more than what holds instances of its classes. */
static CYTHON_SMALL_CODE void __pyx_relib_empty(__pyx_mstatetype *state, PyObject *only) {{
  if (!state->__pyx_d) return;
  {empty}
}}
static CYTHON_SMALL_CODE void __pyx_relib_release(__pyx_mstatetype *state) {{
  if (__pyx_relib_over || !state->__pyx_d) return;
  __pyx_relib_empty(state, NULL);
  __pyx_relib_forget(state->__pyx_d, 0, NULL);
  PyDict_Clear(state->__pyx_d);
  {release}
  __pyx_relib_over = 1;
}}
static CYTHON_SMALL_CODE void __pyx_relib_finish(void) {{
  {finish}
}}
{end}{free}#endif
"""

# An object that only the module refers to. The collector calls its finalizer before it clears the
# first object of the cycle. It does that in an order of its own, and then it is too late for a
# __dealloc__ that calls a function of the module.
END = """\
typedef struct { PyObject_HEAD PyObject *module; } __pyx_relib_End;
static int __pyx_relib_end_traverse(PyObject *o, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(o));
  Py_VISIT(((__pyx_relib_End *)o)->module);
  return 0;
}
static int __pyx_relib_end_clear(PyObject *o) {
  Py_CLEAR(((__pyx_relib_End *)o)->module);
  return 0;
}
static void __pyx_relib_end_finalize(PyObject *o) {
  PyObject *module = ((__pyx_relib_End *)o)->module;
  __pyx_mstatetype *state = module ? (__pyx_mstatetype *)PyModule_GetState(module) : NULL;
  if (state) __pyx_relib_empty(state, module);
}
static void __pyx_relib_end_dealloc(PyObject *o) {
  PyTypeObject *type = Py_TYPE(o);
  PyObject_GC_UnTrack(o);
  (void)__pyx_relib_end_clear(o);
  type->tp_free(o);
  Py_DECREF(type);
}
static PyType_Slot __pyx_relib_end_slots[] = {
  {Py_tp_traverse, (void *)__pyx_relib_end_traverse},
  {Py_tp_clear, (void *)__pyx_relib_end_clear},
  {Py_tp_finalize, (void *)__pyx_relib_end_finalize},
  {Py_tp_dealloc, (void *)__pyx_relib_end_dealloc},
  {0, NULL},
};
static PyType_Spec __pyx_relib_end_spec = {
  __Pyx_MODULE_NAME ".__end__", sizeof(__pyx_relib_End), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
  __pyx_relib_end_slots,
};
static int __pyx_relib_begin(PyObject *module) {
  PyTypeObject *type =
    (PyTypeObject *)PyType_FromModuleAndSpec(module, &__pyx_relib_end_spec, NULL);
  if (!type) return -1;
  __pyx_relib_end = type->tp_alloc(type, 0);
  Py_DECREF(type);
  if (!__pyx_relib_end) return -1;
  Py_INCREF(module);
  ((__pyx_relib_End *)__pyx_relib_end)->module = module;
  return 0;
}
"""

CALL_VISIT = """\
  { int relib_stop = __pyx_relib_visit(visit, arg); if (relib_stop) return relib_stop; }
"""

FREE_CODE_CACHE = """\
{
    struct __Pyx_CodeObjectCache *cache = &state->__pyx_code_cache;
    int i;
    for (i = 0; i < cache->count; i++) Py_DECREF((PyObject *)cache->entries[i].code_object);
    PyMem_Free(cache->entries);
    cache->entries = NULL;
    cache->count = cache->max_count = 0;
  }"""

FREE_LOCKS = """\
{
    size_t i;
    for (i = 0; i < sizeof(__pyx_memoryview_thread_locks) / sizeof(PyThread_type_lock); i++) {
      if (__pyx_memoryview_thread_locks[i]) PyThread_free_lock(__pyx_memoryview_thread_locks[i]);
      __pyx_memoryview_thread_locks[i] = NULL;
    }
  }"""

VIEWS = """\
#ifdef __PYX_XCLEAR_MEMVIEW
CYTHON_UNUSED static __Pyx_memviewslice *__pyx_relib_views[%d] = {%s};
#define __PYX_RELIB_VIEWS ((Py_ssize_t)(sizeof(__pyx_relib_views) / sizeof(*__pyx_relib_views)))
#endif"""

# All slices of a memoryview together own one reference to it, and it counts them (Cython 3.1 to
# 3.3, Utility/MemoryView_C.c, __Pyx_INC_MEMVIEW). It may be visited only if all are known here.
VISIT_VIEWS = """\
#if defined(__PYX_XCLEAR_MEMVIEW) && defined(__pyx_get_slice_count_pointer)
  {
    Py_ssize_t i, k, here;
    for (i = 0; i < __PYX_RELIB_VIEWS; i++) {
      struct __pyx_memoryview_obj *view = __pyx_relib_views[i]->memview;
      if (!view || (PyObject *)view == Py_None) continue;
      for (k = 0; k < i && __pyx_relib_views[k]->memview != view; k++) {}
      if (k < i) continue;
      for (here = 0; k < __PYX_RELIB_VIEWS; k++) here += __pyx_relib_views[k]->memview == view;
      if (*__pyx_get_slice_count_pointer(view) == here) Py_VISIT((PyObject *)view);
    }
  }
#endif"""

RELEASE_VIEWS = """\
#ifdef __PYX_XCLEAR_MEMVIEW
  {
    Py_ssize_t i;
    for (i = 0; i < __PYX_RELIB_VIEWS; i++) {
      PyObject *view = (PyObject *)__pyx_relib_views[i]->memview;
      if (only && !(view && __pyx_relib_holds(view, only))) continue;
      __PYX_XCLEAR_MEMVIEW(__pyx_relib_views[i], 1);
    }
  }
#endif"""

# The namespace of a module is what its functions keep alive, and so what keeps its code.
KEEP = """\
static PyObject *__pyx_relib_kept = NULL;
static CYTHON_SMALL_CODE int __pyx_relib_keep(PyObject *module) {
  int result = -1;
  PyObject *names = PyObject_GetAttrString(module, "__dict__");
  if (names && !__pyx_relib_kept) __pyx_relib_kept = PyList_New(0);
  if (names && __pyx_relib_kept) result = PyList_Append(__pyx_relib_kept, names);
  Py_XDECREF(names);
  return result;
}"""

# Without a collection, no instance of its classes is left: they would have kept the module.
FREE = """\
static int __pyx_m_clear(PyObject *m);
static CYTHON_SMALL_CODE void __pyx_relib_free(void *m) {
  if (!__pyx_relib_over) (void)__pyx_m_clear((PyObject *)m);
  __pyx_relib_finish();
}
"""


def free_instance(call: str, base: str) -> str:
    """`call`, which frees the instance `o`, and then what lets go of its class.

    A base that is a heap type lets go of it itself.

    >>> print(free_instance("free(o);", ""), end="")
    { PyTypeObject *relib_type = Py_TYPE(o); int relib_done = 0;
      free(o);
      if (!relib_done) Py_DECREF(relib_type); }
    """
    done = f"__Pyx_PyType_HasFeature({base}, Py_TPFLAGS_HEAPTYPE)" if base else "0"
    return (
        f"{{ PyTypeObject *relib_type = Py_TYPE(o); int relib_done = {done};\n"
        f"  {call.strip()}\n"
        "  if (!relib_done) Py_DECREF(relib_type); }\n"
    )
