"""The cheaper way to the disk is found with the first groups, and found again when it changes."""

import errno

import pytest

from pluq.queue import groupsync
from pluq.queue.groupsync import GroupSync

FILES = list(range(10))


class Disk:
    """A disk that takes its time, in seconds of its own clock: for a syncfs, and for each file."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        self.syncfs_seconds = self.fsync_seconds = 1.0
        self.calls = []
        monkeypatch.setattr(groupsync, "have_syncfs", lambda: True)
        monkeypatch.setattr(groupsync, "perf_counter", lambda: self.now)
        monkeypatch.setattr(groupsync, "syncfs", self.syncfs)
        monkeypatch.setattr(GroupSync, "_map", self.map)
        self.group = GroupSync(-1)

    def syncfs(self, _fd):
        self.calls.append("syncfs")
        self.now += self.syncfs_seconds

    def map(self, files):
        self.calls.append("fsync")
        self.now += self.fsync_seconds * len(files)
        return [True] * len(files)

    def sync(self, times):
        """Sync so many groups; return how often each way was taken."""
        self.calls.clear()
        for _ in range(times):
            assert self.group.sync(FILES, ()) == set()
        return self.calls.count("syncfs"), self.calls.count("fsync")


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def test_both_ways_are_measured_at_once(disk):
    disk.sync(2)
    assert disk.calls == ["syncfs", "fsync"]


def test_the_cheaper_way_is_taken(disk):
    disk.syncfs_seconds = 2.0
    disk.sync(2)
    by_syncfs, by_fsync = disk.sync(50)
    assert by_syncfs > by_fsync


def test_beside_a_bulk_writer_few_groups_wait_for_it(disk):
    disk.syncfs_seconds = 1000.0
    disk.sync(2)
    assert disk.sync(500) == (0, 500)
    disk.now = 0.0
    disk.sync(10_000)
    assert disk.calls.count("syncfs") * 1000.0 < disk.now / 15


def test_one_slow_group_is_forgotten_when_the_disk_is_quiet(disk):
    disk.syncfs_seconds = 100.0
    disk.sync(2)
    disk.syncfs_seconds = 0.5
    disk.sync(300)
    by_syncfs, by_fsync = disk.sync(100)
    assert by_syncfs > 90
    assert by_fsync <= 10


def test_an_error_of_syncfs_fails_the_group_and_ends_its_use(disk, monkeypatch):
    def fail(_fd):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(groupsync, "syncfs", fail)
    assert disk.group.sync(FILES, ()) == set(FILES)
    assert disk.sync(5) == (0, 5)


def test_without_a_descriptor_for_a_folder_everything_is_synced_at_once(disk, monkeypatch):
    def no_room(_folder):
        raise OSError(errno.EMFILE, "no room")

    monkeypatch.setattr(groupsync, "fsync_dir", no_room)
    for _ in range(2):
        assert disk.group.sync(FILES, ("folder",)) == set()
    assert disk.calls == ["syncfs", "fsync", "syncfs"]


class Waits:
    """fsync that takes its time, each by the clock of the disk."""

    def __init__(self, monkeypatch, seconds):
        self.now, self.seconds, self.threads = 0.0, seconds, 0
        monkeypatch.setattr(groupsync, "have_syncfs", lambda: False)
        monkeypatch.setattr(groupsync, "perf_counter", lambda: self.now)
        monkeypatch.setattr(groupsync, "is_synced", self.is_synced)
        monkeypatch.setattr(groupsync, "start_writing", lambda files: {3} & set(files))
        monkeypatch.setattr(groupsync, "ThreadPoolExecutor", lambda *arguments: self)
        self.group = GroupSync(-1)

    def is_synced(self, fd):
        self.now += self.seconds
        return fd != 5

    def map(self, function, files):
        self.threads += 1
        start = self.now
        found = [function(fd) for fd in files]
        self.now = start + self.seconds * 2  # eight at once
        return found


def test_files_are_waited_for_in_turn_and_by_threads_only_where_each_wait_is_long(monkeypatch):
    waits = Waits(monkeypatch, groupsync.LATE_SECONDS / 4)
    for _ in range(3):
        assert waits.group.sync(FILES, ()) == {3, 5}
    assert waits.threads == 0
    waits.seconds = groupsync.LATE_SECONDS * 4
    for _ in range(4):
        assert waits.group.sync(FILES, ()) == {3, 5}
    assert waits.threads == 3
    waits.seconds = groupsync.LATE_SECONDS / 4
    for _ in range(3):
        assert waits.group.sync(FILES, ()) == {3, 5}
    assert waits.threads == 4
