/* Searching a stack for calls into a library. */
#ifndef RELIB_STACKS_H
#define RELIB_STACKS_H

#include <Python.h>

#include "calls.h"
#include "unwind.h"

/* What is known of one thread. */
typedef enum {
    RELIB_OUTSIDE,
    RELIB_RUNNING, /* its pc is in the library */
    RELIB_STACK,   /* it will return into the library */
    RELIB_START,   /* it is going to start there */
    RELIB_UNKNOWN, /* it cannot be examined */
    RELIB_BUSY,    /* it cannot be examined as long as it does not wait */
} relib_inside;

/* A walk over the words of memory that point into a library's code. The memory is copied piece by
   piece, so that a stack which goes away meanwhile does no harm. */
typedef struct {
    const relib_code *code;
    const relib_memory *memory;
    uintptr_t at, end;      /* what is still to be copied */
    uintptr_t *piece;       /* of the caller's */
    size_t room;            /* of the piece, in words */
    size_t count, index;    /* words in the piece, the next one to look at */
    uintptr_t place, value; /* the word that was found */
} relib_walk;

/* Whether there is one more such word; then walk->place and walk->value are set. At the end,
   walk->at is where reading stopped: below walk->end if something could not be read.
   Needs no GIL and is safe in a signal handler. */
int relib_walk_next(relib_walk *walk);

/* A search for threads inside a library. */
typedef struct {
    relib_code code;
    relib_memory memory;
    relib_mappings *mappings; /* NULL: not to be asked */
    relib_code_map *map;      /* all libraries; empty until it is needed */
} relib_search;

/* Searches the stack of a thread that does not run, from unwind->sp to its end. `descriptor` is
   the address of the thread's, or 0; `piece` is room for copies. RELIB_STACK, RELIB_OUTSIDE or
   RELIB_UNKNOWN; *foreign says whether the stack was not the thread's own but that of a coroutine
   or a signal handler. Needs no GIL; is safe in a signal handler when search->mappings is NULL,
   the map is filled and rules are not cached. */
relib_inside relib_search_stack(const relib_search *search, relib_unwind *unwind,
                                uintptr_t descriptor, uintptr_t *piece, size_t room,
                                int *foreign);

/* The same for the whole stack that ends at `end`: nothing is known of what is in use there. */
relib_inside relib_search_whole_stack(const relib_search *search, uintptr_t end, uintptr_t *piece,
                                      size_t room);

/* The highest address of the main thread's stack that a frame of it can use, or 0. It never
   changes. Needs no GIL. */
uintptr_t relib_main_stack_end(void);

/* More of a stack than this is not searched: what is so large is no stack. */
#define RELIB_LARGEST_STACK ((uintptr_t)64 << 20)

/* calls_on_own_stack(lo, hi) -> the number of calls on this thread's stack, from the caller's frame
   to its end, that will return to code within [lo, hi); -1 when the stack cannot be
   examined. Needs the GIL. NULL with ValueError or MemoryError. */
PyObject *relib_calls_on_own_stack(PyObject *self, PyObject *args);

#endif
