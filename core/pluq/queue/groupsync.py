"""One wait for the disk for many files.

syncfs waits once for all data and names of a filesystem, whoever wrote them: the cheapest way while the queue has its
disk to itself, a slow one beside a bulk writer: it may take seconds there. fsync of each file waits for these files alone: all of them are begun, so
that the first wait is nearly all of it, and then waited for in turn. On a disk that answers late some threads wait at once, which takes
three times the processor.
The durations of both are measured with the first two groups, the cheaper one is used, and the other one is tried again from time to time: the
longer it took, the more seldom, so that trying costs a twentieth of the time at most.

Both report write errors; a file that one was reported for must not be trusted again. syncfs cannot say which file it was:
then all of the group fail, and from then on each file is synced by itself.

Source: syncfs(2), fsync(2), sync_file_range(2).
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

from pluq.store.durable import fsync, fsync_dir
from pluq.store.syncfs import have_syncfs, syncfs
from pluq.store.writeout import start_writing

__all__ = ["GroupSync"]

# Threads that fsync at the same time: beyond a handful a disk's queue or the journal is the limit.
THREADS = 8
# A wait for the disk that is longer than this is long: then threads are worth their price.
LATE_SECONDS = 0.002
# The method that looked slower is measured again after so many times as long as it took.
PROBE_SHARE = 20
# A folder has to be opened to be synced; the descriptor for syncfs is there already.
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
# Weight of the newest measurement.
WEIGHT = 0.25


class GroupSync:
    """Syncs groups of files on the filesystem of `fd`, which must have been opened before they are written."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._usable = have_syncfs()
        self._syncfs_seconds = 0.0
        self._fsync_seconds = 0.0  # of one file in a group
        self._is_late = False
        self._until_probe = 0.0
        """Seconds of syncing until the other method is measured again."""
        self._threads: ThreadPoolExecutor | None = None

    def sync(self, files: Sequence[int], folders: Sequence[str]) -> set[int]:
        """Make the files' data and the names in the folders durable; return the descriptors that failed."""
        count = len(files)
        by_syncfs, is_probe = self._choose(count)
        start = perf_counter()
        failed = self._sync_all(files) if by_syncfs else self._sync_each(files, folders)
        elapsed = perf_counter() - start
        if by_syncfs:
            self._syncfs_seconds = elapsed if is_probe else smoothed(self._syncfs_seconds, elapsed)
        else:
            self._fsync_seconds = elapsed / count if is_probe else smoothed(self._fsync_seconds, elapsed / count)
        if is_probe:
            self._until_probe = max(self._until_probe, PROBE_SHARE * elapsed)
        else:
            self._until_probe -= elapsed
        return failed

    def _choose(self, count: int) -> tuple[bool, bool]:
        """Return whether syncfs is the way for so many files, and whether that is to be found out."""
        if not self._usable:
            return False, False
        if not self._syncfs_seconds or not self._fsync_seconds:
            return not self._syncfs_seconds, True
        cheaper = self._syncfs_seconds <= self._fsync_seconds * count
        is_probe = self._until_probe <= 0
        return cheaper is not is_probe, is_probe

    def _sync_all(self, files: Sequence[int]) -> set[int]:
        try:
            syncfs(self._fd)
        except OSError:
            self._usable = False
            return set(files)
        return set()

    def _sync_each(self, files: Sequence[int], folders: Sequence[str]) -> set[int]:
        failed = {fd for fd, good in zip(files, self._map(files), strict=True) if not good} if files else set()
        try:
            for folder in folders:
                fsync_dir(folder)
        except OSError as error:
            if self._usable and error.errno in NO_DESCRIPTOR:
                return failed | self._sync_all(files)
            return set(files)
        return failed

    def _map(self, files: Sequence[int]) -> list[bool]:
        unwritable = start_writing(files)
        wait = self._wait_at_once if self._is_late and len(files) > 1 else self._wait_in_turn
        return [is_good and fd not in unwritable for fd, is_good in zip(files, wait(files), strict=True)]

    def _wait_in_turn(self, files: Sequence[int]) -> list[bool]:
        start = perf_counter()
        good = [is_synced(files[0])]
        self._is_late = perf_counter() - start > LATE_SECONDS
        good += map(is_synced, files[1:])
        return good

    def _wait_at_once(self, files: Sequence[int]) -> list[bool]:
        start = perf_counter()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "fsync")
        good = list(self._threads.map(is_synced, files))
        self._is_late = (perf_counter() - start) / -(-len(files) // THREADS) > LATE_SECONDS
        return good


def is_synced(fd: int) -> bool:
    """fsync one file; False when the kernel reports an error, after which nothing about the file is sure."""
    try:
        fsync(fd)
    except OSError:
        return False
    return True


def smoothed(old: float, new: float) -> float:
    """Return a moving average."""
    return old + WEIGHT * (new - old)
