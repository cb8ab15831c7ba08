#define _GNU_SOURCE
#include "unwind.h"

#include <stddef.h>
#include <string.h>

/* unwind->state */
enum {
    UNDER_WAY,
    COMPLETE, /* the outermost frame has been reached */
    LOST,     /* the tables do not lead on */
};

/* unwind->from */
enum {
    INTERRUPTED, /* the code is at pc */
    CALL,        /* a call returns to pc */
    HANDLER,     /* a signal handler returns to pc */
};

/* --- where it begins -------------------------------------------------------------------------- */

void
relib_unwind_from(relib_unwind *unwind, uintptr_t pc, uintptr_t sp)
{
    unwind->state = UNDER_WAY;
    unwind->pc = pc;
    unwind->sp = sp;
    unwind->from = INTERRUPTED;
    unwind->place = 0;
    unwind->known = 0;
}

void
relib_unwind_from_context(relib_unwind *unwind, const mcontext_t *machine)
{
    const uint32_t all = (1u << RELIB_KEPT) - 1;
#if defined(__x86_64__)
    static const int indices[] = {REG_RBX, REG_RBP, REG_R12, REG_R13, REG_R14, REG_R15};
    relib_unwind_from(unwind, (uintptr_t)machine->gregs[REG_RIP],
                      (uintptr_t)machine->gregs[REG_RSP]);
    for (int i = 0; i < RELIB_RETURN; i++)
        unwind->registers[i] = (uintptr_t)machine->gregs[indices[i]];
    unwind->known = all & ~(1u << RELIB_RETURN); /* is on the stack */
#else
    relib_unwind_from(unwind, machine->pc, machine->sp);
    for (int i = 0; i < RELIB_KEPT; i++)
        unwind->registers[i] = machine->regs[19 + i];
    unwind->known = all;
#endif
}

/* --- over a signal handler -------------------------------------------------------------------- */

/* What a signal handler returns to: a system call of the C library's or the kernel's (glibc 2.36,
   sysdeps/unix/sysv/linux/x86_64/libc_sigaction.c; Linux, arch/arm64/kernel/vdso/sigreturn.S).
   The context that was interrupted is at its stack pointer, in the kernel's layout. */
#if defined(__x86_64__)
#define CONTEXT_OFFSET 0
#define PC_OFFSET (offsetof(ucontext_t, uc_mcontext.gregs) + REG_RIP * sizeof(greg_t))
static const unsigned char trampoline[] = {0x48, 0xC7, 0xC0, 0x0F, 0, 0, 0, 0x0F, 0x05};
#else
#define CONTEXT_OFFSET 128 /* after a siginfo_t (struct rt_sigframe) */
#define PC_OFFSET offsetof(ucontext_t, uc_mcontext.pc)
static const unsigned char trampoline[] = {0x68, 0x11, 0x80, 0xD2, 0x01, 0, 0, 0xD4};
#endif

static int
is_trampoline(const relib_memory *memory, uintptr_t pc)
{
    unsigned char code[sizeof(trampoline)];
    return relib_memory_read(memory, pc, code, sizeof(code)) == sizeof(code) &&
           memcmp(code, trampoline, sizeof(code)) == 0;
}

static int
step_over_handler(relib_unwind *unwind)
{
    const size_t start = offsetof(ucontext_t, uc_mcontext);
    const size_t size = PC_OFFSET + sizeof(uintptr_t) - start;
    uintptr_t context = unwind->sp + CONTEXT_OFFSET, sp = unwind->sp;
    mcontext_t machine;
    if (relib_memory_read(unwind->memory, context + start, &machine, size) != size)
        return LOST;
    relib_unwind_from_context(unwind, &machine);
    unwind->place = context + PC_OFFSET;
    /* If it was on another stack, places on this one do not compare with those on that. */
    return unwind->sp > sp ? UNDER_WAY : LOST;
}

/* --- over a call ------------------------------------------------------------------------------ */

static int
is_known(const relib_unwind *unwind, int index)
{
    return (unwind->known >> index) & 1;
}

/* The words under the caller's stack pointer, where most registers are saved. */
#define WINDOW 16

typedef struct {
    uintptr_t caller_sp;
    uintptr_t words[WINDOW];
    int readable;
} window;

static int
read_word(const relib_unwind *unwind, const window *near, uintptr_t place, uintptr_t *value)
{
    uintptr_t below = near->caller_sp - place; /* 8 for the last word */
    if (near->readable && below % 8 == 0 && below - 8 < sizeof(near->words)) {
        *value = near->words[WINDOW - below / 8];
        return 1;
    }
    return relib_memory_read(unwind->memory, place, value, sizeof(*value)) == sizeof(*value);
}

