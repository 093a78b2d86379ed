"""Making what one turn of the scheduler wrote durable, with as few waits for the disk as possible.

A few files: all are begun, each is synced, then each folder in which a name changed. Many: one syncfs for all. Either way `commit` says
whether everything is safe; after a failure nobody knows what is, so everything in the batch counts as not written.

Source: pluq.store.durable.
"""

from __future__ import annotations

import errno
import os

from pluq.queue.reader import never_waiting
from pluq.store import durable
from pluq.store.syncfs import have_syncfs, syncfs
from pluq.store.writeout import start_writing

SYNCFS_FROM = 8
"""From so many files and folders one syncfs is cheaper than a sync of each; below, it would wait for strangers' data."""


class SyncBatch:
    """Files and folders of the queue to sync together."""

    def __init__(self, queue: str) -> None:
        # Opened before anything is written: the kernel reports each lost write once for each open descriptor.
        self._queue = os.open(queue, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._files: list[int] = []
        self._paths: list[str] = []
        self._folders: set[str] = set()

    def add_file(self, descriptor: int) -> None:
        """Add a file that was written; the batch closes it."""
        self._files.append(descriptor)

    def add_path(self, path: str) -> None:
        """Add a file of which something was changed; it is opened when it is synced."""
        self._paths.append(path)

    def add_folder(self, path: str) -> None:
        """Add a folder in which a name appeared or went away."""
        self._folders.add(path)

    def commit(self) -> bool:
        """Wait for the disk. True: all is durable. The batch is empty afterwards."""
        try:
            self._sync()
        except OSError:
            return False
        finally:
            for descriptor in self._files:
                os.close(descriptor)
            self._files.clear()
            self._paths.clear()
            self._folders.clear()
        return True

    def _sync(self) -> None:
        if len(self._files) + len(self._paths) + len(self._folders) >= SYNCFS_FROM and have_syncfs():
            syncfs(self._queue)
            return
        if start_writing(self._files):
            raise OSError(errno.EIO, "not all could be written")
        for descriptor in self._files:
            durable.fsync(descriptor)
        for path in self._paths:
            descriptor = never_waiting(path, os.O_RDONLY)
            try:
                durable.fsync(descriptor)
            finally:
                os.close(descriptor)
        for folder in self._folders:
            durable.fsync_dir(folder)
