#define _GNU_SOURCE
#include "stacks.h"

#include <dlfcn.h>
#include <pthread.h>

#include "arguments.h"

/* --- the walk --------------------------------------------------------------------------------- */

int
relib_walk_next(relib_walk *walk)
{
    for (;;) {
        walk->index = relib_next_word(walk->piece, walk->index, walk->count, walk->code->code);
        if (walk->index < walk->count) {
            walk->value = relib_address(walk->piece[walk->index]);
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
    static uintptr_t end;
    static int asked;
    if (!asked) {
        const uintptr_t *known = dlsym(RTLD_DEFAULT, "__libc_stack_end");
        end = known != NULL ? *known & ~(uintptr_t)7 : 0;
        asked = 1;
    }
    return end;
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

/* `unwind` has begun at walk->at; NULL: nothing is known of the frames there. */
static relib_inside
search_words(relib_walk *walk, relib_unwind *unwind)
{
    uintptr_t from = walk->at;
    while (relib_walk_next(walk))
        if (relib_returns_there(walk->memory, walk->place, walk->value) &&
            (unwind == NULL || relib_unwind_returns_at(unwind, walk->place) != 0))
            return RELIB_STACK;
    return walk->at == from ? RELIB_UNKNOWN : RELIB_OUTSIDE;
}

relib_inside
relib_search_stack(const relib_search *search, relib_unwind *unwind, uintptr_t descriptor,
                   uintptr_t *piece, size_t room, int *foreign)
{
    uintptr_t sp = unwind->sp & ~(uintptr_t)7, end = relib_main_stack_end();
    relib_mapping mapping;
    unwind->map = search->map;
    unwind->memory = &search->memory;
    unwind->code = search->code.code;
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
    relib_inside inside = search_words(&walk, unwind);
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
        relib_inside inside = search_words(&walk, NULL);
        if (inside == RELIB_UNKNOWN)
            return to == end ? RELIB_UNKNOWN : RELIB_OUTSIDE;
        if (inside != RELIB_OUTSIDE)
            return inside;
    }
    return low > end - RELIB_LARGEST_STACK ? RELIB_OUTSIDE : RELIB_UNKNOWN;
}

/* --- the calling thread ----------------------------------------------------------------------- */

/* The map is large, and needed only when there is something to tell apart. */
typedef struct {
    const relib_code *code;
    relib_memory *memory;
    const ucontext_t *context; /* of the frame that the search begins at */
    relib_unwind *unwind;      /* NULL until it is needed */
    Py_ssize_t calls;          /* -1 without memory */
} own_search;

static void
count_word(own_search *search, uintptr_t place, uintptr_t value)
{
    if (search->calls < 0 || !relib_returns_there(search->memory, place, value))
        return;
    if (search->unwind == NULL) {
        search->unwind = PyMem_RawMalloc(sizeof(relib_unwind) + sizeof(relib_code_map));
        if (search->unwind == NULL) {
            search->calls = -1;
            return;
        }
        search->unwind->map = (relib_code_map *)(search->unwind + 1);
        search->unwind->map->count = 0;
        search->unwind->memory = search->memory;
        search->unwind->code = search->code->code;
        search->unwind->cached = 1;
        relib_unwind_from_context(search->unwind, &search->context->uc_mcontext);
    }
    search->calls += relib_unwind_returns_at(search->unwind, place) != 0;
}

static void
count_on_known_stack(own_search *search, uintptr_t sp, uintptr_t end)
{
    const uintptr_t *words = (const uintptr_t *)sp;
    size_t count = (end - sp) / sizeof(uintptr_t), i = 0;
    search->memory->lo = sp;
    search->memory->hi = end;
    for (; (i = relib_next_word(words, i, count, search->code->code)) < count; i++)
        count_word(search, (uintptr_t)(words + i), relib_address(words[i]));
}

/* The stack of a coroutine or of a signal handler: it ends where its mapping does at the latest, or
   before what cannot be read. 0; 1 when it does not end, -1 without memory. */
static int
count_on_foreign_stack(own_search *search, uintptr_t sp)
{
    relib_mappings mappings;
    relib_mapping mapping;
    relib_walk walk = {.code = search->code, .memory = search->memory, .at = sp, .room = 2048};
    walk.end = sp + RELIB_LARGEST_STACK;
    relib_mappings_open(&mappings);
    if (relib_mapping_at(&mappings, sp, &mapping) == 1 && mapping.lo <= sp &&
        mapping.hi < walk.end)
        walk.end = mapping.hi;
    relib_mappings_close(&mappings);
    walk.piece = PyMem_RawMalloc(walk.room * sizeof(uintptr_t));
    if (walk.piece == NULL)
        return -1;
    while (relib_walk_next(&walk))
        count_word(search, walk.place, walk.value);
    PyMem_RawFree(walk.piece);
    return walk.at == sp || walk.at - sp >= RELIB_LARGEST_STACK;
}

PyObject *
relib_calls_on_own_stack(PyObject *Py_UNUSED(self), PyObject *args)
{
    relib_range range;
    if (relib_range_argument(args, "KK:calls_on_own_stack", &range) < 0)
        return NULL;
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)7;
    relib_code code = relib_code_at(range);
    relib_range stack = find_own_stack(sp);
    relib_memory memory;
    ucontext_t context;
    own_search search = {.code = &code, .memory = &memory, .context = &context};
    int result = 0;
    relib_memory_open(&memory);
    getcontext(&context);
    if (relib_range_holds(stack, sp))
        count_on_known_stack(&search, sp, stack.low + stack.size);
    else
        result = count_on_foreign_stack(&search, sp);
    relib_memory_close(&memory);
    PyMem_RawFree(search.unwind);
    if (result < 0 || search.calls < 0)
        return PyErr_NoMemory();
    return PyLong_FromSsize_t(result > 0 && search.calls == 0 ? -1 : search.calls);
}
