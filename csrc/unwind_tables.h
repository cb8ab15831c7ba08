/* The unwind tables of a library: .eh_frame_hdr and .eh_frame.

   They are read without trust: through a copy, and what is not plain is not understood. */
#ifndef RELIB_UNWIND_TABLES_H
#define RELIB_UNWIND_TABLES_H

#include "mappings.h"

/* --- reading ---------------------------------------------------------------------------------- */

/* A stretch of a table. Reading past its end, or what cannot be read, gives zeros and sets
   `bad`. */
typedef struct {
    const relib_memory *memory;
    uintptr_t at, end; /* what is not in the buffer yet */
    unsigned char buffer[64]; /* small: a signal stack may be */
    size_t have, used;
    int bad;
} relib_reader;

relib_reader relib_read_from(const relib_memory *memory, uintptr_t at, uintptr_t end);

/* Whether there is anything left. */
int relib_read_more(const relib_reader *in);

/* The address of what is read next. */
uintptr_t relib_read_position(const relib_reader *in);

unsigned relib_read_byte(relib_reader *in);
uint64_t relib_read_fixed(relib_reader *in, int size); /* little-endian */
uint64_t relib_read_unsigned(relib_reader *in);        /* LEB128 */
int64_t relib_read_signed(relib_reader *in);           /* LEB128 */

/* --- entries ---------------------------------------------------------------------------------- */

/* An entry (FDE), with what it shares with others (CIE). */
typedef struct {
    uintptr_t start, size; /* the code it is for */
    uint64_t code_unit;
    int64_t data_unit;
    relib_reader common, own; /* instructions */
} relib_unwind_entry;

/* The entry for the code at `pc`, by the .eh_frame_hdr at `tables`. 0, or -1 when there is none or
   it is not understood. Needs no GIL and is safe in a signal handler. */
int relib_unwind_entry_at(const relib_memory *memory, uintptr_t tables, uintptr_t pc,
                          relib_unwind_entry *found);

#endif
