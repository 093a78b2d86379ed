"""Messages for Maildirs that wait for the disk together.

    add      open the Maildir once, write to tmp/           commit    sync all files, link all, sync each new/ once

How files are synced is up to the disk (disks.py). Each delivery succeeds or fails by itself.

Source: docs/internals.md, "Local delivery"; maildir(5).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from pluq.errors import PermanentFailure, TemporaryFailure
from pluq.local.deliver import Prepared, head_lines
from pluq.local.disks import Disks
from pluq.store import maildir
from pluq.store.maildir import Staged

Delivery = tuple[int, Staged]
"""The number of a job and its message."""


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
        staged = maildir.stage(place[0], head_lines(ready.order), ready.message, self.sized_names, ready.start)
        self._staged.setdefault(place[1], []).append((job, staged))

    def commit(self) -> None:
        """Deliver everything that was added."""
        for device, deliveries in self._staged.items():
            self._commit_on(device, deliveries)
        for folder, _ in self._folders.values():
            os.close(folder)

    def _commit_on(self, device: int, deliveries: list[Delivery]) -> None:
        published = self._publish(self._sync(device, deliveries))
        broken = self.disks.sync_folders(device, {staged.folder for _, staged in published})
        for job, staged in published:
            if staged.folder in broken:
                self.failed(job, maildir.trouble())
            else:
                self.delivered(job)

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
