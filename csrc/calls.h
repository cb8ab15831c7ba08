/* Which words of a stack show that a call into a library has not returned yet.

   A stack is searched word by word first: that is quick, needs no unwind tables (tcc makes none)
   and misses nothing. What is found may be left over from an earlier call; unwind.h tells. */
#ifndef RELIB_CALLS_H
#define RELIB_CALLS_H

#include "mappings.h"
#include "words.h"

typedef struct {
    relib_range whole; /* all of the library's mapping */
    relib_range code;  /* from its first executable segment to the end of its last */
} relib_code;

/* The library that is mapped in `range`. Where the loader knows of none there, all of it counts as
   code. Takes the loader's list lock for a moment, needs no GIL. */
relib_code relib_code_at(relib_range range);

/* Whether the instruction before `address` is a call; also when it cannot be read. Needs no GIL and
   is safe in a signal handler. */
int relib_is_after_call(const relib_memory *memory, uintptr_t address);

/* Whether `value`, found on a stack at `place`, may be what a call or a signal has left there to
   return to. Needs no GIL and is safe in a signal handler. */
int relib_returns_there(const relib_memory *memory, uintptr_t place, uintptr_t value);

/* Whether the caller of the function at `pc`, which is waiting in a system call, has its return
   address on the stack rather than in a register that the kernel does not tell. */
int relib_caller_on_stack(const relib_memory *memory, uintptr_t pc);

#endif
