/* Calls of a library redirected to us, so that what it makes from its own code is known.

   The module object of a well made extension is alive exactly as long as anything made from its
   code is. Some calls make objects that hold a pointer into the library and no reference to the
   module: a capsule, a type without a module, a bare built-in function, a view of static memory.
   Those calls are redirected, in the library's own GOT, to hooks that note the object. Other calls
   hand a pointer to a place that can only be searched, or that cannot even be searched: that the
   library imports them is noted, and the unload checklist looks accordingly. */
#ifndef RELIB_INTERPOSE_H
#define RELIB_INTERPOSE_H

#include "library.h"

enum {
    RELIB_USES_SIGNALS = 1,      /* may set a signal handler */
    RELIB_USES_KEYS = 2,         /* may make a pthread key with a destructor */
    RELIB_USES_REGISTRIES = 4,   /* may leave a pointer in another library's data */
    RELIB_USES_FOR_EVER = 8,    /* imports a registration that cannot be searched or taken back */
    RELIB_USES_LOOSE = 16,       /* made something that can outlive it and cannot be watched */
};

/* Notes what `library` imports and redirects the calls that are watched, until
   relib_created_forget(). Call it before any of its code but its constructors has run. Needs the
   GIL. 0, or -1 with an exception. */
int relib_interpose(relib_library *library);

#endif
