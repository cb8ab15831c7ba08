#define _GNU_SOURCE
#include "symbols.h"

static const ElfW(Phdr) *
segment_of(const struct dl_phdr_info *info, uintptr_t address)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD &&
            address - info->dlpi_addr - header->p_vaddr < header->p_memsz)
            return header;
    }
    return NULL;
}

int
relib_holds_address(const struct dl_phdr_info *info, uintptr_t address)
{
    return segment_of(info, address) != NULL;
}

/* glibc has relocated the pointers in the dynamic section in place, other loaders have not
   (glibc 2.36, elf/get-dynamic-info.h). */
static const void *
pointer(const struct dl_phdr_info *info, uintptr_t value)
{
    return (const void *)(value < info->dlpi_addr ? info->dlpi_addr + value : value);
}

/* The GNU hash table holds the exported symbols, which come last, in chains; the last one of a
   chain has bit 0 set. Their number is not written down anywhere. */
static size_t
count_by_gnu_hash(const uint32_t *table)
{
    uint32_t bucket_count = table[0], first = table[1], bloom_words = table[2], last = 0;
    const uint32_t *buckets = (const uint32_t *)((const ElfW(Addr) *)(table + 4) + bloom_words);
    const uint32_t *chains = buckets + bucket_count;
    for (uint32_t i = 0; i < bucket_count; i++)
        if (buckets[i] > last)
            last = buckets[i];
    if (last < first)
        return first;
    while (!(chains[last - first] & 1))
        last++;
    return last + 1;
}

relib_symbols
relib_symbols_of(const struct dl_phdr_info *info)
{
    relib_symbols found = {NULL, 0, NULL};
    const ElfW(Dyn) *entry = NULL;
    const uint32_t *gnu = NULL, *sysv = NULL;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            entry = (const void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    for (; entry != NULL && entry->d_tag != DT_NULL; entry++) {
        const void *here = pointer(info, entry->d_un.d_ptr);
        switch (entry->d_tag) {
        case DT_SYMTAB: found.symbols = here; break;
        case DT_STRTAB: found.names = here; break;
        case DT_GNU_HASH: gnu = here; break;
        case DT_HASH: sysv = here; break;
        }
    }
    if (found.symbols != NULL && found.names != NULL)
        found.count = sysv != NULL ? sysv[1] : gnu != NULL ? count_by_gnu_hash(gnu) : 0;
    return found;
}

const char *
relib_symbol_below(const struct dl_phdr_info *info, uintptr_t address, uintptr_t *offset)
{
    relib_symbols all = relib_symbols_of(info);
    const ElfW(Phdr) *segment = segment_of(info, address);
    uintptr_t best = segment != NULL ? info->dlpi_addr + segment->p_vaddr : address;
    const char *name = "";
    for (size_t i = 0; i < all.count; i++) {
        const ElfW(Sym) *symbol = &all.symbols[i];
        uintptr_t value = info->dlpi_addr + symbol->st_value;
        unsigned type = symbol->st_info & 0xF;
        if (symbol->st_shndx == SHN_UNDEF || symbol->st_shndx == SHN_ABS ||
            (type != STT_OBJECT && type != STT_NOTYPE) || value > address || value < best)
            continue;
        best = value;
        name = all.names + symbol->st_name;
        *offset = address - value;
    }
    return name;
}
