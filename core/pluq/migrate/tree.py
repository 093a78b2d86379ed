"""The file system of a site, as it was copied below a folder; nothing outside of that folder is ever read.

Paths are the site's own and absolute ("/var/qmail/control/me"). The target of an absolute link is a path of the site as well. A
link that climbs out of the root, leads in a circle or to nothing is a fault with a name, not an exception; so are pipes, sockets
and devices, which are not opened. Every read is bounded.

Source: path_resolution(7), with the root taken as chroot(2) would, but for links that climb above it.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

MAX_LINKS = 40  # as the kernel
MAX_READ = 4 << 20  # no configuration is longer; of longer lists the beginning is looked at
MAX_NAMES = 20_000  # entries of one folder

FILE = "file"
FOLDER = "folder"
OTHER = "other"
MISSING = "missing"
DANGLING = "dangling"
LOOP = "loop"
OUTSIDE = "outside"
DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Entry:
    """What a path leads to. `real` is the site's path without links; `kind` a FILE, FOLDER, OTHER, or why there is nothing."""

    path: str
    real: str
    kind: str
    size: int = 0
    mode: int = 0

    @property
    def executable(self) -> bool:
        return self.kind == FILE and bool(self.mode & 0o111)


class _Fault(Exception):
    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def join(folder: str, path: str) -> str:
    """Return `path` as seen from `folder`, without "." and doubled slashes; ".." is left to the links."""
    return path if path.startswith("/") else f"{folder.rstrip('/')}/{path}"


class Tree:
    """A site's files below `root`, a folder of this machine ("/" for the machine itself)."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self._below = "" if self.root == "/" else self.root

    def host(self, real: str) -> str:
        """Return where a path without links lies on this machine."""
        return self._below + real

    def entry(self, path: str) -> Entry:
        """Return what is there; never raises."""
        try:
            real = self._resolve(path)
            found = os.lstat(self.host(real) or "/")
        except _Fault as fault:
            return Entry(path, path, fault.kind)
        except FileNotFoundError:
            return Entry(path, path, MISSING)
        except (OSError, ValueError):
            return Entry(path, path, DENIED)
        if stat.S_ISDIR(found.st_mode):
            kind = FOLDER
        elif stat.S_ISREG(found.st_mode):
            kind = FILE
        else:
            kind = OTHER
        return Entry(path, real or "/", kind, found.st_size, stat.S_IMODE(found.st_mode))

    def _resolve(self, path: str) -> str:
        """Return the path without links. Raises _Fault, or OSError for what cannot be looked at."""
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                if not done and self.root != "/":
                    raise _Fault(OUTSIDE)
                del done[-1:]
                continue
            here = "/" + "/".join([*done, part])
            try:
                target = os.readlink(self.host(here))
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: there, and no link
                    missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
                    raise _Fault((DANGLING if links else MISSING) if missing else DENIED) from None
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                raise _Fault(LOOP)
            if target.startswith("/"):
                done.clear()
            pending += [piece for piece in reversed(target.split("/")) if piece not in ("", ".")]
        return "/" + "/".join(done) if done else ""

    def read(self, path: str, limit: int = MAX_READ) -> bytes | None:
        """Return the file, its first `limit` bytes if it is longer; None for whatever is no file that can be read."""
        found = self.entry(path)
        if found.kind != FILE:
            return None
        try:
            # A pipe that takes the file's place meanwhile must not block, a link must not be followed.
            fd = os.open(self.host(found.real), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
            with os.fdopen(fd, "rb") as file:
                return file.read(limit) if stat.S_ISREG(os.fstat(fd).st_mode) else None
        except OSError:
            return None

    def names(self, path: str) -> list[str]:
        """Return the names in a folder, sorted; none where there is no folder."""
        found = self.entry(path)
        if found.kind != FOLDER:
            return []
        try:
            with os.scandir(self.host(found.real) or "/") as entries:
                names = [entry.name for entry, _ in zip(entries, range(MAX_NAMES), strict=False)]
        except OSError:
            return []
        return sorted(names)

    def real_folder(self, path: str) -> str:
        """Return the path with its folder's links taken away; the last name stays as it is."""
        folder, _, name = path.rstrip("/").rpartition("/")
        found = self.entry(folder or "/")
        return f"{found.real.rstrip('/')}/{name}" if found.kind == FOLDER else path

    def is_folder(self, path: str) -> bool:
        return self.entry(path).kind == FOLDER

    def is_file(self, path: str) -> bool:
        return self.entry(path).kind == FILE
