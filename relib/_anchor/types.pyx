# cython: language_level=3
# One use of each construct whose type lives in Cython's ABI module, so that this module, loaded
# before any other, becomes the owner of them all: functions, fused functions, generators,
# coroutines, async generators and closures.
ctypedef fused number:
    int
    double


def fused(number x):
    return x


def generator():
    yield 1


async def coroutine():
    return await coroutine()


async def asynchronous_generator():
    yield 1


def closure(x):
    def inner():
        return x

    return inner


cdef class Class:
    cpdef method(self):
        return self
