#define _GNU_SOURCE
#include "mappings.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* --- reading ---------------------------------------------------------------------------------- */

static ssize_t
read_once(const relib_memory *memory, uintptr_t address, void *into, size_t size)
{
    if (memory->file >= 0)
        return pread(memory->file, into, size, (off_t)address);
    struct iovec local = {into, size}, remote = {(void *)address, size};
    return process_vm_readv(memory->thread, &local, 1, &remote, 1, 0);
}

void
relib_memory_open(relib_memory *memory)
{
    static int allowed; /* some sandboxes forbid it */
    int saved = errno;
    char from = 1, to = 0;
    /* The thread, not the process: the main thread may have ended, and then the kernel finds no
       memory under its number (mm/process_vm_access.c). */
    memory->thread = (pid_t)syscall(SYS_gettid);
    memory->file = -1;
    memory->lo = memory->hi = 0;
    allowed = allowed || read_once(memory, (uintptr_t)&from, &to, 1) == 1;
    if (!allowed)
        memory->file = open("/proc/thread-self/mem", O_RDONLY | O_CLOEXEC);
    errno = saved;
}

void
relib_memory_close(relib_memory *memory)
{
    if (memory->file >= 0)
        close(memory->file);
    memory->file = -1;
}

/* Word by word where the sanitizer would not let memcpy read: a whole stack. */
__attribute__((no_sanitize("address"))) static void
copy_in_place(uintptr_t address, unsigned char *into, size_t size)
{
    const volatile unsigned char *from = (const volatile unsigned char *)address;
    for (; size >= 8 && address % 8 == 0; size -= 8, from += 8, into += 8) {
        uint64_t word = *(const volatile uint64_t *)from;
        memcpy(into, &word, 8);
    }
    while (size-- > 0)
        *into++ = *from++;
}

size_t
relib_memory_read(const relib_memory *memory, uintptr_t address, void *into, size_t size)
{
    const uintptr_t page = 4096; /* or a multiple of it */
    int saved = errno;
    size_t done = 0;
    if (address - memory->lo < memory->hi - memory->lo && size <= memory->hi - address) {
        copy_in_place(address, into, size);
        return size;
    }
    while (done < size) {
        ssize_t got = read_once(memory, address + done, (char *)into + done, size - done);
        if (got <= 0) {
            /* How much of a request is served when some of it cannot be is not promised: the
               pages before the bad one, in Linux 6.x. Ask again for what is left of this page. */
            size_t left = page - ((address + done) & (page - 1));
            if (left < size - done)
                got = read_once(memory, address + done, (char *)into + done, left);
        }
        if (got <= 0)
            break;
        done += (size_t)got;
    }
    errno = saved;
    return done;
}

/* --- mappings --------------------------------------------------------------------------------- */

/* Linux 6.11 and later (include/uapi/linux/fs.h); ours, because the headers may be older. */
struct procmap_query_argument {
    uint64_t size, query_flags, query_addr;
    uint64_t vma_start, vma_end, vma_flags, vma_page_size, vma_offset, inode;
    uint32_t dev_major, dev_minor, vma_name_size, build_id_size;
    uint64_t vma_name_addr, build_id_addr;
};
#define QUERY _IOWR('f', 17, struct procmap_query_argument)
#define VMA_READABLE 0x01
#define COVERING_OR_NEXT 0x10

void
relib_mappings_open(relib_mappings *mappings)
{
    *mappings = (relib_mappings){-1, -1, -1};
}

void
relib_mappings_close(relib_mappings *mappings)
{
    if (mappings->file >= 0)
        close(mappings->file);
    if (mappings->pagemap >= 0)
        close(mappings->pagemap);
    mappings->file = mappings->pagemap = -1;
}

static int
query(relib_mappings *mappings, uintptr_t address, relib_mapping *found)
{
    struct procmap_query_argument argument = {
        .size = sizeof(argument), .query_flags = COVERING_OR_NEXT, .query_addr = address};
    if (ioctl(mappings->file, QUERY, &argument) == 0) {
        *found = (relib_mapping){argument.vma_start, argument.vma_end,
                                 (argument.vma_flags & VMA_READABLE) != 0};
        return 1;
    }
    return errno == ENOENT ? 0 : -1;
}

