#include "words.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* A search reads whole stacks and whole data segments: between the variables too, where the
   sanitizer allows nobody to read. */
#define WHOLE_MEMORY __attribute__((no_sanitize("address")))

/* Each of these returns the start of the first block of words that has a hit, or where the last
   whole block ends. Blocks, because a test for each word would cost more than the comparison. */

#if defined(__x86_64__)
/* Five times as fast as the portable loop. AVX2 has no unsigned comparison: adding 2^63 to both
   sides turns it into the signed one that there is. */
__attribute__((target("avx2"))) WHOLE_MEMORY static size_t
skip_avx2(const uintptr_t *words, size_t i, size_t count, relib_range range)
{
    const uintptr_t middle = (uintptr_t)1 << 63;
    const __m256i shift = _mm256_set1_epi64x((long long)(middle - range.low));
    const __m256i limit = _mm256_set1_epi64x((long long)(range.size ^ middle));
    for (; count - i >= 16; i += 16) {
        const __m256i *block = (const __m256i *)(words + i);
        __m256i hits = _mm256_setzero_si256();
        for (int k = 0; k < 4; k++) {
            __m256i moved = _mm256_add_epi64(_mm256_loadu_si256(block + k), shift);
            hits = _mm256_or_si256(hits, _mm256_cmpgt_epi64(limit, moved));
        }
        if (!_mm256_testz_si256(hits, hits))
            break;
    }
    return i;
}
#endif

WHOLE_MEMORY static size_t
skip_portable(const uintptr_t *words, size_t i, size_t count, relib_range range)
{
    for (; count - i >= 8; i += 8) {
        const uintptr_t *block = words + i;
        int hits = 0;
        for (int k = 0; k < 8; k++)
            hits |= relib_range_holds(range, relib_address(block[k]));
        if (hits)
            break;
    }
    return i;
}

WHOLE_MEMORY size_t
relib_next_word(const uintptr_t *words, size_t from, size_t count, relib_range range)
{
    size_t i = from;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        i = skip_avx2(words, i, count, range);
    else
#endif
        i = skip_portable(words, i, count, range);
    while (i < count && !relib_range_holds(range, relib_address(words[i])))
        i++;
    return i;
}
