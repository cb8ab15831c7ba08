/* What a library makes that refers to its code but not to its module; see interpose.h.

   Each hook does what the function of Python that it stands for does, with the same arguments,
   result and ownership, and is called by the library with the GIL held. */
#ifndef RELIB_CREATED_H
#define RELIB_CREATED_H

#include "library.h"

/* Objects whose code lies in `library` are noted in it from now on. Needs the GIL.
   0, or -1 with MemoryError. */
int relib_created_register(relib_library *library);

/* No longer. Needs the GIL. */
void relib_created_forget(relib_library *library);

/* Adds a weak reference to library->created. Needs the GIL. 0, or -1 with an exception. */
int relib_created_note(relib_library *library, PyObject *object);

/* What an entry of library->created refers to, borrowed, or NULL when it is gone. Needs the GIL. */
PyObject *relib_created_alive(PyObject *reference);

int relib_hook_type_ready(PyTypeObject *);
PyTypeObject *relib_hook_structseq_type(PyStructSequence_Desc *);
PyObject *relib_hook_type_from_spec(PyType_Spec *);
PyObject *relib_hook_type_from_spec_with_bases(PyType_Spec *, PyObject *);
PyObject *relib_hook_type_from_module_and_spec(PyObject *, PyType_Spec *, PyObject *);
PyObject *relib_hook_type_from_metaclass(PyTypeObject *, PyObject *, PyType_Spec *, PyObject *);
PyObject *relib_hook_function(PyMethodDef *, PyObject *);
PyObject *relib_hook_function_in(PyMethodDef *, PyObject *, PyObject *);
PyObject *relib_hook_method(PyMethodDef *, PyObject *, PyObject *, PyTypeObject *);
PyObject *relib_hook_capsule(void *, const char *, PyCapsule_Destructor);
int relib_hook_capsule_destructor(PyObject *, PyCapsule_Destructor);
PyObject *relib_hook_view_of_memory(char *, Py_ssize_t, int);
PyObject *relib_hook_view_of_buffer(const Py_buffer *);
PyObject *relib_hook_module(PyModuleDef *, int);
int relib_hook_module_functions(PyObject *, PyMethodDef *);
PyObject *relib_hook_method_descriptor(PyTypeObject *, PyMethodDef *);
PyObject *relib_hook_class_method_descriptor(PyTypeObject *, PyMethodDef *);
PyObject *relib_hook_member_descriptor(PyTypeObject *, PyMemberDef *);
PyObject *relib_hook_getset_descriptor(PyTypeObject *, PyGetSetDef *);

#endif
