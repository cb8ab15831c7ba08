#include "unwind_tables.h"

/* --- reading ---------------------------------------------------------------------------------- */

relib_reader
relib_read_from(const relib_memory *memory, uintptr_t at, uintptr_t end)
{
    return (relib_reader){.memory = memory, .at = at, .end = end};
}

int
relib_read_more(const relib_reader *in)
{
    return !in->bad && (in->used < in->have || in->at < in->end);
}

unsigned
relib_read_byte(relib_reader *in)
{
    if (in->used == in->have) {
        size_t wanted = in->end - in->at;
        if (in->bad || in->at >= in->end)
            wanted = 0;
        else if (wanted > sizeof(in->buffer))
            wanted = sizeof(in->buffer);
        in->used = 0;
        in->have = relib_memory_read(in->memory, in->at, in->buffer, wanted);
        in->at += in->have;
        in->bad |= in->have == 0;
        if (in->bad)
            return 0;
    }
    return in->buffer[in->used++];
}

uintptr_t
relib_read_position(const relib_reader *in)
{
    return in->at - (in->have - in->used);
}

uint64_t
relib_read_fixed(relib_reader *in, int size)
{
    uint64_t value = 0;
    for (int i = 0; i < size; i++)
        value |= (uint64_t)relib_read_byte(in) << (8 * i);
    return value;
}

uint64_t
relib_read_unsigned(relib_reader *in)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        unsigned next = relib_read_byte(in);
        value |= (uint64_t)(next & 0x7F) << shift;
        if (!(next & 0x80))
            return value;
    }
    in->bad = 1;
    return 0;
}

int64_t
relib_read_signed(relib_reader *in)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64;) {
        unsigned next = relib_read_byte(in);
        value |= (uint64_t)(next & 0x7F) << shift;
        shift += 7;
        if (!(next & 0x80))
            return (int64_t)(next & 0x40 && shift < 64 ? value | ~(uint64_t)0 << shift : value);
    }
    in->bad = 1;
    return 0;
}

static void
skip(relib_reader *in, uint64_t size)
{
    while (size-- > 0 && !in->bad)
        relib_read_byte(in);
}

/* The size of a pointer by its encoding (Linux Standard Base, DWARF extensions); 0 for others. */
static int
pointer_size(unsigned encoding)
{
    switch (encoding & 0x0F) {
    case 0x00: case 0x04: case 0x0C: return 8;
    case 0x02: case 0x0A: return 2;
    case 0x03: case 0x0B: return 4;
    }
    return 0;
}

/* --- finding the entry for an address --------------------------------------------------------- */

/* The entry (FDE) for `pc` in .eh_frame: by the table in .eh_frame_hdr, which all linkers write
   sorted, as pairs of 32-bit distances from its own start. 0 when there is none. */
static uintptr_t
find_entry(const relib_memory *memory, uintptr_t tables, uintptr_t pc)
{
    struct {
        int32_t start, entry;
    } pairs[32];
    struct {
        uint8_t version, frame_encoding, count_encoding, table_encoding;
        uint32_t frame, count;
    } head;
    if (relib_memory_read(memory, tables, &head, sizeof(head)) != sizeof(head) ||
        head.version != 1 || head.frame_encoding != 0x1B || head.count_encoding != 0x03 ||
        head.table_encoding != 0x3B)
        return 0;
    uintptr_t first = tables + sizeof(head);
    size_t low = 0, high = head.count; /* the pair is in [low, high) */
    while (high - low > 32) {
        size_t middle = low + (high - low) / 2;
        if (relib_memory_read(memory, first + middle * 8, pairs, 8) != 8)
            return 0;
        if (tables + (uintptr_t)(intptr_t)pairs[0].start <= pc)
            low = middle;
        else
            high = middle;
    }
    size_t count = relib_memory_read(memory, first + low * 8, pairs, (high - low) * 8) / 8;
    uintptr_t entry = 0;
    for (size_t i = 0; i < count && tables + (uintptr_t)(intptr_t)pairs[i].start <= pc; i++)
        entry = tables + (uintptr_t)(intptr_t)pairs[i].entry;
    return entry;
}

