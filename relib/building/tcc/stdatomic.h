/* C11 <stdatomic.h> for a tcc that has none: each operation is one locked x86-64 instruction, or a
 * loop around one. tcc neither optimises nor reorders, so the only order to keep is the processor's.
 * The type _Atomic(T) is in prelude.h. What it cannot refuse is the assignment of one atomic variable
 * to another, which is a plain copy.
 */
#ifndef RELIB_TCC_ATOMICS
#include_next <stdatomic.h>
#elif !defined(RELIB_STDATOMIC_H)
#define RELIB_STDATOMIC_H

#ifndef __x86_64__
#error "relib has no atomics for tcc on this processor: build with gcc or clang (set CC=gcc)"
#endif

#include <stddef.h>
#include <stdint.h>

typedef enum {
    memory_order_relaxed,
    memory_order_consume,
    memory_order_acquire,
    memory_order_release,
    memory_order_acq_rel,
    memory_order_seq_cst
} memory_order;

typedef _Atomic(_Bool) atomic_bool;
typedef _Atomic(char) atomic_char;
typedef _Atomic(signed char) atomic_schar;
typedef _Atomic(unsigned char) atomic_uchar;
typedef _Atomic(short) atomic_short;
typedef _Atomic(unsigned short) atomic_ushort;
typedef _Atomic(int) atomic_int;
typedef _Atomic(unsigned int) atomic_uint;
typedef _Atomic(long) atomic_long;
typedef _Atomic(unsigned long) atomic_ulong;
typedef _Atomic(long long) atomic_llong;
typedef _Atomic(unsigned long long) atomic_ullong;
typedef _Atomic(uint_least16_t) atomic_char16_t;
typedef _Atomic(uint_least32_t) atomic_char32_t;
typedef _Atomic(wchar_t) atomic_wchar_t;
typedef _Atomic(int_least8_t) atomic_int_least8_t;
typedef _Atomic(uint_least8_t) atomic_uint_least8_t;
typedef _Atomic(int_least16_t) atomic_int_least16_t;
typedef _Atomic(uint_least16_t) atomic_uint_least16_t;
typedef _Atomic(int_least32_t) atomic_int_least32_t;
typedef _Atomic(uint_least32_t) atomic_uint_least32_t;
typedef _Atomic(int_least64_t) atomic_int_least64_t;
typedef _Atomic(uint_least64_t) atomic_uint_least64_t;
typedef _Atomic(int_fast8_t) atomic_int_fast8_t;
typedef _Atomic(uint_fast8_t) atomic_uint_fast8_t;
typedef _Atomic(int_fast16_t) atomic_int_fast16_t;
typedef _Atomic(uint_fast16_t) atomic_uint_fast16_t;
typedef _Atomic(int_fast32_t) atomic_int_fast32_t;
typedef _Atomic(uint_fast32_t) atomic_uint_fast32_t;
typedef _Atomic(int_fast64_t) atomic_int_fast64_t;
typedef _Atomic(uint_fast64_t) atomic_uint_fast64_t;
typedef _Atomic(intptr_t) atomic_intptr_t;
typedef _Atomic(uintptr_t) atomic_uintptr_t;
typedef _Atomic(size_t) atomic_size_t;
typedef _Atomic(ptrdiff_t) atomic_ptrdiff_t;
typedef _Atomic(intmax_t) atomic_intmax_t;
typedef _Atomic(uintmax_t) atomic_uintmax_t;

#define ATOMIC_BOOL_LOCK_FREE 2
#define ATOMIC_CHAR_LOCK_FREE 2
#define ATOMIC_CHAR16_T_LOCK_FREE 2
#define ATOMIC_CHAR32_T_LOCK_FREE 2
#define ATOMIC_WCHAR_T_LOCK_FREE 2
#define ATOMIC_SHORT_LOCK_FREE 2
#define ATOMIC_INT_LOCK_FREE 2
#define ATOMIC_LONG_LOCK_FREE 2
#define ATOMIC_LLONG_LOCK_FREE 2
#define ATOMIC_POINTER_LOCK_FREE 2

/* The operations, for each operand width: `bits` wide, mnemonic suffix `s`. A value travels as
 * unsigned long; the functions take what fits, the macros below give the caller's type back. */
