"""Real filesystems in files: cut off, filled up, broken. Needs root and loop devices.

The power cut is the shutdown ioctl without flushing the journal: what was not made durable is gone, and the next mount replays the
journal of the real filesystem.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

MIB = 1 << 20
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
MAKE = {
    "ext4": ("mkfs.ext4", "-q", "-F"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}
# mkfs.xfs refuses less than 300 MB; the files are sparse.
SIZES = {"ext4": 192 * MIB, "xfs": 320 * MIB}
UNMOUNT_SECONDS = 60.0


class Disk:
    """A mounted filesystem of its own."""

    def __init__(self, folder: str, kind: str, size: int, options: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self._image, self.path = f"{folder}/image", f"{folder}/disk"
        os.mkdir(self.path)
        with open(self._image, "wb") as file:
            file.truncate(size)
        subprocess.run([*MAKE[kind], *options, self._image], check=True, capture_output=True)
        self.mount()

    def mount(self) -> None:
        """Mount, when the last of the former mount is gone: the kernel lets go of it a moment after umount returns."""
        deadline = time.monotonic() + UNMOUNT_SECONDS
        while True:
            subprocess.run(["mount", "-o", "loop", self._image, self.path], check=True, capture_output=True)
            try:
                os.listdir(self.path)
                with open(f"{self.path}/.alive", "wb", buffering=0) as file:
                    file.write(b"x")
                return
            except OSError:
                self.unmount()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def unmount(self) -> None:
        """Unmount; whoever was killed on it may need a moment to let go."""
        deadline = time.monotonic() + UNMOUNT_SECONDS
        while subprocess.run(["umount", self.path], capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "cannot unmount", self.path)
            time.sleep(0.05)

    def cut(self) -> None:
        """The power goes."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def make_read_only(self) -> None:
        """Have the kernel find an error and go read-only under the feet of all who write (errors=remount-ro)."""
        subprocess.run(["mount", "-o", "remount,abort", self.path], check=True, capture_output=True)

    def fill(self) -> str:
        """Take all space; returns the file to remove again, which is not there if mail had taken it all."""
        path = f"{self.path}/filler"
        with suppress(OSError), open(path, "wb", buffering=0) as file:
            for size in (MIB, 4096, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))
        return path

    def take_inodes(self) -> str:
        """Take all inodes; returns the folder to remove again, which is not there if mail had taken them all."""
        path = f"{self.path}/fillers"
        try:
            os.mkdir(path)
            for number in range(1 << 20):
                os.close(os.open(f"{path}/{number}", os.O_CREAT | os.O_WRONLY))
        except OSError:
            pass
        return path


def why_not(kind: str) -> str | None:
    """Return why this machine cannot do it, None if it can."""
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which(MAKE[kind][0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
        return f"needs {MAKE[kind][0]}"
    return why_no_mounts(kind)


@cache
def why_no_mounts(kind: str) -> str | None:
    """Return what keeps this machine, a container perhaps, from mounting a disk in a file."""
    try:
        with new_disk(kind):
            return None
    except subprocess.CalledProcessError as error:
        return f"no disk in a file: {error.stderr.decode(errors='replace').strip().splitlines()[0]}"


@contextmanager
def new_disk(kind: str, size: int = 0, options: tuple[str, ...] = ()) -> Iterator[Disk]:
    """A filesystem that is gone afterwards."""
    folder = tempfile.mkdtemp(prefix="pluq-disk.")
    os.chmod(folder, 0o755)
    try:
        disk = Disk(folder, kind, size or SIZES[kind], options)
        try:
            yield disk
        finally:
            disk.unmount()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
