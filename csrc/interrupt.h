/* Looking at threads that do not wait: a signal makes each search its own stack.

   The signal handler takes no lock and no GIL, allocates nothing, waits for nothing, and the
   thread goes on at once. */
#ifndef RELIB_INTERRUPT_H
#define RELIB_INTERRUPT_H

#include "descriptors.h"
#include "stacks.h"

typedef struct {
    pid_t tid;
    relib_descriptor descriptor;
    uint64_t blocked;    /* the signals that it blocks: bit 0 is signal 1 */
    relib_inside inside; /* the result; RELIB_BUSY: the thread has not answered */
    int foreign;         /* see relib_search_stack */
} relib_interruption;

/* Interrupts each of the threads, which should be running, and gives them 20 ms to answer. One
   that blocks the signal is left alone, and remains BUSY.
   Installs a handler for an unused real-time signal and takes it away again. The first failing
   call of some system functions (poll, nanosleep) in a thread that begins to wait just then gives
   EINTR. The GIL may be held; nothing in here needs it. */
void relib_interrupt(const relib_search *search, relib_interruption *threads, size_t count);

#endif
