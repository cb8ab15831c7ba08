#define _GNU_SOURCE
#include "pointers.h"

#include <link.h>
#include <string.h>
#include <unistd.h>

#include "arguments.h"
#include "bookkeeping.h"
#include "hooks.h"
#include "mappings.h"
#include "symbols.h"
#include "words.h"

#define MOST 64
#define PIECE 32768 /* words copied at a time, where memory has to be copied */

typedef struct {
    char *path; /* ours, or NULL */
    char symbol[128];
    uintptr_t offset, target;
} pointer;

typedef struct {
    relib_range range;
    relib_bookkeeping bookkeeping;
    relib_memory memory;
    relib_mappings mappings;
    uintptr_t *piece; /* NULL until memory has to be copied */
    pointer found[MOST];
    size_t count;
    int failed; /* no memory */
} search;

/* --- what is found ---------------------------------------------------------------------------- */

static void
note(search *all, const char *path, const char *symbol, uintptr_t offset, uintptr_t target)
{
    if (all->count == MOST)
        return;
    pointer *one = &all->found[all->count++];
    one->path = strdup(path);
    all->failed |= one->path == NULL;
    strncpy(one->symbol, symbol, sizeof(one->symbol) - 1);
    one->offset = offset;
    one->target = target;
}

static void
note_in_library(search *all, const struct dl_phdr_info *info, uintptr_t place, uintptr_t value)
{
    uintptr_t offset = place - info->dlpi_addr;
    const char *symbol = relib_symbol_below(info, place, &offset);
    note(all, info->dlpi_name, symbol, offset, value - all->range.low);
}

/* --- writable segments ------------------------------------------------------------------------ */

/* Words [lo, hi) of the library, which are readable at `words`. */
static void
search_words(search *all, const struct dl_phdr_info *info, const uintptr_t *words, uintptr_t lo,
             uintptr_t hi)
{
    size_t count = (hi - lo) / sizeof(uintptr_t), i = 0;
    while (all->count < MOST && (i = relib_next_word(words, i, count, all->range)) < count) {
        uintptr_t place = lo + i * sizeof(uintptr_t);
        if (!relib_is_bookkeeping(&all->bookkeeping, &all->memory, info, place, words[i]))
            note_in_library(all, info, place, words[i]);
        i++;
    }
}

static void
search_copies(search *all, const struct dl_phdr_info *info, uintptr_t lo, uintptr_t hi)
{
    if (all->piece == NULL && (all->piece = PyMem_RawMalloc(PIECE * sizeof(uintptr_t))) == NULL) {
        all->failed = 1;
        return;
    }
    while (lo < hi) {
        size_t wanted = hi - lo < PIECE * sizeof(uintptr_t) ? hi - lo : PIECE * sizeof(uintptr_t);
        size_t got = relib_memory_read(&all->memory, lo, all->piece, wanted) & ~(size_t)7;
        search_words(all, info, all->piece, lo, lo + got);
        lo += got;
        if (got < wanted)
            lo = (lo | 4095) + 1; /* a page that cannot be read */
    }
}

/* A library may have taken the right to read some of its own data away (a guard page in .bss).
   Where the kernel tells quickly what can be read, the rest is read in place; else copied, which
   takes five times as long. `mapping` is the last one that was looked up. */
static void
search_part(search *all, const struct dl_phdr_info *info, uintptr_t lo, uintptr_t hi,
            relib_mapping *mapping)
{
    while (lo < hi) {
        int known = 1;
        if (lo - mapping->lo >= mapping->hi - mapping->lo)
            known = relib_mapping_at(&all->mappings, lo, mapping);
        if (known < 0 || !all->mappings.quick) {
            search_copies(all, info, lo, hi);
            return;
        }
        if (known == 0)
            return;
        uintptr_t from = mapping->lo > lo ? mapping->lo : lo;
        uintptr_t to = mapping->hi < hi ? mapping->hi : hi;
        if (from < to && mapping->readable)
            search_words(all, info, (const uintptr_t *)from, from, to);
        lo = mapping->hi;
    }
}

/* Only pages that somebody has touched: the others hold no pointer, and one of a file that has
   been truncated since would raise SIGBUS. */
static void
search_segment(search *all, const struct dl_phdr_info *info, uintptr_t lo, uintptr_t hi)
{
    relib_mapping mapping = {0, 0, 0};
    relib_pages pages[64];
    lo = (lo + 7) & ~(uintptr_t)7;
    hi &= ~(uintptr_t)7;
    while (lo < hi) {
        uintptr_t next;
        int count = relib_pages_in_use(&all->mappings, lo, hi, pages, 64, &next);
        if (count < 0) {
            search_copies(all, info, lo, hi);
            return;
        }
        for (int i = 0; i < count; i++)
            search_part(all, info, pages[i].lo, pages[i].hi, &mapping);
        lo = next;
    }
}

