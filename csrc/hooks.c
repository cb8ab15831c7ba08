#define _GNU_SOURCE
#include "hooks.h"

#include <Python.h>
#include <string.h>

#include "symbols.h"

/* Where an entry of a list has what, in words: of _Py_AuditHookEntry and atexit_callback (CPython
   3.11-3.15, Include/internal/pycore_interp.h, pycore_audit.h, pycore_atexit.h). */
typedef struct {
    const char *name;
    size_t next, function;
} registry;

static const registry registries[] = {
    {"PySys_AddAuditHook", 0, 1},
    {"PyUnstable_AtExit", 2, 0},
};
#define REGISTRIES (sizeof(registries) / sizeof(*registries))

#define LONGEST_LIST 256
#define MOST_SEGMENTS 1024

typedef struct {
    relib_range library;
    int imported[REGISTRIES];
    relib_range runtime; /* _PyRuntime, which the lists start in */
    relib_range code[MOST_SEGMENTS];
    size_t code_count;
} loaded;

/* --- the loaded libraries --------------------------------------------------------------------- */

static void
read_symbols(loaded *all, const struct dl_phdr_info *info, int is_library)
{
    relib_symbols symbols = relib_symbols_of(info);
    for (size_t i = 0; i < symbols.count; i++) {
        const ElfW(Sym) *symbol = &symbols.symbols[i];
        const char *name = symbols.names + symbol->st_name;
        if (symbol->st_shndx == SHN_UNDEF) {
            for (size_t k = 0; is_library && k < REGISTRIES; k++)
                all->imported[k] |= strcmp(name, registries[k].name) == 0;
        } else if (!is_library && strcmp(name, "_PyRuntime") == 0) {
            all->runtime = (relib_range){info->dlpi_addr + symbol->st_value, symbol->st_size};
        }
    }
}

static int
read_imports(struct dl_phdr_info *info, size_t size, void *argument)
{
    loaded *all = argument;
    (void)size;
    if (!relib_holds_address(info, all->library.low))
        return 0;
    read_symbols(all, info, 1);
    return 1;
}

static int
read_others(struct dl_phdr_info *info, size_t size, void *argument)
{
    loaded *all = argument;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && (header->p_flags & PF_X) &&
            all->code_count < MOST_SEGMENTS)
            all->code[all->code_count++] =
                (relib_range){info->dlpi_addr + header->p_vaddr, header->p_memsz};
    }
    if (all->runtime.size == 0)
        read_symbols(all, info, 0);
    return 0;
}

/* --- the lists -------------------------------------------------------------------------------- */

static int
is_code(const loaded *all, uintptr_t address)
{
    for (size_t i = 0; i < all->code_count; i++)
        if (relib_range_holds(all->code[i], address))
            return 1;
    return 0;
}

/* What _PyRuntime refers to is taken for an entry if it has a function where an entry would; this
   needs no knowledge of _PyRuntime, which changes with each release. */
static void
follow(const loaded *all, const relib_memory *memory, const registry *kind, uintptr_t entry,
       relib_hook_found found, void *argument)
{
    uintptr_t words[3];
    for (int i = 0; i < LONGEST_LIST && entry > 4096 && entry % 8 == 0; i++) {
        if (relib_memory_read(memory, entry, words, sizeof(words)) != sizeof(words) ||
            !is_code(all, words[kind->function]))
            return;
        if (relib_range_holds(all->library, words[kind->function]))
            found(argument, kind->name, words[kind->function]);
        entry = words[kind->next];
    }
}

static void
search_registry(const loaded *all, const relib_memory *memory, const registry *kind,
                relib_hook_found found, void *argument)
{
    if (all->runtime.size == 0)
        found(argument, kind->name, all->library.low);
    for (uintptr_t at = 0; at < all->runtime.size; at += sizeof(uintptr_t)) {
        uintptr_t word = 0;
        relib_memory_read(memory, all->runtime.low + at, &word, sizeof(word));
        follow(all, memory, kind, word, found, argument);
    }
}

int
relib_search_hooks(const relib_memory *memory, relib_range library, relib_hook_found found,
                   void *argument)
{
    loaded *all = PyMem_RawCalloc(1, sizeof(*all));
    if (all == NULL)
        return -1;
    all->library = library;
    dl_iterate_phdr(read_imports, all);
    for (size_t k = 0; k < REGISTRIES; k++) {
        if (!all->imported[k])
            continue;
        if (all->code_count == 0)
            dl_iterate_phdr(read_others, all);
        search_registry(all, memory, &registries[k], found, argument);
    }
    PyMem_RawFree(all);
    return 0;
}
