#define _GNU_SOURCE
#include "created.h"

#include <stdlib.h>

#include "interpose.h"
#include "views.h"

/* --- which library an address belongs to ------------------------------------------------------ */

static relib_library **libraries; /* borrowed; each takes itself out before it goes */
static size_t library_count, library_room;

int
relib_created_register(relib_library *library)
{
    if (library_count == library_room) {
        size_t room = library_room ? library_room * 2 : 16;
        relib_library **more = realloc(libraries, room * sizeof(*more));
        if (more == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        libraries = more;
        library_room = room;
    }
    libraries[library_count++] = library;
    return 0;
}

PyObject *
relib_created_alive(PyObject *reference)
{
    PyObject *object = ((PyWeakReference *)reference)->wr_object;
    return object == Py_None || Py_REFCNT(object) <= 0 ? NULL : object;
}

static relib_library *
owner_of(const void *address)
{
    /* The newest first: it is the one that is being loaded. */
    for (size_t i = library_count; i-- > 0;)
        if (relib_library_holds(libraries[i], (uintptr_t)address))
            return libraries[i];
    return NULL;
}

/* Drops the references whose objects are gone, so that a library which makes a view for each call
   does not make the list grow. */
static int
prune(relib_library *library)
{
    PyObject *alive = PyList_New(0);
    if (alive == NULL)
        return -1;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(library->created); i++) {
        PyObject *reference = PyList_GET_ITEM(library->created, i);
        if (relib_created_alive(reference) && PyList_Append(alive, reference) < 0) {
            Py_DECREF(alive);
            return -1;
        }
    }
    Py_SETREF(library->created, alive);
    library->created_limit = Py_MAX(64, 2 * PyList_GET_SIZE(alive));
    return 0;
}

int
relib_created_note(relib_library *library, PyObject *object)
{
    PyObject *reference = PyWeakref_NewRef(object, NULL);
    int result = reference == NULL ||
                         (PyList_GET_SIZE(library->created) >= Py_MAX(64, library->created_limit) &&
                          prune(library) < 0)
                     ? -1
                     : PyList_Append(library->created, reference);
    Py_XDECREF(reference);
    return result;
}

/* Notes what a hook has made. Without a weak reference nothing can be known of it, and the library
   counts as in use for ever: LOOSE. */
static void
note(relib_library *library, PyObject *object)
{
    if (library == NULL || object == NULL || relib_created_note(library, object) == 0)
        return;
    PyErr_Clear();
    library->uses |= RELIB_USES_LOOSE;
}

/* --- types ------------------------------------------------------------------------------------ */

/* A heap type that knows its module keeps it alive, and needs no note. */
static int
has_module(PyTypeObject *type)
{
    return (type->tp_flags & Py_TPFLAGS_HEAPTYPE) &&
           ((PyHeapTypeObject *)type)->ht_module != NULL;
}

static relib_library *
owner_of_spec(const PyType_Spec *spec)
{
    relib_library *library = owner_of(spec);
    for (const PyType_Slot *slot = spec->slots; library == NULL && slot->slot; slot++)
        library = owner_of(slot->pfunc);
    return library;
}

static PyObject *
note_type(const PyType_Spec *spec, PyObject *type)
{
    if (type != NULL && !has_module((PyTypeObject *)type))
        note(owner_of_spec(spec), type);
    return type;
}

PyObject *
relib_hook_type_from_spec(PyType_Spec *spec)
{
    return note_type(spec, PyType_FromSpec(spec));
}

PyObject *
relib_hook_type_from_spec_with_bases(PyType_Spec *spec, PyObject *bases)
{
    return note_type(spec, PyType_FromSpecWithBases(spec, bases));
}

PyObject *
relib_hook_type_from_module_and_spec(PyObject *module, PyType_Spec *spec, PyObject *bases)
{
    return note_type(spec, PyType_FromModuleAndSpec(module, spec, bases));
}

#if PY_VERSION_HEX >= 0x030C0000
PyObject *
relib_hook_type_from_metaclass(PyTypeObject *metaclass, PyObject *module, PyType_Spec *spec,
                               PyObject *bases)
{
    return note_type(spec, PyType_FromMetaclass(metaclass, module, spec, bases));
}
#endif