/* One line: "7f0000000000-7f0000001000 r--p 00000000 fd:00 1234 /usr/lib/...". */
typedef struct {
    relib_mapping mapping;
    int field; /* 0: start, 1: end, 2: the first letter of the permissions, 3: the rest */
} line;

/* Takes the next character; whether the line's mapping is known now. */
static int
take(line *now, char c)
{
    if (c == '\n') {
        *now = (line){{0, 0, 0}, 0};
        return 0;
    }
    uintptr_t *number = now->field == 0 ? &now->mapping.lo : &now->mapping.hi;
    switch (now->field) {
    case 0:
    case 1:
        if (c == '-' || c == ' ')
            now->field++;
        else
            *number = *number * 16 + (uintptr_t)(c <= '9' ? c - '0' : c - 'a' + 10);
        return 0;
    case 2:
        now->mapping.readable = c == 'r';
        now->field++;
        return 1;
    default:
        return 0;
    }
}

static int
search_list(relib_mappings *mappings, uintptr_t address, relib_mapping *found)
{
    char text[4096];
    line now = {{0, 0, 0}, 0};
    ssize_t got;
    if (lseek(mappings->file, 0, SEEK_SET) != 0)
        return -1;
    while ((got = read(mappings->file, text, sizeof(text))) > 0)
        for (ssize_t i = 0; i < got; i++)
            if (take(&now, text[i]) && address < now.mapping.hi) {
                *found = now.mapping;
                return 1;
            }
    return got == 0 ? 0 : -1;
}

int
relib_mapping_at(relib_mappings *mappings, uintptr_t address, relib_mapping *found)
{
    int saved = errno, result = -1;
    if (mappings->file < 0)
        mappings->file = open("/proc/thread-self/maps", O_RDONLY | O_CLOEXEC);
    if (mappings->file >= 0 && mappings->quick != 0) {
        result = query(mappings, address, found);
        mappings->quick = result >= 0;
    }
    if (mappings->file >= 0 && mappings->quick == 0)
        result = search_list(mappings, address, found);
    errno = saved;
    return result;
}

/* --- pages ------------------------------------------------------------------------------------ */

/* Linux 6.7 and later (include/uapi/linux/fs.h, PAGEMAP_SCAN). */
struct page_region_found {
    uint64_t start, end, categories;
};
struct pm_scan_argument {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN _IOWR('f', 16, struct pm_scan_argument)
#define IS_PRESENT (1 << 3)
#define IS_SWAPPED (1 << 4)
#define IS_ZERO (1 << 5) /* read, but never written to */

int
relib_pages_in_use(relib_mappings *mappings, uintptr_t lo, uintptr_t hi, relib_pages *found,
                   size_t room, uintptr_t *next)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    struct page_region_found regions[64];
    struct pm_scan_argument argument = {
        .size = sizeof(argument), .start = lo & ~(page - 1), .end = (hi + page - 1) & ~(page - 1),
        .vec = (uintptr_t)regions, .vec_len = room < 64 ? room : 64,
        .category_inverted = IS_ZERO, .category_mask = IS_ZERO,
        .category_anyof_mask = IS_PRESENT | IS_SWAPPED, .return_mask = IS_PRESENT};
    int saved = errno;
    if (mappings->pagemap < 0)
        mappings->pagemap = open("/proc/thread-self/pagemap", O_RDONLY | O_CLOEXEC);
    int count = mappings->pagemap < 0 ? -1 : ioctl(mappings->pagemap, SCAN, &argument);
    for (int i = 0; i < count; i++) {
        found[i].lo = regions[i].start > lo ? regions[i].start : lo;
        found[i].hi = regions[i].end < hi ? regions[i].end : hi;
    }
    *next = argument.walk_end < hi ? argument.walk_end : hi;
    if (count >= 0 && *next <= lo)
        *next = hi; /* it gets no further */
    errno = saved;
    return count;
}
