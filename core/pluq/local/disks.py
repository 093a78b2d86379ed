"""The disks that Maildirs lie on, and waiting for them: by oneself, or together with everybody.

    of(folder)             before anything is written there: which disk it is, as a device number
    sync(device, files)    make files safe, return those that are not
    sync_folders           the same for the names in the new/ of Maildirs

`Disks` is what one process does by itself. Where mail comes for many users at once, each of their workers has one message and would
wait for the disk twice, while all the others do the same. So `SharedDisks` hands the open files to the syncer (syncer.py), a process that
serves all workers and makes safe what has come from them as one group. It is asked only for real disks: a filesystem of
a user's own making (FUSE) or a file server can hold up nobody but the worker that uses it. Where the syncer is gone, a worker does it
all by itself.

Source: docs/internals.md, "Local delivery".
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterable, Iterator, Sequence

from pluq.errors import TemporaryFailure
from pluq.queue.groupsync import GroupSync, is_synced
from pluq.store import maildir
from pluq.store.writeout import start_writing

FEW = 3
"""Up to so many files are synced one by one: they share the journal's commit, and nobody else's data is flushed."""
MOST_FILES = 128
"""Files in one request to the syncer; the kernel passes 253 at most."""
HOLD, SYNC = b"h", b"s"
JOIN = b"j"
SAFE = 0


class Disks:
    """Syncs in this process."""

    def __init__(self) -> None:
        self._syncs: dict[int, GroupSync] = {}

    def of(self, folder: int) -> int:
        """Return the device of a Maildir. Called before anything is written there, so that no write error is missed."""
        device = os.fstat(folder).st_dev
        if device not in self._syncs:
            try:
                self._syncs[device] = GroupSync(open_new(folder))
            except OSError:  # not to be read, or not there: then one by one
                return device
        return device

    def sync(self, device: int, files: Sequence[int]) -> set[int]:
        """Make files of one device safe; return those that are not."""
        return sync_group(self._syncs.get(device), files)

    def sync_folders(self, device: int, folders: Iterable[int]) -> set[int]:
        """Make the names in the new/ of these Maildirs safe; return those where they are not."""
        return {folder for folder in folders if not is_new_synced(folder)}

    def close(self) -> None:
        """Nothing is delivered any more."""


class SharedDisks(Disks):
    """Has the syncer do it. `door` is where it takes new workers; this process must have no other copy of its far end."""

    def __init__(self, door: socket.socket) -> None:
        super().__init__()
        self._door = door
        self._lines: dict[int, socket.socket] = {}
        self._held: set[int] = set()

    def close(self) -> None:
        """Leave the syncer."""
        for line in self._lines.values():
            line.close()

    def of(self, folder: int) -> int:
        device = os.fstat(folder).st_dev
        if device in self._held:
            return device
        is_disk = os.major(device) != 0  # filesystems without a disk of their own have no major number
        if is_disk and self._hold(device, folder):
            self._held.add(device)
            return device
        return super().of(folder)

    def _hold(self, device: int, folder: int) -> bool:
        """Have the syncer keep a folder of this disk open from now on: it hears of every write error then."""
        try:
            new = open_new(folder)
        except OSError:
            return False
        try:
            if device not in self._lines:
                self._lines[device] = join(self._door, new)
        except OSError:
            return False
        else:
            return self._ask(device, HOLD, [new]) is not None
        finally:
            os.close(new)

    def sync(self, device: int, files: Sequence[int]) -> set[int]:
        if device not in self._held:
            return super().sync(device, files)
        lost: set[int] = set()
        for part in parts(files):
            answer = self._ask(device, SYNC, part)
            if answer is None:
                lost |= sync_group(None, part)
                continue
            lost |= {file for file, state in zip(part, answer[1:], strict=True) if state != SAFE}
            if not answer[0]:
                self._held.discard(device)
        return lost

    def sync_folders(self, device: int, folders: Iterable[int]) -> set[int]:
        if device not in self._held:
            return super().sync_folders(device, folders)
        opened: dict[int, int] = {}
        lost: set[int] = set()
        try:
            for folder in folders:
                try:
                    opened[open_new(folder)] = folder
                except OSError:
                    lost |= super().sync_folders(device, [folder])
            return lost | {opened[new] for new in self.sync(device, list(opened))}
        finally:
            for new in opened:
                os.close(new)

    def _ask(self, device: int, what: bytes, files: Sequence[int]) -> bytes | None:
        """Send a request and return its answer; None when the syncer is gone, and all is ours from now on."""
        try:
            line = self._lines[device]
            send_files(line, what, files)
            answer = line.recv(MOST_FILES + 1)
        except OSError:
            answer = b""
        if len(answer) == len(files) + 1:
            return answer
        self._held.clear()
        return None


def join(door: socket.socket, folder: int) -> socket.socket:
    """Return a line to the syncer behind the door, for the disk of an open folder. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            send_files(door, JOIN, [theirs.fileno(), folder])
        except OSError:
            ours.close()
            raise
    return ours


def send_files(sock: socket.socket, what: bytes, files: Sequence[int]) -> None:
    """Send one packet with open files. Raises OSError."""
    sock.sendmsg([what], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))], socket.MSG_NOSIGNAL)


def parts(files: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield the files in requests of MOST_FILES."""
    for start in range(0, len(files), MOST_FILES):
        yield files[start : start + MOST_FILES]


def sync_group(group: GroupSync | None, files: Sequence[int]) -> set[int]:
    """Make files safe in the way that suits their number; return those that are not."""
    if group is None or len(files) <= FEW:
        return start_writing(files) | {file for file in files if not is_synced(file)}
    return group.sync(files, ())


def open_new(folder: int) -> int:
    """Return a descriptor of the new/ of a Maildir. Raises OSError."""
    return os.open(b"new", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)


def is_new_synced(folder: int) -> bool:
    try:
        maildir.sync_new(folder)
    except TemporaryFailure:
        return False
    return True


__all__ = ["FEW", "Disks", "SharedDisks"]
