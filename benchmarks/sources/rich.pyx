# cython: language_level=3
"""What tends to leave something behind: exceptions, enums, views of memory, closures."""
EDITION = 0

cpdef enum Colour:
    RED = 1
    GREEN = 2


class Refused(Exception):
    pass


cdef class Grid:
    cdef double[:, ::1] cells
    cdef object seen

    def __init__(self, double[:, ::1] cells):
        self.cells = cells
        self.seen = []

    def total(self):
        cdef double total = 0
        cdef Py_ssize_t i, j
        for i in range(self.cells.shape[0]):
            for j in range(self.cells.shape[1]):
                total += self.cells[i, j]
        self.seen.append(lambda: (self, total))  # a cycle, through a closure
        return total


def refuse(int depth):
    if depth == 0:
        raise Refused(Colour.GREEN)
    return refuse(depth - 1)


def adder(by):
    def add(x):
        return x + by
    return add


def use(buffer):
    cdef double[::1] flat
    grid = Grid(buffer)
    total = grid.total()
    flat = buffer.cast("B").cast("d")
    try:
        refuse(3)
    except Refused as refusal:
        colour = refusal.args[0]
    try:
        [][int(total)]
    except IndexError:
        pass
    return adder(flat[0])(total), Colour(1), colour
