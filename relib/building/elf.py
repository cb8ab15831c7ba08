"""Two things about a shared object that a compiler may leave undone."""

from __future__ import annotations

import os
import struct
from pathlib import Path

__all__ = ["forbid_executable_stack", "is_whole"]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_PT_GNU_STACK = 0x6474E551
_READ_WRITE = 6


def is_whole(path: Path) -> bool:
    """Whether a 64-bit ELF file has all the bytes that its header promises.

    tcc does not look at what write() returns: with a full disk it leaves half a file and reports
    success. Linkers put the table of sections last, or its end near the end, so a file that reaches
    to the end of that table is whole.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_HEADER.size)
    if len(start) < _HEADER.size or start[:4] != b"\x7fELF":
        return False
    if start[4:6] != b"\x02\x01":  # not 64 bits little endian: nothing known against it
        return True
    header = _HEADER.unpack(start)
    segments_end = header[5] + header[9] * header[10]
    sections_end = header[6] + header[11] * header[12]
    return bool(max(segments_end, sections_end) <= size)


def forbid_executable_stack(library: Path) -> None:
    """Give a library the mark PT_GNU_STACK, where it has none.

    Without the mark, dlopen of glibc before 2.41 makes the stacks of the whole process executable,
    and later ones refuse to load the library ("cannot enable executable stack"). tcc up to 0.9.28
    writes none. There is no room in the table of segments, so a longer one goes to the end of the
    file; _dl_map_object_from_fd (elf/dl-load.c) copies a table that lies in no segment. It counts
    whole pages of a segment, though, and then clears what is left of the last one: the table has to
    begin on a page of its own.
    """
    with library.open("r+b") as file:
        start = file.read(_HEADER.size)
        if len(start) < _HEADER.size or start[:6] != b"\x7fELF\x02\x01":
            return
        header = list(_HEADER.unpack(start))
        offset, entry_size, count = header[5], header[9], header[10]
        if entry_size != _SEGMENT.size:
            return
        file.seek(offset)
        table = file.read(entry_size * count)
        if any(segment[0] == _PT_GNU_STACK for segment in _SEGMENT.iter_unpack(table)):
            return
        page = os.sysconf("SC_PAGESIZE")
        aligned = -(-file.seek(0, os.SEEK_END) // page) * page
        file.seek(aligned)
        file.write(table)
        file.write(_SEGMENT.pack(_PT_GNU_STACK, _READ_WRITE, 0, 0, 0, 0, 0, 16))
        header[5], header[10] = aligned, count + 1
        file.seek(0)
        file.write(_HEADER.pack(*header))
