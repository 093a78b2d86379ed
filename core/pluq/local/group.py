"""Messages for Maildirs that wait for the disk together.

    add      open the Maildir once, write to tmp/           commit    sync all files, link all, sync each new/ once

How many files are synced is up to the disk: a few one by one, more by whatever has been measured as cheaper (queue.groupsync). Each
delivery succeeds or fails by itself.

Source: DESIGN "Durability"; maildir(5).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from pluq.errors import PermanentFailure, TemporaryFailure
from pluq.local.deliver import Prepared, head_lines
from pluq.queue.groupsync import GroupSync, is_synced
from pluq.store import maildir
from pluq.store.maildir import Staged

FEW = 3
"""Up to so many files are synced one by one: the journal's commit costs the same, and nobody else's data is flushed."""

Delivery = tuple[int, Staged]
"""The number of a job and its message."""


class Disks:
    """The filesystems that Maildirs lie on, by device number, and how to sync files on each."""

    def __init__(self) -> None:
        self._syncs: dict[int, GroupSync] = {}

    def of(self, folder: int) -> int:
        """Return the device of a Maildir. Called before anything is written there, so that no write error is missed."""
        device = os.fstat(folder).st_dev
        if device not in self._syncs:
            try:
                new = os.open(b"new", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
            except OSError:  # not to be read, or not there: then one by one
                return device
            self._syncs[device] = GroupSync(new)
        return device

    def sync(self, device: int, files: Sequence[int]) -> set[int]:
        """Make files of one device safe; return those that are not."""
        group = self._syncs.get(device)
        if group is None or len(files) <= FEW:
            return {file for file in files if not is_synced(file)}
        return group.sync(files, ())


class Group:
    """One batch. Failures are told to `failed`, what is delivered to `delivered`, each by its job number."""

    def __init__(
        self,
        disks: Disks,
        delivered: Callable[[int], None],
        failed: Callable[[int, TemporaryFailure | PermanentFailure], None],
        sized_names: bool = False,
    ) -> None:
        self.disks = disks
        self.sized_names = sized_names
        self.delivered = delivered
        self.failed = failed
        self._folders: dict[tuple[bytes, bytes], tuple[int, int]] = {}
        self._staged: dict[int, list[Delivery]] = {}

    def add(self, job: int, path: bytes, ready: Prepared) -> None:
        """Write a message to tmp/ of the Maildir `path`. Raises TemporaryFailure."""
        key = (ready.order.home, path)
        place = self._folders.get(key)
        if place is None:
            folder = maildir.open_maildir(path, ready.folder)
            place = self._folders[key] = folder, self.disks.of(folder)
        staged = maildir.stage(place[0], head_lines(ready.order), ready.message, self.sized_names)
        self._staged.setdefault(place[1], []).append((job, staged))

    def commit(self) -> None:
        """Deliver everything that was added."""
        published: list[Delivery] = []
        for device, deliveries in self._staged.items():
            published += self._publish(self._sync(device, deliveries))
        broken = self._sync_folders({staged.folder for _, staged in published})
        for job, staged in published:
            failure = broken.get(staged.folder)
            if failure is None:
                self.delivered(job)
            else:
                self.failed(job, failure)
        for folder, _ in self._folders.values():
            os.close(folder)

    def _sync(self, device: int, deliveries: list[Delivery]) -> list[Delivery]:
        lost = self.disks.sync(device, [staged.file for _, staged in deliveries])
        for job, staged in deliveries:
            if staged.file in lost:
                maildir.discard(staged)
                self.failed(job, maildir.trouble())
        return [delivery for delivery in deliveries if delivery[1].file not in lost] if lost else deliveries

    def _publish(self, deliveries: list[Delivery]) -> list[Delivery]:
        good = []
        for job, staged in deliveries:
            try:
                maildir.publish(staged)
                good.append((job, staged))
            except TemporaryFailure as failure:
                self.failed(job, failure)
        return good

    def _sync_folders(self, folders: Iterable[int]) -> dict[int, TemporaryFailure]:
        broken = {}
        for folder in folders:
            try:
                maildir.sync_new(folder)
            except TemporaryFailure as failure:
                broken[folder] = failure
        return broken
