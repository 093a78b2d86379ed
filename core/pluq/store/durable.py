"""Making files survive a power cut.

A file's bytes are safe after fsync(file), its name after fsync(directory); link, rename and unlink alone promise nothing on
Linux. After a failed fsync the kernel may have dropped the dirty pages and forgotten it: the next fsync of that file would
say "done" about lost bytes. So nobody here retries: the error goes up, and the caller gives the file up.

An XFS that has shut itself down, as it does when its disk fails, says success to an fsync of a folder whose new names it has dropped; but it
refuses to tell anything about the folder. So each success is followed by that question.

Source: fsync(2), rename(2); "Can Applications Recover from fsync Failures?", USENIX ATC 2020.
"""

from __future__ import annotations

import os

__all__ = ["fsync", "fsync_dir", "pwrite_all", "write_all", "write_file_durably"]


def fsync(fd: int) -> None:
    """Make a file's bytes, or the names in a folder, durable. Raises OSError."""
    os.fsync(fd)
    os.fstat(fd)  # is the filesystem alive?


def fsync_dir(path: str | bytes) -> None:
    """Make the names in a directory durable. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte, however the kernel cuts them. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def pwrite_all(fd: int, data: bytes, at: int) -> None:
    """Write every byte from a place on, however the kernel cuts them. Raises OSError."""
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, at)
        view, at = view[written:], at + written


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
            fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    fsync_dir(os.path.dirname(path) or ".")
