"""Files that survive a power cut."""

import os

import pytest
from tests.torture import disks

from pluq.store import durable
from pluq.store.syncfs import syncfs


def test_a_file_is_replaced_whole(tmp_path):
    path = str(tmp_path / "file")
    durable.write_file_durably(path, b"one", 0o600)
    durable.write_file_durably(path, b"two", 0o640)
    with open(path, "rb") as file:
        assert file.read() == b"two"
    assert os.stat(path).st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = str(tmp_path / "file")
    durable.write_file_durably(path, b"one")

    def fail(fd):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        durable.write_file_durably(path, b"two")
    with open(path, "rb") as file:
        assert file.read() == b"one"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
@pytest.mark.parametrize("sync", [durable.fsync, syncfs], ids=["fsync", "syncfs"])
def test_a_filesystem_that_has_shut_down_makes_nothing_durable(kind, sync):
    if reason := disks.why_not(kind):
        pytest.skip(reason)
    with disks.new_disk(kind) as disk:
        with open(f"{disk.path}/file", "wb"):
            folder = os.open(disk.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            sync(folder)
            os.link(f"{disk.path}/file", f"{disk.path}/name")
            disk.cut()
            with pytest.raises(OSError, match=r"[Ii]nput/output"):
                sync(folder)
        finally:
            os.close(folder)
