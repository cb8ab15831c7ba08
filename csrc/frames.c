#define _GNU_SOURCE
#include "frames.h"

#include <Python.h>
#include <link.h>
#include <stdatomic.h>

#include "symbols.h"
#include "unwind_tables.h"

/* --- the code of all libraries ---------------------------------------------------------------- */

static int
list_code(struct dl_phdr_info *info, size_t size, void *argument)
{
    relib_code_map *map = argument;
    uintptr_t tables = 0;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_GNU_EH_FRAME)
            tables = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
    /* The program, the C library, Python. */
    int permanent = info->dlpi_name[0] == 0 ||
                    relib_holds_address(info, (uintptr_t)&dl_iterate_phdr) ||
                    relib_holds_address(info, (uintptr_t)&_Py_NoneStruct);
    for (int i = 0; i < info->dlpi_phnum && map->count < RELIB_MOST_CODE_SEGMENTS; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + header->p_vaddr;
        if (header->p_type == PT_LOAD && (header->p_flags & PF_X))
            map->segments[map->count++] =
                (relib_code_segment){lo, lo + header->p_memsz, tables, permanent};
    }
    return 0;
}

void
relib_code_map_fill(relib_code_map *map)
{
    map->count = 0;
    dl_iterate_phdr(list_code, map);
}

const relib_code_segment *
relib_code_map_find(const relib_code_map *map, uintptr_t pc)
{
    for (size_t i = 0; i < map->count; i++)
        if (pc - map->segments[i].lo < map->segments[i].hi - map->segments[i].lo)
            return &map->segments[i];
    return NULL;
}

/* --- instructions ----------------------------------------------------------------------------- */

/* DWARF's number of a register: its index among those that are followed, or -1. */
static int
kept(uint64_t number)
{
#if defined(__x86_64__)
    static const int8_t indices[] = {-1, -1, -1, RELIB_RBX, -1, -1, RELIB_RBP, -1, -1, -1, -1, -1,
                                     RELIB_R12, RELIB_R12 + 1, RELIB_R12 + 2, RELIB_R15,
                                     RELIB_RETURN};
    return number < sizeof(indices) ? indices[number] : -1;
#else
    return number >= 19 && number <= 30 ? (int)number - 19 : -1;
#endif
}

static uint8_t
base_of(uint64_t number)
{
#if defined(__x86_64__)
    const uint64_t stack_pointer = 7;
#else
    const uint64_t stack_pointer = 31;
#endif
    int index = kept(number);
    return number == stack_pointer ? RELIB_STACK_POINTER
           : index >= 0            ? (uint8_t)index
                                   : RELIB_STACK_POINTER + 1; /* cannot be used */
}

static void
set(relib_frame_rule *rule, uint64_t number, int where, int64_t offset)
{
    int index = kept(number);
    if (index < 0)
        return;
    rule->where[index] = (uint8_t)(offset == (int32_t)offset ? where : RELIB_NOT_KNOWN);
    rule->offsets[index] = (int32_t)offset;
}

/* An expression is understood when it is one of those that compilers write for a function that
   aligns its stack: a register + offset, or the word there. Returns whether it is; its base and
   offset are then set. */
static int
expression(relib_reader *in, uint8_t *base, int64_t *offset, int *indirect)
{
    uint64_t length = relib_read_unsigned(in);
    uintptr_t end = relib_read_position(in) + length;
    unsigned operation = length > 0 ? relib_read_byte(in) : 0;
    int plain = operation >= 0x70 && operation <= 0x8F; /* DW_OP_breg0 .. 31 */
    if (plain) {
        *base = base_of(operation - 0x70);
        *offset = relib_read_signed(in);
        *indirect = 0;
        if (relib_read_position(in) < end && relib_read_byte(in) == 0x06) /* DW_OP_deref */
            *indirect = 1;
    }
    plain = plain && relib_read_position(in) == end;
    while (relib_read_position(in) < end && !in->bad)
        relib_read_byte(in);
    return plain;
}

#define REMEMBERED 4

typedef struct {
    relib_frame_rule now, initial, stack[REMEMBERED];
    size_t depth;
    uintptr_t at; /* the address that the rule is for */
} machine;

