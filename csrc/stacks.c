#define _GNU_SOURCE
#include "stacks.h"

#include <dlfcn.h>
#include <pthread.h>

/* --- the walk --------------------------------------------------------------------------------- */

int
relib_walk_next(relib_walk *walk)
{
    for (;;) {
        walk->index = relib_next_word(walk->piece, walk->index, walk->count, walk->code->code);
        if (walk->index < walk->count) {
            walk->value = walk->piece[walk->index];
            walk->place = walk->at - (walk->count - walk->index) * sizeof(uintptr_t);
            walk->index++;
            return 1;
        }
        walk->count = walk->index = 0;
        if (walk->at >= walk->end)
            return 0;
        size_t wanted = walk->room * sizeof(uintptr_t);
        if (wanted > walk->end - walk->at)
            wanted = walk->end - walk->at;
        size_t got = relib_memory_read(walk->memory, walk->at, walk->piece, wanted);
        walk->count = got / sizeof(uintptr_t);
        walk->at += walk->count * sizeof(uintptr_t);
        if (got < wanted)
            walk->end = walk->at; /* what follows cannot be read: the mapping ends here */
        if (walk->count == 0)
            return 0;
    }
}

/* --- where stacks end ------------------------------------------------------------------------- */

uintptr_t
relib_main_stack_end(void)
{
    /* ld.so keeps the stack pointer that the kernel started the process with; every frame of the
       main thread lies below it (glibc 2.36, elf/dl-support.c and sysdeps/unix/sysv/linux/
       dl-sysdep.c; exported as GLIBC_2.2.5, on aarch64 as GLIBC_2.17). */
    static uintptr_t *known;
    static int asked;
    if (!asked) {
        known = dlsym(RTLD_DEFAULT, "__libc_stack_end");
        asked = 1;
    }
    return known != NULL ? *known & ~(uintptr_t)7 : 0;
}

/* Below this distance from its end, an address belongs to the main thread's stack: the kernel
   keeps at least 128 MB for it, whatever its limit (Linux, mm/util.c, mmap_base). */
#define CERTAINLY_MAIN ((uintptr_t)64 << 20)

/* The calling thread's stack as far as it can be known without asking the kernel. For the main
   thread pthread_getattr_np reads all of /proc/self/maps (glibc 2.36,
   nptl/pthread_getattr_np.c): a thread asks once. */
static __thread relib_range own_stack;

static relib_range
find_own_stack(uintptr_t sp)
{
    uintptr_t end = relib_main_stack_end();
    pthread_attr_t attributes;
    void *start;
    size_t size;
    if (end - sp < CERTAINLY_MAIN)
        return (relib_range){end - CERTAINLY_MAIN, CERTAINLY_MAIN};
    if (own_stack.size == 0 && pthread_getattr_np(pthread_self(), &attributes) == 0) {
        if (pthread_attr_getstack(&attributes, &start, &size) == 0) {
            own_stack = (relib_range){(uintptr_t)start, size};
            /* glibc puts the thread's descriptor on top of its stack. */
            if (relib_range_holds(own_stack, (uintptr_t)pthread_self()))
                own_stack.size = (uintptr_t)pthread_self() - own_stack.low;
        }
        pthread_attr_destroy(&attributes);
    }
    return own_stack;
}

/* --- another thread --------------------------------------------------------------------------- */

/* A stack that seems to be larger is looked up: the end may not be that of the stack which holds
   sp. For others reading tells, which stops where the stack is not followed by mapped memory. */
#define NEAR ((uintptr_t)1 << 20)

static relib_inside
search_words(relib_walk *walk)
{
    uintptr_t from = walk->at;
    while (relib_walk_next(walk))
        if (relib_returns_there(walk->code, walk->memory, walk->place, walk->value))
            return RELIB_STACK;
    return walk->at == from ? RELIB_UNKNOWN : RELIB_OUTSIDE;
}

relib_inside
relib_search_stack(const relib_search *search, uintptr_t sp, uintptr_t descriptor,
                   uintptr_t *piece, size_t room, int *foreign)
{
    uintptr_t end = relib_main_stack_end();
    relib_mapping mapping;
    sp &= ~(uintptr_t)7;
    /* Of the two places where the thread's own stack may end, the nearer above sp; 0 if neither. */
    if (end <= sp || (descriptor > sp && descriptor < end))
        end = descriptor > sp ? descriptor : 0;
    *foreign = 0;
    if (end == 0 || end - sp > NEAR) {
        int known = -1;
        if (search->mappings != NULL)
            known = relib_mapping_at(search->mappings, sp, &mapping);
        if (known == 0 || (known == 1 && mapping.lo > sp))
            return RELIB_UNKNOWN;
        if (known == 1 && (end == 0 || mapping.hi < end)) {
            *foreign = 1;
            end = mapping.hi;
        }
    }
    int endless = end == 0 || end - sp > RELIB_LARGEST_STACK;
    if (endless)
        end = sp + RELIB_LARGEST_STACK;
    relib_walk walk = {.code = &search->code, .memory = &search->memory, .at = sp, .end = end,
                       .piece = piece, .room = room};
    relib_inside inside = search_words(&walk);
    if (inside != RELIB_OUTSIDE)
        return inside;
    if (walk.at < end)
        *foreign = 1;
    else if (endless)
        return RELIB_UNKNOWN;
    return RELIB_OUTSIDE;
}

