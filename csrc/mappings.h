/* What is mapped in this process, and reading it without the risk of a fault. */
#ifndef RELIB_MAPPINGS_H
#define RELIB_MAPPINGS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* --- reading ---------------------------------------------------------------------------------- */

/* A way to read any address of this process. */
typedef struct {
    pid_t thread;     /* a living thread of this process, for process_vm_readv */
    int file;         /* of /proc/thread-self/mem, where process_vm_readv is forbidden; else -1 */
    uintptr_t lo, hi; /* [lo, hi) can certainly be read in place; empty at first */
} relib_memory;

/* Always succeeds; where the process may not read itself in any way, every read gives 0 bytes. */
void relib_memory_open(relib_memory *memory);
void relib_memory_close(relib_memory *memory);

/* Copies `size` bytes from `address`. Returns how many could be read: fewer when something between
   is not mapped, or not readable. Needs no GIL, keeps errno, and is safe in a signal handler. */
size_t relib_memory_read(const relib_memory *memory, uintptr_t address, void *into, size_t size);

/* --- mappings --------------------------------------------------------------------------------- */

typedef struct {
    uintptr_t lo, hi; /* [lo, hi) */
    int readable;
} relib_mapping;

/* What can be asked; opened when it is first asked. */
typedef struct {
    int file;    /* of /proc/thread-self/maps; -1: not opened yet */
    int quick;   /* whether the kernel answers without listing all mappings; -1: not known yet */
    int pagemap; /* of /proc/thread-self/pagemap; -1: not opened yet */
} relib_mappings;

void relib_mappings_open(relib_mappings *mappings);
void relib_mappings_close(relib_mappings *mappings);

/* The mapping that holds `address`, or else the next one above it. 1 when there is one, 0 when
   there is none, -1 when it cannot be told. Needs no GIL. */
int relib_mapping_at(relib_mappings *mappings, uintptr_t address, relib_mapping *found);

typedef struct {
    uintptr_t lo, hi;
} relib_pages;

/* The pages of [lo, hi) that hold anything of their own: those that nobody has touched are left
   out. Puts up to `room` of them into `found` and sets *next to where the rest begins, or to hi.
   Returns how many; -1 when it cannot be told (Linux before 6.7). Needs no GIL. */
int relib_pages_in_use(relib_mappings *mappings, uintptr_t lo, uintptr_t hi, relib_pages *found,
                       size_t room, uintptr_t *next);

#endif