int
relib_hook_type_ready(PyTypeObject *type)
{
    int result = PyType_Ready(type);
    /* Static types are found by a search of the library. A heap type that was put together by
       hand (pybind11 2.x does) is noted. */
    if (result == 0 && (type->tp_flags & Py_TPFLAGS_HEAPTYPE) && !has_module(type)) {
        relib_library *library = owner_of((void *)type->tp_new);
        if (library == NULL)
            library = owner_of((void *)type->tp_dealloc);
        if (library == NULL)
            library = owner_of((void *)type->tp_init);
        note(library, (PyObject *)type);
    }
    return result;
}

PyTypeObject *
relib_hook_structseq_type(PyStructSequence_Desc *description)
{
    /* Its member descriptors keep the names of the fields where they are. */
    PyTypeObject *type = PyStructSequence_NewType(description);
    relib_library *library = owner_of(description);
    if (library == NULL && description->fields != NULL)
        library = owner_of(description->fields[0].name);
    note(library, (PyObject *)type);
    return type;
}

/* --- functions, modules and views --------------------------------------------------------------- */

PyObject *
relib_hook_method(PyMethodDef *method, PyObject *self, PyObject *module, PyTypeObject *type)
{
    PyObject *function = PyCMethod_New(method, self, module, type);
    relib_library *library = owner_of(method);
    note(library != NULL ? library : owner_of((void *)method->ml_meth), function);
    return function;
}

PyObject *
relib_hook_function_in(PyMethodDef *method, PyObject *self, PyObject *module)
{
    return relib_hook_method(method, self, module, NULL);
}

PyObject *
relib_hook_function(PyMethodDef *method, PyObject *self)
{
    return relib_hook_method(method, self, NULL, NULL);
}

static PyObject *
view_of(relib_library *library, const Py_buffer *buffer)
{
    PyObject *owner = NULL, *view = relib_view(buffer, &owner);
    if (view != NULL)
        note(library, owner);
    return view;
}

PyObject *
relib_hook_view_of_memory(char *memory, Py_ssize_t size, int flags)
{
    relib_library *library = owner_of(memory);
    Py_buffer buffer;
    if (library == NULL || PyBuffer_FillInfo(&buffer, NULL, memory, size, flags == PyBUF_READ,
                                             PyBUF_FULL_RO) < 0)
        return PyMemoryView_FromMemory(memory, size, flags);
    return view_of(library, &buffer);
}

PyObject *
relib_hook_view_of_buffer(const Py_buffer *buffer)
{
    relib_library *library = owner_of(buffer->buf);
    if (library == NULL)
        library = owner_of(buffer->format);
    return library == NULL ? PyMemoryView_FromBuffer(buffer) : view_of(library, buffer);
}

PyObject *
relib_hook_module(PyModuleDef *definition, int api_version)
{
    PyObject *module = PyModule_Create2(definition, api_version);
    note(owner_of(definition), module);
    return module;
}

int
relib_hook_module_functions(PyObject *module, PyMethodDef *functions)
{
    note(owner_of(functions), module); /* the functions hold the module, whosever it is */
    return PyModule_AddFunctions(module, functions);
}

/* --- descriptors ------------------------------------------------------------------------------ */

/* A descriptor keeps its type alive, and so all is well if the type keeps the library. It takes no
   weak references, so on any other type it can only be taken to live for ever. */
static PyObject *
note_descriptor(PyTypeObject *type, const void *definition, PyObject *descriptor)
{
    relib_library *library = owner_of(definition);
    if (library == NULL || descriptor == NULL || has_module(type) || owner_of(type) == library)
        return descriptor;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(library->created); i++) {
        if (relib_created_alive(PyList_GET_ITEM(library->created, i)) == (PyObject *)type)
            return descriptor;
    }
    library->uses |= RELIB_USES_LOOSE;
    return descriptor;
}

PyObject *
relib_hook_method_descriptor(PyTypeObject *type, PyMethodDef *method)
{
    return note_descriptor(type, method, PyDescr_NewMethod(type, method));
}

PyObject *
relib_hook_class_method_descriptor(PyTypeObject *type, PyMethodDef *method)
{
    return note_descriptor(type, method, PyDescr_NewClassMethod(type, method));
}

PyObject *
relib_hook_member_descriptor(PyTypeObject *type, PyMemberDef *member)
{
    return note_descriptor(type, member, PyDescr_NewMember(type, member));
}

