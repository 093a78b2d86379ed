"""Making files survive a power cut.

A file's bytes are safe after fsync(file), its name after fsync(directory); link, rename and unlink alone promise nothing on
Linux. After a failed fsync the kernel may have dropped the dirty pages and forgotten it: the next fsync of that file would
say "done" about lost bytes. So nobody here retries: the error goes up, and the caller gives the file up.

Source: fsync(2), syncfs(2), rename(2); "Can Applications Recover from fsync Failures?", USENIX ATC 2020.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

__all__ = ["fsync_dir", "have_syncfs", "syncfs", "write_all", "write_file_durably"]


def fsync_dir(path: str | bytes) -> None:
    """Make the names in a directory durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte, however the kernel cuts them. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_file_durably(path: str, data: bytes, mode: int = 0o644) -> None:
    """Replace the file by one with these bytes: afterwards, also after a power cut, it is the old one or the new one whole.

    The new file is `path` with ".tmp" added until it is complete. Raises OSError; the old file is untouched then.
    """
    temporary = path + ".tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(fd, mode)
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    fsync_dir(os.path.dirname(path) or ".")


def _find_syncfs() -> Callable[[int], int] | None:
    """Return libc's syncfs, or None where there is none or where it does not report errors (Linux before 5.8)."""
    if sys.platform != "linux":
        return None
    import ctypes

    release = os.uname().release.split(".")
    if (int(release[0]), int(release[1].split("-")[0])) < (5, 8):
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if function is None:
        return None
    function.argtypes = [ctypes.c_int]
    return function  # type: ignore[no-any-return]  # ctypes gives functions no type


_syncfs: Callable[[int], int] | None = None
_searched = False


def have_syncfs() -> bool:
    """`syncfs` can be used here."""
    global _syncfs, _searched
    if not _searched:
        _syncfs, _searched = _find_syncfs(), True
    return _syncfs is not None


def syncfs(fd: int) -> None:
    """Make everything on the filesystem that `fd` lies on durable, data and names. Raises OSError.

    The kernel reports each write-back error once for each open descriptor: use one that was opened before the writing.
    """
    import ctypes

    if not have_syncfs():
        raise OSError(38, "syncfs is not available")
    assert _syncfs is not None
    if _syncfs(fd) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
