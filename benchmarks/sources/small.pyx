# cython: language_level=3
EDITION = 0

cdef class Counter:
    cdef public int n
    def __init__(self, n=0): self.n = n
    cdef int add(self, int by):
        self.n += by
        return self.n
    cpdef int bump(self, int by=1): return self.add(by)
    def __iter__(self):
        for i in range(self.n):
            yield i

def fib(long n):
    cdef long a = 0, b = 1, i
    for i in range(n):
        a, b = b, a + b
    return a

async def later(x): return x
