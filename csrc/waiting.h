/* What the kernel says of a thread that waits. */
#ifndef RELIB_WAITING_H
#define RELIB_WAITING_H

#include "words.h"

typedef struct {
    long number; /* of the system call; -1: it waits elsewhere, for a page for example */
    uintptr_t arguments[6];
    uintptr_t sp, pc;
} relib_waiting;

/* Reads the text of /proc/PID/task/TID/syscall. 1, 0 when the thread does not wait, or -1 when the
   text is not understood. Needs no GIL. */
int relib_waiting_parse(const char *text, relib_waiting *thread);

/* Whether the thread will not come back to the program. */
int relib_waiting_for_good(const relib_waiting *thread);

/* Whether the system call has been given an address in `range`. */
int relib_waiting_with(const relib_waiting *thread, relib_range range);

#endif
