# cython: language_level=3, boundscheck=False, wraparound=False
"""The rules of the Game of Life. Edit them while main.py runs."""


def step(const unsigned char[:] board, int width, int height):
    """The next generation of a board that is a torus, row by row."""
    after = bytearray(width * height)
    cdef unsigned char[:] cells = after
    cdef int x, y, neighbours
    for y in range(height):
        for x in range(width):
            neighbours = count(board, width, height, x, y)
            # Born with 3 neighbours, alive on with 2 or 3. Try 6 for births as well ("HighLife").
            cells[y * width + x] = neighbours == 3 or (neighbours == 2 and board[y * width + x])
    return after


cdef int count(const unsigned char[:] board, int width, int height, int x, int y):
    cdef int total = 0, dx, dy
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            if dx or dy:
                total += board[(y + dy + height) % height * width + (x + dx + width) % width]
    return total
