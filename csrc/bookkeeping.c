#define _GNU_SOURCE
#include "bookkeeping.h"

#include <dlfcn.h>

#include "pins.h"
#include "symbols.h"

static int
describe(struct dl_phdr_info *info, size_t size, void *argument)
{
    relib_bookkeeping *known = argument;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        relib_range segment = {info->dlpi_addr + header->p_vaddr, header->p_memsz};
        if (header->p_type != PT_LOAD || !relib_range_holds(known->range, segment.low))
            continue;
        if (known->segment_count < RELIB_MOST_SEGMENTS)
            known->segments[known->segment_count++] = segment;
        if (header->p_offset == 0) {
            uintptr_t end = (uintptr_t)(info->dlpi_phdr + info->dlpi_phnum);
            known->headers = (relib_range){segment.low, end - segment.low};
        }
    }
    return 0;
}

void
relib_bookkeeping_of(relib_bookkeeping *known, relib_range library)
{
    static uintptr_t libc;
    if (libc == 0)
        libc = (uintptr_t)dlsym(RTLD_DEFAULT, "gnu_get_libc_version");
    *known = (relib_bookkeeping){.range = library, .libc = libc, .keys = relib_key_table()};
    dl_iterate_phdr(describe, known);
}

static uintptr_t
word_at(const relib_memory *memory, uintptr_t place)
{
    uintptr_t word = 0;
    relib_memory_read(memory, place, &word, sizeof(word));
    return word;
}

/* The unwinder of a libgcc made for a glibc before 2.35 remembers the last libraries that an
   exception went through: start and end of the code, load address, program headers. It asks the
   loader whether that still holds (gcc 12, libgcc/unwind-dw2-fde-dip.c, frame_hdr_cache).
   Nobody else points at headers, and no code is there. */
static int
is_unwinder_cache(const relib_bookkeeping *known, const relib_memory *memory, uintptr_t place,
                  uintptr_t value)
{
    if (relib_range_holds(known->headers, value))
        return 1;
    for (size_t i = 0; i < known->segment_count; i++) {
        uintptr_t start = known->segments[i].low, end = start + known->segments[i].size;
        if ((value == start && word_at(memory, place + 8) == end) ||
            (value == end && word_at(memory, place - 8) == start))
            return 1;
    }
    return 0;
}

/* crtbeginS.o gives each library a variable __dso_handle that points to itself. What glibc was
   given together with it, it runs or forgets in dlclose: exit functions {flavor, function,
   argument, handle} (glibc 2.36, stdlib/exit.h) and fork handlers {prepare, parent, child, handle}
   (posix/register-atfork.c). The handle stays behind in an entry that is free again. */
static int
is_owned_by_handle(const relib_bookkeeping *known, const relib_memory *memory, uintptr_t place)
{
    for (int after = 0; after < 4; after++) {
        uintptr_t handle = word_at(memory, place + 8 * (uintptr_t)after);
        if (relib_range_holds(known->range, handle) && word_at(memory, handle) == handle)
            return 1;
    }
    return 0;
}

int
relib_is_bookkeeping(const relib_bookkeeping *known, const relib_memory *memory,
                     const struct dl_phdr_info *info, uintptr_t place, uintptr_t value)
{
    /* A key that has been deleted keeps its destructor (glibc 2.36, nptl/pthread_key_delete.c). */
    return relib_range_holds(known->keys, place) ||
           is_unwinder_cache(known, memory, place, value) ||
           (known->libc != 0 && relib_holds_address(info, known->libc) &&
            is_owned_by_handle(known, memory, place));
}
