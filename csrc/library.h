/* One dlopen'ed shared object: its handle, where it lies in memory, and whether it is gone. */
#ifndef RELIB_LIBRARY_H
#define RELIB_LIBRARY_H

#include <Python.h>
#include <stdint.h>

#define RELIB_MAX_SEGMENTS 16

typedef struct {
    uintptr_t lo, hi; /* [lo, hi) */
    uint32_t flags;   /* PF_R, PF_W, PF_X */
} relib_segment;

typedef struct {
    PyObject_HEAD
    void *handle;   /* NULL once closed */
    char *path;     /* ours; what the loader knows it by */
    uintptr_t base; /* load address, as dl_iterate_phdr gives it */
    uintptr_t lo, hi;
    int segment_count;
    relib_segment segments[RELIB_MAX_SEGMENTS];
    uintptr_t relro_lo, relro_hi;
    void *dynamic; /* ElfW(Dyn) * */
    unsigned uses; /* RELIB_USES_*, interpose.h */
    int finalizes; /* whether it runs its own exit functions when it is closed */
    PyObject *created; /* list of weak references; see interpose.h */
    Py_ssize_t created_limit; /* at this length the dead ones are dropped */
    PyObject *keeper;  /* borrowed; NULL before it is made and once it is freed, see keeper.h */
    size_t instances;  /* of its classes, among what hangs together with its module */
    size_t capsules;   /* capsules alive that point into it; see interpose.h */
} relib_library;

/* The type of Library objects; made by relib_library_init. */
extern PyTypeObject *relib_library_type;

/* Adds Library to `module`. Needs the GIL. 0, or -1 with an exception. */
int relib_library_init(PyObject *module);

static inline int
relib_library_holds(const relib_library *library, uintptr_t address)
{
    return address - library->lo < library->hi - library->lo;
}

/* Whether any word of the first `size` bytes of an object, behind its header, points into it. */
static inline int
relib_library_is_pointed_to(const relib_library *library, const PyObject *object, size_t size)
{
    const uintptr_t *words = (const uintptr_t *)object;
    for (size_t i = sizeof(PyObject) / sizeof(*words); i < size / sizeof(*words); i++)
        if (relib_library_holds(library, words[i]))
            return 1;
    return 0;
}

#endif
