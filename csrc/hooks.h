/* The hooks that Python keeps in linked lists on the heap, where a search of data segments does
   not come: audit hooks and PyUnstable_AtExit functions. */
#ifndef RELIB_HOOKS_H
#define RELIB_HOOKS_H

#include "mappings.h"
#include "words.h"

/* Is told of a hook: the function it was registered with, and where it points. */
typedef void (*relib_hook_found)(void *argument, const char *registry, uintptr_t value);

/* Searches the lists for hooks within `library`, if that imports a function to register one; if
   they cannot be searched, that it does is reported. Needs the GIL, which keeps the lists as they
   are. 0, or -1 without memory. */
int relib_search_hooks(const relib_memory *memory, relib_range library, relib_hook_found found,
                        void *argument);

#endif
