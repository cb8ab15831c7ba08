/* Finding the few words of a large block of memory that point into a range of addresses. */
#ifndef RELIB_WORDS_H
#define RELIB_WORDS_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    uintptr_t low, size; /* [low, low + size) */
} relib_range;

/* A word as an address. On aarch64 a return address may be signed, and a pointer tagged, in its
   high bits (Linux, Documentation/arch/arm64/pointer-authentication.rst). */
static inline uintptr_t
relib_address(uintptr_t word)
{
#if defined(__aarch64__)
    return word & (((uintptr_t)1 << 48) - 1);
#else
    return word;
#endif
}

static inline int
relib_range_holds(relib_range range, uintptr_t address)
{
    return address - range.low < range.size;
}

/* The index of the first of words[from] .. words[count - 1] that is an address in `range`, or
   `count`.
   The block must be readable. Needs no GIL and is safe in a signal handler. */
size_t relib_next_word(const uintptr_t *words, size_t from, size_t count, relib_range range);

#endif