#define RELIB_ATOMIC_WIDTH(bits, s)                                                               \
    static inline unsigned long relib_load##bits(const volatile void *p)                          \
    {                                                                                             \
        uint##bits##_t value;                                                                     \
        __asm__ __volatile__("mov" s " %1, %0"                                                    \
                             : "=q"(value)                                                        \
                             : "m"(*(const volatile uint##bits##_t *)p)                           \
                             : "memory");                                                         \
        return value;                                                                             \
    }                                                                                             \
    static inline void relib_store##bits(volatile void *p, unsigned long v)                       \
    {                                                                                             \
        uint##bits##_t value = (uint##bits##_t)v;                                                 \
        __asm__ __volatile__("mov" s " %1, %0"                                                    \
                             : "=m"(*(volatile uint##bits##_t *)p)                                \
                             : "q"(value)                                                         \
                             : "memory");                                                         \
    }                                                                                             \
    static inline unsigned long relib_exchange##bits(volatile void *p, unsigned long v)           \
    {                                                                                             \
        uint##bits##_t value = (uint##bits##_t)v;                                                 \
        /* xchg with memory locks by itself */                                                    \
        __asm__ __volatile__("xchg" s " %0, %1"                                                   \
                             : "+q"(value), "+m"(*(volatile uint##bits##_t *)p)                   \
                             :                                                                    \
                             : "memory");                                                         \
        return value;                                                                             \
    }                                                                                             \
    static inline unsigned long relib_add##bits(volatile void *p, unsigned long v)                \
    {                                                                                             \
        uint##bits##_t value = (uint##bits##_t)v;                                                 \
        __asm__ __volatile__("lock; xadd" s " %0, %1"                                             \
                             : "+q"(value), "+m"(*(volatile uint##bits##_t *)p)                   \
                             :                                                                    \
                             : "memory");                                                         \
        return value;                                                                             \
    }                                                                                             \
    /* what was there: `expected` if, and only if, `v` has taken its place */                     \
    static inline unsigned long relib_swap_if##bits(volatile void *p, unsigned long expected,     \
                                                    unsigned long v)                              \
    {                                                                                             \
        uint##bits##_t found = (uint##bits##_t)expected;                                          \
        uint##bits##_t value = (uint##bits##_t)v;                                                 \
        __asm__ __volatile__("lock; cmpxchg" s " %2, %1"                                          \
                             : "=a"(found), "+m"(*(volatile uint##bits##_t *)p)                   \
                             : "q"(value), "0"(found)                                             \
                             : "memory");                                                         \
        return found;                                                                             \
    }                                                                                             \
    static inline int relib_compare_exchange##bits(volatile void *p, void *expected,              \
                                                   unsigned long v)                               \
    {                                                                                             \
        uint##bits##_t wanted = *(uint##bits##_t *)expected;                                      \
        uint##bits##_t found = (uint##bits##_t)relib_swap_if##bits(p, wanted, v);                 \
        if (found == wanted)                                                                      \
            return 1;                                                                             \
        *(uint##bits##_t *)expected = found;                                                      \
        return 0;                                                                                 \
    }                                                                                             \
    static inline unsigned long relib_or##bits(volatile void *p, unsigned long v)                 \
    {                                                                                             \
        unsigned long old = relib_load##bits(p), found;                                           \
        while ((found = relib_swap_if##bits(p, old, old | v)) != old)                             \
            old = found;                                                                          \
        return old;                                                                               \
    }                                                                                             \
    static inline unsigned long relib_xor##bits(volatile void *p, unsigned long v)                \
    {                                                                                             \
        unsigned long old = relib_load##bits(p), found;                                           \
        while ((found = relib_swap_if##bits(p, old, old ^ v)) != old)                             \
            old = found;                                                                          \
        return old;                                                                               \
    }                                                                                             \
    static inline unsigned long relib_and##bits(volatile void *p, unsigned long v)                \
    {                                                                                             \
        unsigned long old = relib_load##bits(p), found;                                           \
        while ((found = relib_swap_if##bits(p, old, old & v)) != old)                             \
            old = found;                                                                          \
        return old;                                                                               \
    }

RELIB_ATOMIC_WIDTH(8, "b")
RELIB_ATOMIC_WIDTH(16, "w")
RELIB_ATOMIC_WIDTH(32, "l")
RELIB_ATOMIC_WIDTH(64, "q")

static inline void relib_fence(memory_order order)
{
    /* x86-64 keeps every order but that of a store before a later load */
    if (order == memory_order_seq_cst)
        __asm__ __volatile__("mfence" : : : "memory");
}

#define RELIB_VALUE(p) ((p)->relib_value)
#define RELIB_TYPE(p) __typeof__(RELIB_VALUE(p))
#define RELIB_REQUIRE(condition) ((void)sizeof(char[(condition) ? 1 : -1]))

/* An array of negative size, and so an error, for an operand that is no integer or pointer: as a
 * double would travel by its rounded value and not by its bits. */
#define RELIB_CHECK(p)                                                                            \
    RELIB_REQUIRE((sizeof(RELIB_VALUE(p)) == 1 || sizeof(RELIB_VALUE(p)) == 2                     \
                   || sizeof(RELIB_VALUE(p)) == 4 || sizeof(RELIB_VALUE(p)) == 8)                 \
                  && !__builtin_types_compatible_p(RELIB_TYPE(p), float)                          \
                  && !__builtin_types_compatible_p(RELIB_TYPE(p), double))

#define RELIB_PICK(p, operation, arguments)                                                       \
    (sizeof(RELIB_VALUE(p)) == 8   ? relib_##operation##64 arguments                              \
     : sizeof(RELIB_VALUE(p)) == 4 ? relib_##operation##32 arguments                              \
     : sizeof(RELIB_VALUE(p)) == 2 ? relib_##operation##16 arguments                              \
                                   : relib_##operation##8 arguments)

#define RELIB_ADDRESS(p) ((void *)&RELIB_VALUE(p))
#define RELIB_OPERAND(p, v) ((unsigned long)(RELIB_TYPE(p))(v))

#define atomic_load_explicit(p, order)                                                            \
    (RELIB_CHECK(p), (void)(order), (RELIB_TYPE(p))RELIB_PICK(p, load, (RELIB_ADDRESS(p))))
#define atomic_load(p) atomic_load_explicit(p, memory_order_seq_cst)

/* A sequentially consistent store is an exchange: a plain one may pass a later load. */
#define atomic_store_explicit(p, v, order)                                                        \
    (RELIB_CHECK(p),                                                                              \
     (order) == memory_order_seq_cst                                                              \
         ? (void)RELIB_PICK(p, exchange, (RELIB_ADDRESS(p), RELIB_OPERAND(p, v)))                 \
         : (void)RELIB_PICK(p, store, (RELIB_ADDRESS(p), RELIB_OPERAND(p, v))))
#define atomic_store(p, v) atomic_store_explicit(p, v, memory_order_seq_cst)

#define atomic_exchange_explicit(p, v, order)                                                     \
    (RELIB_CHECK(p), (void)(order),                                                               \
     (RELIB_TYPE(p))RELIB_PICK(p, exchange, (RELIB_ADDRESS(p), RELIB_OPERAND(p, v))))
#define atomic_exchange(p, v) atomic_exchange_explicit(p, v, memory_order_seq_cst)

#define atomic_compare_exchange_strong_explicit(p, expected, v, success, failure)                 \
    (RELIB_CHECK(p), RELIB_REQUIRE(sizeof(*(expected)) == sizeof(RELIB_VALUE(p))),                \
     (void)(success), (void)(failure),                                                            \
     (_Bool)RELIB_PICK(p, compare_exchange,                                                       \
                       (RELIB_ADDRESS(p), (void *)(expected), RELIB_OPERAND(p, v))))
#define atomic_compare_exchange_strong(p, expected, v)                                            \
    atomic_compare_exchange_strong_explicit(p, expected, v, memory_order_seq_cst,                 \
                                            memory_order_seq_cst)
#define atomic_compare_exchange_weak_explicit atomic_compare_exchange_strong_explicit
#define atomic_compare_exchange_weak atomic_compare_exchange_strong

/* The addend of a pointer counts elements, which nothing here knows: the multiplication refuses
 * pointers. */
#define RELIB_FETCH(p, operation, operand, order)                                                 \
    (RELIB_CHECK(p), (void)sizeof(RELIB_VALUE(p) * 1), (void)(order),                             \
     (RELIB_TYPE(p))RELIB_PICK(p, operation, (RELIB_ADDRESS(p), operand)))

#define atomic_fetch_add_explicit(p, v, order) RELIB_FETCH(p, add, RELIB_OPERAND(p, v), order)
#define atomic_fetch_add(p, v) atomic_fetch_add_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_sub_explicit(p, v, order) RELIB_FETCH(p, add, -RELIB_OPERAND(p, v), order)
#define atomic_fetch_sub(p, v) atomic_fetch_sub_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_or_explicit(p, v, order) RELIB_FETCH(p, or, RELIB_OPERAND(p, v), order)
#define atomic_fetch_or(p, v) atomic_fetch_or_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_xor_explicit(p, v, order) RELIB_FETCH(p, xor, RELIB_OPERAND(p, v), order)
#define atomic_fetch_xor(p, v) atomic_fetch_xor_explicit(p, v, memory_order_seq_cst)
#define atomic_fetch_and_explicit(p, v, order) RELIB_FETCH(p, and, RELIB_OPERAND(p, v), order)
#define atomic_fetch_and(p, v) atomic_fetch_and_explicit(p, v, memory_order_seq_cst)

#define ATOMIC_VAR_INIT(v) { v }
#define atomic_init(p, v) ((void)(RELIB_VALUE(p) = (v)))
#define atomic_is_lock_free(p) (RELIB_CHECK(p), 1)
#define kill_dependency(v) (v)
#define atomic_thread_fence(order) relib_fence(order)
#define atomic_signal_fence(order) ((void)(order))

typedef struct {
    unsigned char relib_value;
} atomic_flag;
#define ATOMIC_FLAG_INIT { 0 }
#define atomic_flag_test_and_set_explicit(p, order) (atomic_exchange_explicit(p, 1, order) != 0)
#define atomic_flag_test_and_set(p) (atomic_exchange(p, 1) != 0)
#define atomic_flag_clear_explicit(p, order) atomic_store_explicit(p, 0, order)
#define atomic_flag_clear(p) atomic_store(p, 0)

#endif
