#define _GNU_SOURCE
#include "pins.h"

#include <dlfcn.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>

#include "arguments.h"

/* 0, or -1 with an exception. */
static int
append_number(PyObject *list, long number)
{
    PyObject *item = PyLong_FromLong(number);
    int result = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return result;
}

/* --- signals ---------------------------------------------------------------------------------- */

PyObject *
relib_signal_handlers(PyObject *Py_UNUSED(self), PyObject *args)
{
    relib_range range;
    if (relib_range_argument(args, "KK:signal_handlers", &range) < 0)
        return NULL;
    PyObject *list = PyList_New(0);
    for (int number = 1; list != NULL && number <= SIGRTMAX; number++) {
        struct sigaction action;
        if (sigaction(number, NULL, &action) != 0)
            continue; /* glibc keeps a few for itself */
        /* sa_sigaction is the same word (bits/types/sigaction.h). */
        if (relib_range_holds(range, (uintptr_t)action.sa_handler) &&
            append_number(list, number) < 0)
            Py_CLEAR(list);
    }
    return list;
}

/* --- thread-specific keys --------------------------------------------------------------------- */

/* A key in use has an odd sequence number (glibc 2.36, sysdeps/nptl/internaltypes.h). */
typedef struct {
    uintptr_t sequence;
    void (*destructor)(void *);
} key;

/* All PTHREAD_KEYS_MAX of them, or NULL where the C library does not export them. glibc does since
   2.34, for debuggers (nptl/Versions). */
static const key *
all_keys(void)
{
    static const key *known;
    static int asked;
    if (!asked) {
        known = dlvsym(RTLD_DEFAULT, "__pthread_keys", "GLIBC_PRIVATE");
        asked = 1;
    }
    return known;
}

relib_range
relib_key_table(void)
{
    const key *keys = all_keys();
    return (relib_range){(uintptr_t)keys, keys == NULL ? 0 : PTHREAD_KEYS_MAX * sizeof(*keys)};
}

PyObject *
relib_thread_keys(PyObject *Py_UNUSED(self), PyObject *args)
{
    relib_range range;
    if (relib_range_argument(args, "KK:thread_keys", &range) < 0)
        return NULL;
    PyObject *list = PyList_New(0);
    const key *keys = all_keys();
    for (long i = 0; list != NULL && keys != NULL && i < PTHREAD_KEYS_MAX; i++)
        if (keys[i].sequence % 2 == 1 &&
            relib_range_holds(range, (uintptr_t)keys[i].destructor) && append_number(list, i) < 0)
            Py_CLEAR(list);
    return list;
}

PyObject *
relib_thread_keys_known(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(all_keys() != NULL);
}
