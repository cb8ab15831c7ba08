"""Which file systems say when their files change."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

__all__ = ["all_changes_give_events", "file_system_of"]

# On these nothing changes but through this kernel, which then knows. Others (nfs, cifs, 9p, fuse,
# virtiofs, a container's overlay over something of the host's, and what nobody has heard of) give
# events for what is done here, and none for what is done elsewhere.
_LOCAL = {
    *("bcachefs", "btrfs", "devtmpfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs"),
    *("fuseblk", "hugetlbfs", "iso9660", "jfs", "minix", "msdos", "nilfs2", "ntfs", "ntfs3"),
    *("proc", "ramfs", "reiserfs", "rootfs", "squashfs", "sysfs", "tmpfs", "udf", "vfat"),
    *("xfs", "zfs"),
}
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def all_changes_give_events(directory: str) -> bool:
    """Whether events alone will tell of every change in a directory.

    >>> all_changes_give_events("/proc/self")
    True
    """
    try:
        mounts = _MOUNTS.read_text(errors="surrogateescape")
    except OSError:
        return False
    return file_system_of(directory, mounts) in _LOCAL


def file_system_of(directory: str, mounts: str) -> str | None:
    r"""The type of the file system that a directory, given without links, is in.

    Args:
        directory: an absolute path.
        mounts: the text of /proc/self/mountinfo.

    >>> mounts = "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:4 / /my\\040src rw - nfs4 h:/x rw"
    >>> file_system_of("/my src/pkg", mounts), file_system_of("/my srcs", mounts)
    ('nfs4', 'ext4')
    """
    found = None
    longest = -1
    for point, kind in _parsed(mounts):
        inside = directory == point or directory.startswith(point.rstrip("/") + "/")
        # the last of several on one point hides the others
        if inside and len(point) >= longest:
            found, longest = kind, len(point)
    return found


@lru_cache(maxsize=2)
def _parsed(mounts: str) -> tuple[tuple[str, str], ...]:
    entries = []
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) > 4 and after:
            point = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), fields[4])
            entries.append((point, after.split(" ", 1)[0]))
    return tuple(entries)
