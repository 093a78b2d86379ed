"""Files that survive a power cut."""

import os

import pytest

from pluq.store import durable


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
