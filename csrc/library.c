#define _GNU_SOURCE
#include "library.h"

#include <dlfcn.h>
#include <link.h>
#include <stddef.h>
#include <string.h>

#include "created.h"
#include "interpose.h"
#include "types.h"

PyTypeObject *relib_library_type;

/* --- where it lies ---------------------------------------------------------------------------- */

typedef struct {
    relib_library *library;
    int found;
} find;

static int
describe(struct dl_phdr_info *info, size_t size, void *argument)
{
    find *wanted = argument;
    relib_library *library = wanted->library;
    (void)size;
    /* The name too: nothing else tells apart a library from one that took its place. */
    if (info->dlpi_addr != library->base || strcmp(info->dlpi_name, library->path) != 0)
        return 0;
    wanted->found = 1;
    library->lo = UINTPTR_MAX;
    library->hi = 0;
    library->segment_count = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + header->p_vaddr, hi = lo + header->p_memsz;
        if (header->p_type == PT_GNU_RELRO) {
            library->relro_lo = lo;
            library->relro_hi = hi;
        }
        if (header->p_type != PT_LOAD)
            continue;
        if (library->segment_count < RELIB_MAX_SEGMENTS)
            library->segments[library->segment_count++] =
                (relib_segment){lo, hi, header->p_flags};
        if (lo < library->lo)
            library->lo = lo;
        if (hi > library->hi)
            library->hi = hi;
    }
    return 1;
}

static int
same(struct dl_phdr_info *info, size_t size, void *argument)
{
    find *wanted = argument;
    (void)size;
    if (info->dlpi_addr == wanted->library->base &&
        strcmp(info->dlpi_name, wanted->library->path) == 0)
        wanted->found = 1;
    return wanted->found;
}

/* Whether the loader still has it. By address and name, from the loader itself: the text of
   /proc/self/maps names a file by whatever path it was opened under, and costs more with every
   mapping in the process. No GIL needed. */
static int
is_mapped(relib_library *library)
{
    find wanted = {library, 0};
    dl_iterate_phdr(same, &wanted);
    return wanted.found;
}

/* --- open and close --------------------------------------------------------------------------- */

/* Library(path): opens the file with RTLD_NOW | RTLD_LOCAL. Runs its constructors, with the GIL.
   OSError with the loader's own words when it cannot. */
static PyObject *
library_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path", NULL};
    PyObject *path_bytes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O&:Library", names, PyUnicode_FSConverter,
                                     &path_bytes))
        return NULL;
    relib_library *self = (relib_library *)type->tp_alloc(type, 0);
    if (self == NULL) {
        Py_DECREF(path_bytes);
        return NULL;
    }
    self->created = PyList_New(0);
    void *handle = self->created == NULL
                       ? NULL
                       : dlopen(PyBytes_AS_STRING(path_bytes), RTLD_NOW | RTLD_LOCAL);
    Py_DECREF(path_bytes);
    struct link_map *map = NULL;
    if (handle == NULL || dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 ||
        (self->path = strdup(map->l_name)) == NULL) {
        if (!PyErr_Occurred()) {
            const char *words = dlerror();
            PyErr_SetString(PyExc_OSError, words != NULL ? words : "out of memory");
        }
        if (handle != NULL)
            dlclose(handle);
        Py_DECREF(self);
        return NULL;
    }
    self->handle = handle;
    self->base = map->l_addr;
    self->dynamic = map->l_ld;
    find wanted = {self, 0};
    dl_iterate_phdr(describe, &wanted);
    if (!wanted.found || self->segment_count == 0 || relib_interpose(self) < 0) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_OSError,
                            "the loader does not say where it has put the library");
        relib_created_forget(self);
        dlclose(handle);
        self->handle = NULL;
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* Never closes: an object that is dropped while its library is open leaves the library mapped,
   which is always safe. */