relib_inside
relib_search_whole_stack(const relib_search *search, uintptr_t end, uintptr_t *piece, size_t room)
{
    const uintptr_t page = 4096;
    relib_mapping mapping;
    uintptr_t low = end - RELIB_LARGEST_STACK;
    int known = -1;
    if (search->mappings != NULL)
        known = relib_mapping_at(search->mappings, end - 1, &mapping);
    if (known == 1 && mapping.lo > low)
        low = mapping.lo;
    /* Downwards, page by page: since glibc 2.42 the guard page below the stack of a thread is not
       a mapping of its own, and the stack that follows it may be in the same one. */
    for (uintptr_t to = end; to > low; to = (to - 1) & ~(page - 1)) {
        uintptr_t from = (to - 1) & ~(page - 1);
        relib_walk walk = {.code = &search->code, .memory = &search->memory, .at = from, .end = to,
                           .piece = piece, .room = room};
        relib_inside inside = search_words(&walk);
        if (inside == RELIB_UNKNOWN)
            return to == end ? RELIB_UNKNOWN : RELIB_OUTSIDE;
        if (inside != RELIB_OUTSIDE)
            return inside;
    }
    return low > end - RELIB_LARGEST_STACK ? RELIB_OUTSIDE : RELIB_UNKNOWN;
}

/* --- the calling thread ----------------------------------------------------------------------- */

static Py_ssize_t
count_on_known_stack(const relib_code *code, const relib_memory *memory, uintptr_t sp,
                     uintptr_t end)
{
    const uintptr_t *words = (const uintptr_t *)sp;
    size_t count = (end - sp) / sizeof(uintptr_t), i = 0;
    Py_ssize_t calls = 0;
    while ((i = relib_next_word(words, i, count, code->code)) < count) {
        calls += relib_returns_there(code, memory, (uintptr_t)(words + i), words[i]);
        i++;
    }
    return calls;
}

/* The stack of a coroutine or of a signal handler: all that is known is the mapping it lies in.
   -1 when that does not end, -2 without memory. */
static Py_ssize_t
count_on_foreign_stack(const relib_code *code, const relib_memory *memory, uintptr_t sp)
{
    relib_mappings mappings;
    relib_mapping mapping;
    relib_walk walk = {.code = code, .memory = memory, .at = sp, .room = 2048};
    relib_mappings_open(&mappings);
    int known = relib_mapping_at(&mappings, sp, &mapping) == 1 && mapping.lo <= sp;
    relib_mappings_close(&mappings);
    walk.end = known ? mapping.hi : sp + RELIB_LARGEST_STACK;
    if (walk.end - sp > RELIB_LARGEST_STACK)
        return -1;
    walk.piece = PyMem_RawMalloc(walk.room * sizeof(uintptr_t));
    if (walk.piece == NULL)
        return -2;
    Py_ssize_t calls = 0;
    while (relib_walk_next(&walk))
        calls += relib_returns_there(code, memory, walk.place, walk.value);
    PyMem_RawFree(walk.piece);
    int whole = known ? walk.at == mapping.hi
                      : walk.at > sp && walk.at < sp + RELIB_LARGEST_STACK;
    return whole || calls > 0 ? calls : -1;
}

PyObject *
relib_calls_on_own_stack(PyObject *Py_UNUSED(self), PyObject *args)
{
    unsigned long long lo, hi;
    if (!PyArg_ParseTuple(args, "KK:calls_on_own_stack", &lo, &hi))
        return NULL;
    if (hi < lo) {
        PyErr_SetString(PyExc_ValueError, "the range ends before it starts");
        return NULL;
    }
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)7;
    relib_code code = relib_code_at(lo, hi);
    relib_range stack = find_own_stack(sp);
    relib_memory memory;
    relib_memory_open(&memory);
    Py_ssize_t calls = relib_range_holds(stack, sp)
                           ? count_on_known_stack(&code, &memory, sp, stack.low + stack.size)
                           : count_on_foreign_stack(&code, &memory, sp);
    relib_memory_close(&memory);
    return calls == -2 ? PyErr_NoMemory() : PyLong_FromSsize_t(calls);
}