/* Bytes of an entry; the longest in Python is that of its interpreter's loop, a few kilobytes. */
#define LONGEST (1 << 20)

static int
read_common(const relib_memory *memory, uintptr_t at, relib_unwind_entry *found, unsigned *encoding,
            int *has_size)
{
    relib_reader in = relib_read_from(memory, at, at + 4);
    uint64_t length = relib_read_fixed(&in, 4);
    uintptr_t end = at + 4 + length;
    char letters[8] = {0};
    in = relib_read_from(memory, at + 4, end);
    uint64_t id = relib_read_fixed(&in, 4);
    unsigned version = relib_read_byte(&in);
    if (length > LONGEST || id != 0 || (version != 1 && version != 3))
        return -1;
    for (size_t i = 0; i < sizeof(letters); i++)
        if ((letters[i] = (char)relib_read_byte(&in)) == 0)
            break;
    found->code_unit = relib_read_unsigned(&in);
    found->data_unit = relib_read_signed(&in);
    uint64_t return_column = version == 1 ? relib_read_byte(&in) : relib_read_unsigned(&in);
#if defined(__x86_64__)
    const uint64_t expected = 16;
#else
    const uint64_t expected = 30;
#endif
    if (return_column != expected || letters[sizeof(letters) - 1] != 0)
        return -1;
    *encoding = 0;
    *has_size = letters[0] == 'z';
    if (letters[0] == 'z')
        relib_read_unsigned(&in);
    else if (letters[0] != 0)
        return -1;
    for (const char *letter = letters + 1; letters[0] != 0 && *letter != 0; letter++) {
        if (*letter == 'R')
            *encoding = relib_read_byte(&in);
        else if (*letter == 'L')
            relib_read_byte(&in);
        else if (*letter == 'P')
            skip(&in, (uint64_t)pointer_size(relib_read_byte(&in)));
        else if (*letter != 'S' && *letter != 'B') /* signal frame, key of signed addresses */
            return -1;
    }
    found->common = relib_read_from(memory, relib_read_position(&in), end);
    return in.bad ? -1 : 0;
}

static int
read_entry(const relib_memory *memory, uintptr_t at, uintptr_t pc, relib_unwind_entry *found)
{
    unsigned encoding;
    int has_size;
    relib_reader in = relib_read_from(memory, at, at + 8);
    uint64_t length = relib_read_fixed(&in, 4), back = relib_read_fixed(&in, 4);
    uintptr_t end = at + 4 + length;
    if (in.bad || length < 4 || length > LONGEST || back == 0 ||
        read_common(memory, at + 4 - back, found, &encoding, &has_size) < 0)
        return -1;
    in = relib_read_from(memory, at + 8, end);
    int size = pointer_size(encoding);
    uint64_t start = relib_read_fixed(&in, size);
    if (size == 4)
        start = (uint64_t)(int64_t)(int32_t)start;
    if (encoding == 0x1B || encoding == 0x1C)
        start += at + 8;
    else if (encoding != 0)
        return -1;
    found->start = start;
    found->size = relib_read_fixed(&in, size);
    if (has_size) {
        uint64_t more_size = relib_read_unsigned(&in);
        skip(&in, more_size);
    }
    found->own = relib_read_from(memory, relib_read_position(&in), end);
    return in.bad || pc - found->start >= found->size ? -1 : 0;
}

int
relib_unwind_entry_at(const relib_memory *memory, uintptr_t tables, uintptr_t pc,
                      relib_unwind_entry *found)
{
    uintptr_t at = find_entry(memory, tables, pc);
    return at == 0 ? -1 : read_entry(memory, at, pc, found);
}
