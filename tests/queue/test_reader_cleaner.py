"""Looking at the queue, and taking away what does not belong there."""

import os
import time

import pytest

from pluq.queue import cleaner, reader
from pluq.queue.layout import OSSIFIED

NOW = time.time()
OLD = NOW - OSSIFIED - 10


def put(path, data=b"", when=NOW):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, data)
    os.close(fd)
    os.utime(path, (when, when))


def exists(*paths):
    return [os.path.exists(path) for path in paths]


def test_only_old_files_of_no_message_are_stale(layout):
    for number in (1, 2, 3, 4, 5):
        put(layout.mess(number), when=NOW if number == 1 else OLD)
    put(layout.info(2))
    put(layout.todo(3))
    put(layout.intd(4))
    put(f"{layout.path}/mess/0/stranger", when=OLD)

    found = [number for number in reader.stale_messages(layout, NOW) if number is not None]

    assert sorted(found) == [4, 5]


def test_nothing_is_stale_where_info_cannot_be_looked_at(layout):
    put(layout.mess(1), when=OLD)
    os.rmdir(f"{layout.path}/info/1")
    put(f"{layout.path}/info/1")
    assert list(reader.stale_messages(layout, NOW)) == [None]


def test_old_files_in_pid_go(layout):
    put(f"{layout.path}/pid/old", when=OLD)
    put(f"{layout.path}/pid/new")
    cleaner.clean_pid(layout, NOW)
    assert os.listdir(f"{layout.path}/pid") == ["new"]


def test_removing_may_be_repeated(layout):
    for path in (layout.mess(7), layout.intd(7), layout.todo(7)):
        put(path)
    for _ in range(2):
        cleaner.remove_todo(layout, 7)
        assert exists(layout.mess(7), layout.intd(7), layout.todo(7)) == [True, False, False]
    for _ in range(2):
        cleaner.remove_message(layout, 7)
        assert not os.path.exists(layout.mess(7))


def test_files_are_read_as_values(layout):
    put(layout.todo(3), b"u1\0p2\0Fa\0Tb\0")
    put(layout.info(3), b"Fa@b\0", when=1000)
    put(layout.local(3), b"Ta\0Db\0")
    assert reader.read_todo(layout, 3) == (1, 2, b"a", [b"b"])
    assert reader.read_info(layout, 3) == (b"a@b", 1000)
    assert [(found.address, found.done) for found in reader.read_channel(layout.local(3))] == [
        (b"a", False),
        (b"b", True),
    ]
    assert reader.read_channel(layout.remote(3)) == []
    assert list(reader.todo_numbers(layout)) == [3]
    with pytest.raises(FileNotFoundError):
        reader.read_info(layout, 4)


@pytest.mark.parametrize(("size", "is_copy"), [(0, True), (65536, True), (65537, False)])
def test_a_program_gets_a_message_of_its_own_unless_the_file_is_never_used_again(tmp_path, size, is_copy):
    put(tmp_path / "message", b"x" * size)
    message = os.open(tmp_path / "message", os.O_RDONLY)
    os.lseek(message, 0, os.SEEK_END)
    own = reader.private_copy(message)
    assert os.read(own, 100_000) == b"x" * size
    assert os.path.sameopenfile(message, own) != is_copy
    os.close(own)
    os.close(message)
