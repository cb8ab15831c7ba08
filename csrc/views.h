/* Views of a library's memory.

   A memoryview that PyMemoryView_FromMemory or PyMemoryView_FromBuffer makes refers to nobody, and
   every slice of it shares its buffer, not the view. So the buffer gets an owner, whose life is
   that of the last of them, and which takes weak references. */
#ifndef RELIB_VIEWS_H
#define RELIB_VIEWS_H

#include <Python.h>

/* A memoryview of what `buffer` describes, which is copied but for what it points to; its obj is
   ignored. Sets *owner to the new owner of its buffer, borrowed from the view.
   Needs the GIL. NULL with an exception. */
PyObject *relib_view(const Py_buffer *buffer, PyObject **owner);

/* Makes the type of the owners. Needs the GIL. 0, or -1 with an exception. */
int relib_views_init(void);

#endif
