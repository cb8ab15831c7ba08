/* Pointers into a library that are no reason to keep it: those that the C library and the unwinder
   keep about every library and give up by themselves when it goes, and those that are looked at
   elsewhere. */
#ifndef RELIB_BOOKKEEPING_H
#define RELIB_BOOKKEEPING_H

#include <link.h>

#include "mappings.h"
#include "words.h"

#define RELIB_MOST_SEGMENTS 16

typedef struct {
    relib_range range;
    relib_range headers; /* the library's ELF and program headers */
    relib_range segments[RELIB_MOST_SEGMENTS];
    size_t segment_count;
    uintptr_t libc; /* an address in the C library, or 0 */
    relib_range keys;
} relib_bookkeeping;

/* Takes the loader's list lock for a moment. Needs the GIL. */
void relib_bookkeeping_of(relib_bookkeeping *known, relib_range library);

/* Whether `value`, the word at `place` in the data of the library `info`, is such a pointer.
   Needs no GIL. */
int relib_is_bookkeeping(const relib_bookkeeping *known, const relib_memory *memory,
                         const struct dl_phdr_info *info, uintptr_t place, uintptr_t value);

#endif
