# Translated before the first request; see translation.py, Translator.rehearse.
cdef class Counter:
    cdef public int n
    cpdef int bump(self, int by=1):
        self.n += by
        return self.n
def each(int n):
    for i in range(n):
        yield i
