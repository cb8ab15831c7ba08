/* What a loaded library holds: its addresses, and its dynamic symbols, read in place.

   dladdr and dlsym would take the loader's lock, which a thread that waits for the GIL may hold. */
#ifndef RELIB_SYMBOLS_H
#define RELIB_SYMBOLS_H

#include <link.h>
#include <stddef.h>
#include <stdint.h>

/* Whether `address` lies in one of its segments. */
int relib_holds_address(const struct dl_phdr_info *info, uintptr_t address);

typedef struct {
    const ElfW(Sym) *symbols;
    size_t count;
    const char *names;
} relib_symbols;

/* All of the library's symbols, those that it imports included; a count of 0 when there are none.
   Borrowed: valid as long as the library is loaded. Needs no GIL. */
relib_symbols relib_symbols_of(const struct dl_phdr_info *info);

/* The name of the variable at `address`, or of the last one before it in the same segment, and how
   far it is from there; "" without changing the offset when there is none. */
const char *relib_symbol_below(const struct dl_phdr_info *info, uintptr_t address,
                               uintptr_t *offset);

#endif