PyObject *
relib_hook_getset_descriptor(PyTypeObject *type, PyGetSetDef *getset)
{
    return note_descriptor(type, getset, PyDescr_NewGetSet(type, getset));
}

/* --- capsules --------------------------------------------------------------------------------- */

/* Capsules take no weak references, so a destructor of ours tells when one goes. */
typedef struct {
    PyObject *capsule; /* borrowed, NULL when free */
    PyCapsule_Destructor destructor;
    relib_library *library;
} capsule_note;

static capsule_note *capsules;
static size_t capsule_room;

static capsule_note *
capsule_slot(const PyObject *capsule)
{
    for (size_t i = 0; i < capsule_room; i++)
        if (capsules[i].capsule == capsule)
            return &capsules[i];
    return NULL;
}

static void
capsule_goes(PyObject *capsule)
{
    capsule_note *slot = capsule_slot(capsule);
    if (slot == NULL)
        return;
    capsule_note was = *slot;
    slot->capsule = NULL;
    if (was.destructor != NULL)
        was.destructor(capsule);
    if (was.library != NULL)
        was.library->capsules--;
}

/* A free slot, or NULL without memory. */
static capsule_note *
new_slot(void)
{
    capsule_note *slot = capsule_slot(NULL);
    if (slot != NULL)
        return slot;
    size_t room = capsule_room ? capsule_room * 2 : 64;
    capsule_note *more = realloc(capsules, room * sizeof(*more));
    if (more == NULL)
        return NULL;
    for (size_t i = capsule_room; i < room; i++)
        more[i] = (capsule_note){NULL, NULL, NULL};
    capsules = more;
    slot = &capsules[capsule_room];
    capsule_room = room;
    return slot;
}

/* One that was noted has gone without our destructor, which somebody has replaced, if another has
   its address now. */
static void
forget_last_owner(const PyObject *capsule)
{
    capsule_note *slot = capsule_slot(capsule);
    if (slot == NULL)
        return;
    if (slot->library != NULL)
        slot->library->capsules--;
    *slot = (capsule_note){NULL, NULL, NULL};
}

PyObject *
relib_hook_capsule(void *pointer, const char *name, PyCapsule_Destructor destructor)
{
    relib_library *library = owner_of((void *)destructor);
    if (library == NULL)
        library = owner_of(pointer);
    if (library == NULL)
        library = owner_of(name);
    capsule_note *slot = library == NULL ? NULL : new_slot();
    if (library != NULL && slot == NULL)
        return PyErr_NoMemory();
    PyObject *capsule = PyCapsule_New(pointer, name, library == NULL ? destructor : capsule_goes);
    if (capsule == NULL)
        return NULL;
    forget_last_owner(capsule);
    if (library != NULL) {
        /* A capsule with a name is an interface for other libraries, which keep the pointer.
           (Cython's capsules for virtual tables have none, and who uses one keeps the type.) */
        if (name != NULL)
            library->uses |= RELIB_USES_REGISTRIES;
        *slot = (capsule_note){capsule, destructor, library};
        library->capsules++;
    }
    return capsule;
}

int
relib_hook_capsule_destructor(PyObject *capsule, PyCapsule_Destructor destructor)
{
    relib_library *library = owner_of((void *)destructor);
    capsule_note *slot =
        PyCapsule_CheckExact(capsule) && PyCapsule_GetDestructor(capsule) == capsule_goes
            ? capsule_slot(capsule)
            : NULL;
    if (slot != NULL) {
        slot->destructor = destructor;
        /* What it points at is another library's: this one cannot be told when it goes. */
        if (library != NULL && library != slot->library)
            library->uses |= RELIB_USES_LOOSE;
        return 0;
    }
    if (library == NULL)
        return PyCapsule_SetDestructor(capsule, destructor);
    if ((slot = new_slot()) == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (PyCapsule_SetDestructor(capsule, capsule_goes) != 0)
        return -1;
    forget_last_owner(capsule);
    *slot = (capsule_note){capsule, destructor, library};
    library->capsules++;
    return 0;
}

void
relib_created_forget(relib_library *library)
{
    for (size_t i = 0; i < library_count; i++)
        if (libraries[i] == library)
            libraries[i--] = libraries[--library_count];
    for (size_t i = 0; i < capsule_room; i++)
        if (capsules[i].library == library)
            capsules[i] = (capsule_note){NULL, NULL, NULL};
}