/* Carries out an instruction with its operand in its high two bits; 0 if it is none. */
static int
run_short(machine *state, const relib_unwind_entry *from, relib_reader *in, unsigned code)
{
    unsigned operand = code & 0x3F;
    int index = kept(operand);
    switch (code & 0xC0) {
    case 0x40: /* DW_CFA_advance_loc */
        state->at += operand * from->code_unit;
        return 1;
    case 0x80: /* DW_CFA_offset */
        set(&state->now, operand, RELIB_SAVED, (int64_t)relib_read_unsigned(in) * from->data_unit);
        return 1;
    case 0xC0: /* DW_CFA_restore */
        if (index >= 0) {
            state->now.where[index] = state->initial.where[index];
            state->now.offsets[index] = state->initial.offsets[index];
        }
        return 1;
    }
    return 0;
}

/* -1 for one that is not understood (DWARF 5, section 6.4.2). */
static int
run_long(machine *state, const relib_unwind_entry *from, relib_reader *in, unsigned code)
{
    relib_frame_rule *now = &state->now;
    uint64_t number;
    uint8_t base;
    int64_t offset;
    int indirect, index;
    switch (code) {
    case 0x00: /* DW_CFA_nop */
        break;
    case 0x02: case 0x03: case 0x04: /* DW_CFA_advance_loc1, 2, 4 */
        state->at += relib_read_fixed(in, 1 << (code - 2)) * from->code_unit;
        break;
    case 0x05: case 0x11: /* DW_CFA_offset_extended, _sf */
        number = relib_read_unsigned(in);
        offset = code == 0x05 ? (int64_t)relib_read_unsigned(in) : relib_read_signed(in);
        set(now, number, RELIB_SAVED, offset * from->data_unit);
        break;
    case 0x06: /* DW_CFA_restore_extended */
        if ((index = kept(relib_read_unsigned(in))) >= 0) {
            now->where[index] = state->initial.where[index];
            now->offsets[index] = state->initial.offsets[index];
        }
        break;
    case 0x07: /* DW_CFA_undefined */
        set(now, relib_read_unsigned(in), RELIB_NONE, 0);
        break;
    case 0x08: /* DW_CFA_same_value */
        set(now, relib_read_unsigned(in), RELIB_UNTOUCHED, 0);
        break;
    case 0x09: /* DW_CFA_register */
        set(now, relib_read_unsigned(in), RELIB_NOT_KNOWN, 0);
        relib_read_unsigned(in);
        break;
    case 0x0A: /* DW_CFA_remember_state */
        if (state->depth == REMEMBERED)
            return -1;
        state->stack[state->depth++] = *now;
        break;
    case 0x0B: /* DW_CFA_restore_state */
        if (state->depth == 0)
            return -1;
        *now = state->stack[--state->depth];
        break;
    case 0x0C: case 0x12: /* DW_CFA_def_cfa, _sf */
        now->base = base_of(relib_read_unsigned(in));
        now->offset = (int32_t)(code == 0x0C ? (int64_t)relib_read_unsigned(in)
                                             : relib_read_signed(in) * from->data_unit);
        now->indirect = 0;
        break;
    case 0x0D: /* DW_CFA_def_cfa_register */
        now->base = base_of(relib_read_unsigned(in));
        now->indirect = 0;
        break;
    case 0x0E: /* DW_CFA_def_cfa_offset */
        now->offset = (int32_t)relib_read_unsigned(in);
        break;
    case 0x13: /* DW_CFA_def_cfa_offset_sf */
        now->offset = (int32_t)(relib_read_signed(in) * from->data_unit);
        break;
    case 0x0F: /* DW_CFA_def_cfa_expression */
        now->base = RELIB_STACK_POINTER + 1;
        if (expression(in, &base, &offset, &indirect) && offset == (int32_t)offset) {
            now->base = base;
            now->offset = (int32_t)offset;
            now->indirect = (uint8_t)indirect;
        }
        break;
    case 0x10: /* DW_CFA_expression */
        number = relib_read_unsigned(in);
        if (expression(in, &base, &offset, &indirect) && base == RELIB_FRAME_POINTER && !indirect)
            set(now, number, RELIB_SAVED_AT_FRAME_POINTER, offset);
        else
            set(now, number, RELIB_NOT_KNOWN, 0);
        break;
    case 0x14: case 0x15: /* DW_CFA_val_offset, _sf */
        set(now, relib_read_unsigned(in), RELIB_NOT_KNOWN, 0);
        relib_read_unsigned(in);
        break;
    case 0x16: /* DW_CFA_val_expression */
        set(now, relib_read_unsigned(in), RELIB_NOT_KNOWN, 0);
        expression(in, &base, &offset, &indirect);
        break;
    case 0x2D: /* DW_CFA_AARCH64_negate_ra_state: signed addresses are stripped anyhow */
        break;
    case 0x2E: /* DW_CFA_GNU_args_size */
        relib_read_unsigned(in);
        break;
    default:
        return -1;
    }
    return 0;
}

