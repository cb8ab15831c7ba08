#define _GNU_SOURCE
#include "calls.h"

#include <link.h>
#include <string.h>

/* --- where the code is ------------------------------------------------------------------------ */

static int
add_code(struct dl_phdr_info *info, size_t size, void *argument)
{
    relib_code *code = argument;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + header->p_vaddr, hi = lo + header->p_memsz;
        if (header->p_type != PT_LOAD || !(header->p_flags & PF_X) ||
            !relib_range_holds(code->whole, lo))
            continue;
        if (code->code.size == 0)
            code->code.low = lo;
        if (lo < code->code.low) {
            code->code.size += code->code.low - lo;
            code->code.low = lo;
        }
        if (hi - code->code.low > code->code.size)
            code->code.size = hi - code->code.low;
    }
    return 0;
}

relib_code
relib_code_at(relib_range range)
{
    relib_code code = {range, {range.low, 0}};
    dl_iterate_phdr(add_code, &code);
    if (code.code.size == 0)
        code.code = code.whole;
    return code;
}

/* --- return addresses ------------------------------------------------------------------------- */

#if defined(__x86_64__)

/* Of the eight bytes before an address, whether they end in a call: E8 and a distance, or FF /2 in
   one of its lengths (Intel SDM volume 2, CALL). Prefixes come before and do not matter. */
static int
ends_in_call(const unsigned char *before)
{
    const unsigned char *end = before + 8;
    if (end[-5] == 0xE8)
        return 1;
    for (int length = 2; length <= 7; length++) {
        unsigned modrm = end[1 - length], mod = modrm >> 6, rm = modrm & 7;
        if (end[-length] != 0xFF || ((modrm >> 3) & 7) != 2)
            continue;
        int expected = 2;
        if (mod != 3) {
            if (rm == 4) {
                expected++; /* a SIB byte, whose base may be a distance of its own */
                if (mod == 0 && length > 2 && (end[2 - length] & 7) == 5)
                    expected += 4;
            } else if (mod == 0 && rm == 5) {
                expected += 4;
            }
            expected += mod == 1 ? 1 : mod == 2 ? 4 : 0;
        }
        if (length == expected)
            return 1;
    }
    return 0;
}

/* A signal interrupts code anywhere, and leaves its pc in the frame between the interrupted rsp
   and eflags, which the segment selectors follow; user code has cs 0x33
   (Linux, arch/x86/include/uapi/asm/sigcontext.h). `around` starts at the word before the pc. */
static int
in_signal_frame(const uintptr_t *around)
{
    uintptr_t sp = around[0], eflags = around[2], selectors = around[3];
    return sp != 0 && (eflags & 2) && eflags < (1u << 22) && (selectors & 0xFFFF) == 0x33;
}

int
relib_caller_on_stack(const relib_memory *memory, uintptr_t pc)
{
    (void)memory;
    (void)pc;
    return 1; /* a call pushes it */
}

#elif defined(__aarch64__)

/* The four bytes before the address: BL, or BLR and its variants with pointer authentication
   (Arm ARM, C6.2). */
static int
ends_in_call(const unsigned char *before)
{
    uint32_t instruction;
    memcpy(&instruction, before + 4, 4);
    return (instruction & 0xFC000000) == 0x94000000 || (instruction & 0xFEFFF000) == 0xD63F0000;
}

/* struct sigcontext has sp, pc, pstate in this order (Linux,
   arch/arm64/include/uapi/asm/sigcontext.h); pstate of user code has mode EL0t, which is 0. */
static int
in_signal_frame(const uintptr_t *around)
{
    uintptr_t sp = around[0], pstate = around[2];
    return sp != 0 && sp % 16 == 0 && (pstate & 0xF) == 0 && pstate >> 32 == 0;
}

/* A call leaves the return address in x30; a function that calls nothing itself, as glibc's
   syscall() and ioctl(), never saves it. Such a function gets to its RET without loading x30. */
int
relib_caller_on_stack(const relib_memory *memory, uintptr_t pc)
{
    uint32_t code[16];
    size_t count = relib_memory_read(memory, pc, code, sizeof(code)) / 4;
    for (size_t i = 0; i < count; i++) {
        if ((code[i] & 0xFFC07FFF) == 0xA8C07BFD ||  /* ldp x29, x30, [sp], n */
            (code[i] & 0xFFC07FFF) == 0xA9407BFD ||  /* ldp x29, x30, [sp, n] */
            (code[i] & 0xFFE00FFF) == 0xF84007FE)    /* ldr x30, [sp], n */
            return 1;
        if (code[i] == 0xD65F03C0 || code[i] == 0xD65F0BFF || code[i] == 0xD65F0FFF) /* ret */
            return 0;
    }
    return count == sizeof(code) / 4;
}

#else
#error "relib knows the calls of x86_64 and aarch64"
#endif

int
relib_is_after_call(const relib_memory *memory, uintptr_t address)
{
    unsigned char before[8] = {0};
    size_t size = sizeof(before);
    /* Not beyond the start of the page if there is nothing before it. */
    if (relib_memory_read(memory, address - size, before, size) != size) {
        size = address % 4096 < size ? address % 4096 : size;
        if (relib_memory_read(memory, address - size, before + 8 - size, size) != size)
            return 1;
    }
    return ends_in_call(before);
}

int
relib_returns_there(const relib_memory *memory, uintptr_t place, uintptr_t value)
{
    uintptr_t around[4];
    return relib_is_after_call(memory, value) ||
           (relib_memory_read(memory, place - 8, around, sizeof(around)) == sizeof(around) &&
            in_signal_frame(around));
}
