"""Beginning to write files to the disk, without waiting for it.

Where a filesystem gives a file its blocks only when it is written out (ext4, XFS, btrfs), each fsync of some new files finds blocks for its
own and then waits for a commit of the journal, one after the other. If all are begun first, the first wait is nearly all of it: two or three
files take half the time. This makes nothing safe: fsync must follow for each file.

Python does not offer the call, so it is called in the C library; the function is looked up when this module is imported, as in syncfs.

Source: sync_file_range(2).
"""

from __future__ import annotations

import ctypes
import errno
import sys
from collections.abc import Callable, Sequence

__all__ = ["start_writing"]

SYNC_FILE_RANGE_WRITE = 2
TO_THE_END = 0
HARMLESS = (errno.ENOSYS, errno.ESPIPE, errno.EINVAL)
"""The kernel or this kind of file does not have it: then fsync does everything."""


def _find() -> Callable[[int, int, int, int], int] | None:
    if sys.platform != "linux":
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
    if function is None:
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    return function  # type: ignore[no-any-return]  # ctypes gives functions no type


_sync_file_range = _find()


def start_writing(files: Sequence[int]) -> set[int]:
    """Begin to write these files; return those that cannot be written, which must be given up: fsync may not say so again.

    One file is left to its fsync.
    """
    if len(files) < 2 or _sync_file_range is None:
        return set()
    return {file for file in files if _sync_file_range(file, 0, TO_THE_END, SYNC_FILE_RANGE_WRITE) and is_trouble()}


def is_trouble() -> bool:
    """Say whether the last call failed for the file's sake."""
    return ctypes.get_errno() not in HARMLESS
