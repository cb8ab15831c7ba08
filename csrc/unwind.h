/* Following the frames of a stack upwards, to tell the return addresses on it from what looks like
   them: words that an earlier call has left in a part of a living frame that nobody has written
   to since. */
#ifndef RELIB_UNWIND_H
#define RELIB_UNWIND_H

#include <ucontext.h>

#include "calls.h"
#include "frames.h"

typedef struct {
    relib_code_map *map; /* filled when it is first needed */
    const relib_memory *memory;
    relib_range code; /* the library's */
    int cached;       /* see relib_frame_rule_at */
    int state;        /* see unwind.c */
    /* The frame that has been reached: */
    uintptr_t pc, sp;
    int from;                        /* what led to it, see unwind.c */
    uintptr_t place;                 /* where pc was found; 0 if not in memory */
    uint32_t known;                  /* the registers whose values are known, as bits */
    uintptr_t registers[RELIB_KEPT]; /* their values */
} relib_unwind;

/* Begins at a thread of which nothing but pc and sp is known. */
void relib_unwind_from(relib_unwind *unwind, uintptr_t pc, uintptr_t sp);

/* Begins where all registers are known. */
void relib_unwind_from_context(relib_unwind *unwind, const mcontext_t *machine);

/* Whether the word at `place`, which points into the library, is a return address of a living
   frame: 1, 0, or -1 when that cannot be told. The places that are asked about must ascend. Needs
   no GIL; safe in a signal handler with a filled map and rules that are not cached. */
int relib_unwind_returns_at(relib_unwind *unwind, uintptr_t place);

#endif