/* The instructions up to `pc`. 0 or -1. */
static int
run(machine *state, const relib_unwind_entry *from, relib_reader *in, uintptr_t pc)
{
    while (relib_read_more(in)) {
        unsigned code = relib_read_byte(in);
        if (!run_short(state, from, in, code) && run_long(state, from, in, code) < 0)
            return -1;
        if (state->at > pc)
            return 0; /* what follows is for later code; this instruction changed nothing else */
    }
    return in->bad ? -1 : 0;
}

static int
find_rule(const relib_memory *memory, uintptr_t tables, uintptr_t pc, relib_frame_rule *rule)
{
    relib_unwind_entry found;
    machine state = {.depth = 0};
    if (relib_unwind_entry_at(memory, tables, pc, &found) < 0)
        return -1;
    state.now.base = RELIB_STACK_POINTER + 1;
    state.at = found.start;
    if (run(&state, &found, &found.common, UINTPTR_MAX) < 0)
        return -1;
    state.initial = state.now;
    if (run(&state, &found, &found.own, pc) < 0 || state.now.base > RELIB_STACK_POINTER)
        return -1;
    *rule = state.now;
    return 0;
}

/* --- both ------------------------------------------------------------------------------------- */

/* Calls come mostly from a few places in Python. */
static struct {
    uintptr_t pc;
    relib_frame_rule rule;
} cache[1024];
static atomic_flag cache_busy = ATOMIC_FLAG_INIT; /* interpreters may have a GIL each */

static size_t
cache_slot(uintptr_t pc)
{
    return (pc ^ pc >> 10) % (sizeof(cache) / sizeof(*cache));
}

/* Whether the rule for `pc` was in the cache; then *rule is set, unless it is NULL. */
static int
cache_get(uintptr_t pc, relib_frame_rule *rule)
{
    size_t slot = cache_slot(pc);
    if (atomic_flag_test_and_set(&cache_busy))
        return 0;
    int found = pc != 0 && cache[slot].pc == pc; /* 0: an empty slot */
    if (found && rule != NULL)
        *rule = cache[slot].rule;
    atomic_flag_clear(&cache_busy);
    return found;
}

static void
cache_put(uintptr_t pc, const relib_frame_rule *rule)
{
    size_t slot = cache_slot(pc);
    if (atomic_flag_test_and_set(&cache_busy))
        return;
    cache[slot].pc = pc;
    cache[slot].rule = *rule;
    atomic_flag_clear(&cache_busy);
}

int
relib_frame_rule_cached(uintptr_t pc)
{
    return cache_get(pc, NULL);
}

int
relib_frame_rule_at(const relib_code_map *map, const relib_memory *memory, uintptr_t pc,
                    int called, int cached, relib_frame_rule *rule)
{
    cached = cached && called;
    if (cached && cache_get(pc, rule))
        return 0;
    const relib_code_segment *segment = relib_code_map_find(map, pc);
    /* A call may be the last instruction of its function: look for the byte before. */
    if (segment == NULL || segment->tables == 0 ||
        find_rule(memory, segment->tables, pc - (called != 0), rule) < 0)
        return -1;
    if (cached && segment->permanent)
        cache_put(pc, rule);
    return 0;
}
