"""Beginning to write files: it makes nothing safe, and says what cannot be written."""

import errno
import os

import pytest

from pluq.store import writeout
from pluq.store.writeout import start_writing


@pytest.fixture
def files(tmp_path):
    made = [os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in "abc"]
    for file in made:
        os.write(file, b"x" * 5000)
    yield made
    for file in made:
        os.close(file)


@pytest.fixture
def failing(monkeypatch):
    """Lets the call fail for some files, with an error."""

    def fail(bad, error):
        monkeypatch.setattr(writeout, "_sync_file_range", lambda file, *rest: -1 if file in bad else 0)
        monkeypatch.setattr(writeout.ctypes, "get_errno", lambda: error)

    return fail


def test_files_and_folders_can_be_begun(files, tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    assert start_writing([*files, folder]) == set()
    os.close(folder)


def test_a_file_that_cannot_be_written_is_named(files):
    if writeout._sync_file_range is None:
        pytest.skip("no sync_file_range here")
    gone = os.dup(files[0])
    os.close(gone)
    assert start_writing([files[0], gone, files[1]]) == {gone}


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_each_error_of_a_disk_is_the_file_s(files, failing, error):
    failing(files[1:], error)
    assert start_writing(files) == set(files[1:])


@pytest.mark.parametrize("error", writeout.HARMLESS)
def test_where_there_is_no_such_call_nothing_is_lost(files, failing, error):
    failing(files, error)
    assert start_writing(files) == set()


def test_one_file_is_left_to_its_fsync(files, failing):
    failing(files, errno.EIO)
    assert start_writing(files[:1]) == set()
