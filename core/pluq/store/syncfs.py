"""syncfs: one wait for everything on a filesystem.

Since Linux 5.8 it reports write-back errors, each once for each open descriptor; before that it cannot be trusted, and other systems
have no such call. Python does not offer it, so it is called in the C library. The function is looked up when this module is imported:
a role imports it before it becomes a user who may not read the library's folder.

Source: syncfs(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable

__all__ = ["have_syncfs", "syncfs"]

REPORTS_ERRORS = (5, 8)


def _find() -> Callable[[int], int] | None:
    """Return the C library's function, None where it does not exist or hides errors."""
    if sys.platform != "linux":
        return None
    major, minor = os.uname().release.split(".")[:2]
    if (int(major), int(minor.split("-")[0])) < REPORTS_ERRORS:
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None:
        return None
    function.argtypes = [ctypes.c_int]
    return function  # type: ignore[no-any-return]  # ctypes gives functions no type


_syncfs = _find()


def have_syncfs() -> bool:
    """Say whether `syncfs` can be used here."""
    return _syncfs is not None


def syncfs(fd: int) -> None:
    """Make everything on the filesystem that `fd` lies on durable, data and names. Raises OSError.

    Errors are reported to a descriptor that was opened before the writing.
    """
    if _syncfs is None:
        raise OSError(errno.ENOSYS, "syncfs is not available")
    if _syncfs(fd) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    os.fstat(fd)  # see durable.py
