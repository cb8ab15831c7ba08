/* The C library's descriptor of a thread (struct pthread): where it is, and what the thread starts
   with.

   It lies on top of the stack of every thread but the main one, so it also tells where a stack
   ends, which a mapping does not: the kernel joins neighbouring mappings. */
#ifndef RELIB_DESCRIPTORS_H
#define RELIB_DESCRIPTORS_H

#include "calls.h"

typedef struct {
    uintptr_t address; /* 0 when it cannot be told */
    int starts_inside; /* whether the thread starts, or was started, in the library */
    int unknown;       /* set for a thread that has not begun to run, if that cannot be told */
} relib_descriptor;

/* The descriptor of thread `tid` of this process, whose stack pointer is `sp`, or 0 if that is not
   known. Needs no GIL. */
relib_descriptor relib_descriptor_of(const relib_code *code, const relib_memory *memory, pid_t tid,
                                     uintptr_t sp);

#endif