static void
library_dealloc(relib_library *self)
{
    PyTypeObject *type = Py_TYPE(self);
    if (self->handle != NULL)
        return; /* its memory too: the hooks go on finding it by address, see interpose.c */
    relib_created_forget(self);
    Py_CLEAR(self->created);
    free(self->path);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static int
closed(relib_library *self)
{
    if (self->handle != NULL)
        return 0;
    PyErr_SetString(PyExc_ValueError, "the library has been closed");
    return 1;
}

/* symbol(name) -> address, or None. */
static PyObject *
library_symbol(relib_library *self, PyObject *name)
{
    const char *text = PyUnicode_AsUTF8(name);
    if (text == NULL || closed(self))
        return NULL;
    void *address = dlsym(self->handle, text);
    if (address == NULL)
        Py_RETURN_NONE;
    return PyLong_FromVoidPtr(address);
}

/* close() -> whether it is really gone. The caller has shown that nothing uses its code.
   With the GIL held: C++ destructors of static Python references run in here. */
static PyObject *
library_close(relib_library *self, PyObject *Py_UNUSED(ignored))
{
    if (closed(self))
        return NULL;
    /* tcc emits no crtbeginS, whose destructor runs the library's own atexit() functions by
       __cxa_finalize (glibc 2.36, stdlib/cxa_finalize.c): run them while their code is there. */
    void **dso = self->finalizes ? NULL : dlsym(self->handle, "__dso_handle");
    if (dso != NULL && relib_library_holds(self, (uintptr_t)dso)) {
        extern void __cxa_finalize(void *);
        __cxa_finalize(dso);
    }
    if (dlclose(self->handle) != 0) {
        PyErr_SetString(PyExc_OSError, dlerror());
        return NULL;
    }
    self->handle = NULL;
    relib_created_forget(self);
    return PyBool_FromLong(!is_mapped(self));
}

/* is_mapped() -> whether the loader still lists it. A library that was closed but kept (a C++
   thread_local destructor is still to run, say) is let go of by the loader at the next dlclose of
   anything (glibc 2.36, elf/dl-close.c): give it one. */
static PyObject *
library_is_mapped(relib_library *self, PyObject *Py_UNUSED(ignored))
{
    if (self->handle == NULL && is_mapped(self)) {
        void *again = dlopen(self->path, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
        if (again != NULL)
            dlclose(again);
    }
    return PyBool_FromLong(is_mapped(self));
}

/* static_types() -> list of the names of its static types that Python has made ready. */
static PyObject *
library_static_types(relib_library *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *names = PyList_New(0);
    for (int i = 0; names != NULL && i < self->segment_count; i++) {
        const relib_segment *segment = &self->segments[i];
        if ((segment->flags & PF_W) &&
            relib_find_static_types(names, segment->lo, segment->hi) < 0)
            Py_CLEAR(names);
    }
    return names;
}

/* --- what Python sees ------------------------------------------------------------------------- */

static PyObject *
library_get_segments(relib_library *self, void *Py_UNUSED(closure))
{
    PyObject *all = PyList_New(self->segment_count);
    for (int i = 0; all != NULL && i < self->segment_count; i++) {
        relib_segment *segment = &self->segments[i];
        char flags[4] = {segment->flags & PF_R ? 'r' : '-', segment->flags & PF_W ? 'w' : '-',
                         segment->flags & PF_X ? 'x' : '-', 0};
        PyObject *one = Py_BuildValue("(KKs)", (unsigned long long)segment->lo,
                                      (unsigned long long)segment->hi, flags);
        if (one == NULL)
            Py_CLEAR(all);
        else
            PyList_SET_ITEM(all, i, one);
    }
    return all;
}

static PyObject *
library_get_address(relib_library *self, void *offset)
{
    return PyLong_FromVoidPtr(*(void **)((char *)self + (uintptr_t)offset));
}

static PyObject *
library_get_path(relib_library *self, void *Py_UNUSED(closure))
{
    return PyUnicode_DecodeFSDefault(self->path);
}

static PyObject *
library_get_uses(relib_library *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(self->uses);
}

static PyObject *
library_get_capsules(relib_library *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(self->capsules);
}

static PyObject *
library_get_instances(relib_library *self, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(self->instances);
}

static PyObject *
library_get_keeper(relib_library *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->keeper != NULL ? self->keeper : Py_None);
}

static PyObject *
library_get_created(relib_library *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(self->created);
}

static PyMethodDef library_methods[] = {
    {"symbol", (PyCFunction)library_symbol, METH_O, NULL},
    {"close", (PyCFunction)library_close, METH_NOARGS, NULL},
    {"static_types", (PyCFunction)library_static_types, METH_NOARGS, NULL},
    {"is_mapped", (PyCFunction)library_is_mapped, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

#define ADDRESS(field) (void *)offsetof(relib_library, field)

static PyGetSetDef library_getset[] = {
    {"lo", (getter)library_get_address, NULL, NULL, ADDRESS(lo)},
    {"hi", (getter)library_get_address, NULL, NULL, ADDRESS(hi)},
    {"handle", (getter)library_get_address, NULL, NULL, ADDRESS(handle)},
    {"path", (getter)library_get_path, NULL, NULL, NULL},
    {"segments", (getter)library_get_segments, NULL, NULL, NULL},
    {"uses", (getter)library_get_uses, NULL, NULL, NULL},
    {"capsules", (getter)library_get_capsules, NULL, NULL, NULL},
    {"instances", (getter)library_get_instances, NULL, NULL, NULL},
    {"created", (getter)library_get_created, NULL, NULL, NULL},
    {"keeper", (getter)library_get_keeper, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot library_slots[] = {
    {Py_tp_new, library_new},
    {Py_tp_dealloc, library_dealloc},
    {Py_tp_methods, library_methods},
    {Py_tp_getset, library_getset},
    {0, NULL},
};

static PyType_Spec library_spec = {
    .name = "relib._native.Library",
    .basicsize = sizeof(relib_library),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = library_slots,
};

int
relib_library_init(PyObject *module)
{
    relib_library_type = (PyTypeObject *)PyType_FromSpec(&library_spec);
    if (relib_library_type == NULL)
        return -1;
    return PyModule_AddObjectRef(module, "Library", (PyObject *)relib_library_type);
}