/* The caller's value of a register, and where it was found. Whether it is known. */
static int
caller_value(const relib_unwind *unwind, const relib_frame_rule *rule, int index,
             const window *near, uintptr_t *value, uintptr_t *place)
{
    *place = 0;
    switch (rule->where[index]) {
    case RELIB_UNTOUCHED:
        *value = unwind->registers[index];
        return is_known(unwind, index);
    case RELIB_SAVED:
        *place = near->caller_sp;
        break;
    case RELIB_SAVED_AT_FRAME_POINTER:
        if (!is_known(unwind, RELIB_FRAME_POINTER))
            return 0;
        *place = unwind->registers[RELIB_FRAME_POINTER];
        break;
    default:
        return 0;
    }
    *place += (uintptr_t)(intptr_t)rule->offsets[index];
    return read_word(unwind, near, *place, value);
}

/* The caller's stack pointer, or 0. */
static uintptr_t
caller_stack_pointer(const relib_unwind *unwind, const relib_frame_rule *rule)
{
    uintptr_t sp = unwind->sp;
    if (rule->base != RELIB_STACK_POINTER) {
        if (!is_known(unwind, rule->base))
            return 0;
        sp = unwind->registers[rule->base];
    }
    sp += (uintptr_t)(intptr_t)rule->offset;
    if (rule->indirect && relib_memory_read(unwind->memory, sp, &sp, sizeof(sp)) != sizeof(sp))
        return 0;
    return sp;
}

static int
step_over_call(relib_unwind *unwind)
{
    relib_frame_rule rule;
    uintptr_t values[RELIB_KEPT], place, pc;
    uint32_t known = 0;
    if (relib_frame_rule_at(unwind->map, unwind->memory, unwind->pc, unwind->from == CALL,
                            unwind->cached, &rule) < 0)
        return LOST;
    if (rule.where[RELIB_RETURN] == RELIB_NONE)
        return COMPLETE;
    /* Stacks grow downwards and are aligned where functions are called; a frame without a size is
       one whose return address is still in a register. */
    uintptr_t sp = caller_stack_pointer(unwind, &rule);
    if (sp % 16 != 0 || sp < unwind->sp || sp - unwind->sp > (uintptr_t)1 << 30 ||
        (sp == unwind->sp && rule.where[RELIB_RETURN] != RELIB_UNTOUCHED))
        return LOST;
    window near = {.caller_sp = sp};
    near.readable = relib_memory_read(unwind->memory, sp - sizeof(near.words), near.words,
                                      sizeof(near.words)) == sizeof(near.words);
    /* The return address is the last one: `place` is where that is. */
    for (int i = 0; i < RELIB_KEPT; i++)
        known |= (uint32_t)caller_value(unwind, &rule, i, &near, &values[i], &place) << i;
    if (!((known >> RELIB_RETURN) & 1))
        return LOST;
    pc = relib_address(values[RELIB_RETURN]);
    if (unwind->cached && relib_frame_rule_cached(pc))
        unwind->from = CALL;
    else if (relib_code_map_find(unwind->map, pc) == NULL)
        return LOST;
    else if (relib_is_after_call(unwind->memory, pc))
        unwind->from = CALL;
    else if (is_trampoline(unwind->memory, pc))
        unwind->from = HANDLER;
    else
        return LOST;
    unwind->pc = pc;
    unwind->sp = sp;
    unwind->place = place;
    /* The caller has called something: its own return address is in memory. */
    unwind->known = known & ~(1u << RELIB_RETURN);
    memcpy(unwind->registers, values, sizeof(values));
    return UNDER_WAY;
}

/* --- the question ----------------------------------------------------------------------------- */

int
relib_unwind_returns_at(relib_unwind *unwind, uintptr_t place)
{
    if (unwind->map->count == 0)
        relib_code_map_fill(unwind->map);
    while (unwind->state == UNDER_WAY && unwind->place < place) {
        unwind->state = unwind->from == HANDLER ? step_over_handler(unwind)
                                                : step_over_call(unwind);
        /* A return address in a register is at no place that could be asked about. */
        if (unwind->place == 0 && relib_range_holds(unwind->code, unwind->pc))
            unwind->state = LOST;
    }
    if (unwind->place >= place)
        return unwind->place == place;
    return unwind->state == COMPLETE ? 0 : -1;
}
