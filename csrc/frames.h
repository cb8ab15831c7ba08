/* How to get from the frame of a function to that of its caller: what the unwind tables of the
   loaded libraries (.eh_frame) say of an address of code.

   The tables are only read, never trusted: what they lead to is checked by whoever uses it, and
   whatever is not plain is "not known". All of this may be used in a signal handler, which is why
   none of it is libgcc's. */
#ifndef RELIB_FRAMES_H
#define RELIB_FRAMES_H

#include "mappings.h"

/* --- the code of all libraries ---------------------------------------------------------------- */

typedef struct {
    uintptr_t lo, hi; /* one segment */
    uintptr_t tables; /* .eh_frame_hdr of the library, or 0 */
    int permanent;    /* the library is never unloaded */
} relib_code_segment;

#define RELIB_MOST_CODE_SEGMENTS 1024

typedef struct {
    size_t count;
    relib_code_segment segments[RELIB_MOST_CODE_SEGMENTS];
} relib_code_map;

/* Lists them. Takes the loader's list lock for a moment, needs no GIL. */
void relib_code_map_fill(relib_code_map *map);

/* The segment that `pc` is in, or NULL. */
const relib_code_segment *relib_code_map_find(const relib_code_map *map, uintptr_t pc);

/* --- the rule for a frame --------------------------------------------------------------------- */

/* The registers that a function keeps for its caller, and the return address. */
#if defined(__x86_64__)
enum { RELIB_RBX, RELIB_RBP, RELIB_R12, RELIB_R15 = 5, RELIB_RETURN, RELIB_KEPT };
#define RELIB_FRAME_POINTER RELIB_RBP
#else
enum { RELIB_X19, RELIB_X29 = 10, RELIB_RETURN, RELIB_KEPT };
#define RELIB_FRAME_POINTER RELIB_X29
#endif
#define RELIB_STACK_POINTER RELIB_KEPT /* as a base */

/* Where the caller's value of a register is. */
enum {
    RELIB_UNTOUCHED,
    RELIB_SAVED,                  /* at the caller's stack pointer + offset */
    RELIB_SAVED_AT_FRAME_POINTER, /* at the frame pointer + offset */
    RELIB_NONE,                   /* nowhere; if it is the return address: there is no caller */
    RELIB_NOT_KNOWN,
};

typedef struct {
    uint8_t base;     /* the caller's stack pointer is this register + offset, */
    uint8_t indirect; /* or the word there */
    uint8_t where[RELIB_KEPT];
    int32_t offset;
    int32_t offsets[RELIB_KEPT];
} relib_frame_rule;

/* The rule for the frame of a function that is at `pc`; `called` when that is what a call returns
   to. 0, or -1 when it is not known. Needs no GIL, and is safe in a signal handler unless
   `cached`. */
int relib_frame_rule_at(const relib_code_map *map, const relib_memory *memory, uintptr_t pc,
                        int called, int cached, relib_frame_rule *rule);

/* Whether the rule for `pc`, which a call returns to, is known already: then it has been asked for
   before, of code that never goes. Needs no GIL. */
int relib_frame_rule_cached(uintptr_t pc);

#endif