/* Called under the loader's list lock, so that no library goes away meanwhile. It must not call
   dladdr or dlsym: their lock comes before this one elsewhere (glibc 2.36, elf/dl-open.c). */
static int
search_library(struct dl_phdr_info *info, size_t size, void *argument)
{
    static const char own_data = 0;
    search *all = argument;
    (void)size;
    /* The library itself; the loader, which lists it; and our own records of it. */
    if (relib_holds_address(info, all->range.low) || info->dlpi_addr == _r_debug.r_ldbase ||
        relib_holds_address(info, (uintptr_t)&own_data))
        return 0;
    for (int i = 0; i < info->dlpi_phnum && all->count < MOST; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + header->p_vaddr;
        if (header->p_type == PT_LOAD && (header->p_flags & PF_W))
            search_segment(all, info, lo, lo + header->p_memsz);
    }
    return 0;
}

/* --- what is kept on the heap ----------------------------------------------------------------- */

typedef struct {
    uintptr_t address;
    int held;
} location;

static int
locate(struct dl_phdr_info *info, size_t size, void *argument)
{
    location *wanted = argument;
    (void)size;
    return wanted->held |= relib_holds_address(info, wanted->address);
}

/* Whether it lies in the data of a library, and so has been searched. */
static int
is_static(const void *object)
{
    location wanted = {(uintptr_t)object, 0};
    return dl_iterate_phdr(locate, &wanted);
}

/* The state of a thread keeps its trace and profile functions. That of the main thread lies in
   Python's own data (CPython 3.11-3.15, Include/internal/pycore_interp.h, _initial_thread). */
static void
search_thread_states(search *all)
{
    uintptr_t words[sizeof(PyThreadState) / sizeof(uintptr_t)];
    PyInterpreterState *interpreter = PyInterpreterState_Head();
    for (; interpreter != NULL; interpreter = PyInterpreterState_Next(interpreter)) {
        PyThreadState *thread = PyInterpreterState_ThreadHead(interpreter);
        for (; thread != NULL; thread = PyThreadState_Next(thread)) {
            size_t count = relib_memory_read(&all->memory, (uintptr_t)thread, words,
                                             sizeof(words)) / sizeof(uintptr_t);
            for (size_t i = 0; (i = relib_next_word(words, i, count, all->range)) < count; i++)
                /* The end of a frame stack is where a library may begin, with its headers. */
                if (words[i] != all->range.low && !is_static(thread))
                    note(all, "", "PyThreadState", i * sizeof(uintptr_t),
                         words[i] - all->range.low);
        }
    }
}

/* putenv() keeps the string that it is given; the list of them is on the heap. */
static void
search_environment(search *all)
{
    uintptr_t word = 0;
    for (char **at = environ; at != NULL; at++) {
        if (relib_memory_read(&all->memory, (uintptr_t)at, &word, sizeof(word)) != sizeof(word) ||
            word == 0)
            return;
        if (relib_range_holds(all->range, word))
            note(all, "", "environ", 0, word - all->range.low);
    }
}

static void
note_hook(void *argument, const char *registry, uintptr_t value)
{
    search *all = argument;
    note(all, "", registry, 0, value - all->range.low);
}

/* --- the function ----------------------------------------------------------------------------- */

static PyObject *
list_of(const search *all)
{
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < all->count; i++) {
        const pointer *one = &all->found[i];
        PyObject *item = Py_BuildValue("(NsKK)", PyUnicode_DecodeFSDefault(one->path), one->symbol,
                                       (unsigned long long)one->offset,
                                       (unsigned long long)one->target);
        if (item == NULL || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

PyObject *
relib_pointers_into(PyObject *Py_UNUSED(self), PyObject *args)
{
    relib_range range;
    if (relib_range_argument(args, "KK:pointers_into", &range) < 0)
        return NULL;
    search *all = PyMem_RawCalloc(1, sizeof(*all));
    if (all == NULL)
        return PyErr_NoMemory();
    all->range = range;
    relib_bookkeeping_of(&all->bookkeeping, all->range);
    relib_memory_open(&all->memory);
    relib_mappings_open(&all->mappings);
    dl_iterate_phdr(search_library, all);
    search_thread_states(all);
    search_environment(all);
    if (relib_search_hooks(&all->memory, all->range, note_hook, all) < 0)
        all->failed = 1;
    relib_mappings_close(&all->mappings);
    relib_memory_close(&all->memory);

    PyObject *list = all->failed ? PyErr_NoMemory() : list_of(all);
    for (size_t i = 0; i < all->count; i++)
        free(all->found[i].path);
    PyMem_RawFree(all->piece);
    PyMem_RawFree(all);
    return list;
}
