"""The committer where the system refuses what nearly always works."""

import os

import pytest

from pluq.queue import refusal
from pluq.queue.committer import Committer
from pluq.queue.entering import Commit
from pluq.queue.journal import Journal
from pluq.queue.layout import RECYCLE_BYTES
from pluq.queue.pool import Owner, Pool


@pytest.fixture
def committer(layout):
    pool = Pool(layout)
    journal = Journal(layout.pool)
    made = Committer(layout, pool, lambda number, size, todo: True, journal)
    yield made
    made.close()
    pool.close()


def entered(committer, size=0, code=0):
    """Hand in a message that is answered so; return its number."""
    slot = committer._pool.lease(Owner())
    os.ftruncate(slot.mess_fd, size)
    codes = []
    committer.add(Commit(slot, size, 1, 2, b"Fa\0Tb\0\0", codes.append))
    committer.run_group()
    assert codes == [code]
    return slot.number


def fail_folder(monkeypatch, committer):
    """Have syncs of todo/ fail; return how often that was tried."""
    tries = []
    real = os.fsync

    def fail(fd):
        if fd in committer._todo._fds.values():
            tries.append(fd)
            raise OSError(5, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fail)
    return tries


def test_a_number_that_was_in_todo_for_a_moment_has_no_other_message_until_it_is_done_with(
    committer, layout, monkeypatch
):
    fail_folder(monkeypatch, committer)
    number = entered(committer, RECYCLE_BYTES + 1, refusal.WRITE_ERROR)
    assert not os.path.exists(layout.todo(number))
    assert os.path.exists(layout.mess(number)), "qmail-send may be delivering it"

    monkeypatch.undo()
    committer.finish(number)
    committer.settle(0, lambda code: None)
    committer.run_group()
    assert not os.path.exists(layout.mess(number))


@pytest.mark.parametrize("count", [1, 3])
def test_a_folder_that_cannot_be_synced_is_not_tried_without_a_pause(committer, layout, monkeypatch, count):
    monkeypatch.setattr("pluq.queue.committer.LEAVE_COUNT", 2)
    clock = [1000.0]
    monkeypatch.setattr("pluq.queue.committer.monotonic", lambda: clock[0])
    numbers = [entered(committer, RECYCLE_BYTES + 1) for _ in range(count)]
    with monkeypatch.context() as patch:
        tries = fail_folder(patch, committer)
        for number in numbers:
            committer.finish(number)
        for _ in range(100):
            clock[0] += 0.01
            if committer.is_due():
                committer.run_group()
        assert len(tries) in (1, 2)
    clock[0] += 1.0
    assert committer.wait_seconds() == 0
    committer.run_group()
    assert not any(os.path.exists(layout.mess(number)) for number in numbers)


@pytest.mark.parametrize("by_syncfs", [True, False])
def test_a_message_file_that_cannot_be_opened_keeps_its_message_in_todo_and_stops_nobody(
    committer, layout, monkeypatch, by_syncfs
):
    number, answers = entered(committer), []
    committer.cool_down()
    committer._sync._usable = by_syncfs
    real = os.open

    def refuse(path, *arguments, **options):
        if path == layout.mess(number):
            raise OSError(24, "Too many open files")
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    committer.settle(number, answers.append)
    committer.run_group()
    assert answers == [53]
    assert os.path.exists(layout.todo(number))

    monkeypatch.undo()
    committer.settle(number, answers.append)
    committer.run_group()
    assert answers == [53, 0]


@pytest.mark.parametrize("kind", ["mess", "todo"])
def test_a_name_that_somebody_else_has_is_left_to_him(committer, layout, kind):
    slot = committer._pool.lease(Owner())
    path = getattr(layout, kind)(slot.number)
    with open(path, "wb") as file:
        file.write(b"restored from a copy")
    codes = []
    committer.add(Commit(slot, 0, 1, 2, b"Fa\0Tb\0\0", codes.append))
    committer.run_group()
    assert codes == [refusal.MESS_ERROR if kind == "mess" else refusal.TODO_ERROR]
    with open(path, "rb") as file:
        assert file.read() == b"restored from a copy"
    assert not os.path.exists(layout.todo(slot.number) if kind == "mess" else layout.mess(slot.number))


def test_what_is_about_to_leave_is_not_removed_as_stale_before_its_name_is_gone_for_good(committer, layout):
    number = entered(committer, RECYCLE_BYTES + 1)
    committer.finish(number)
    committer.run_group()
    assert not os.path.exists(layout.todo(number))
    committer.remove_stale(number)  # a clock that jumped makes every file old
    assert os.path.exists(layout.mess(number)), "or another message had the number, and its envelope after a crash"


def test_a_message_that_is_not_in_the_journal_does_not_leave_by_the_id_of_a_former_one(committer, layout, monkeypatch):
    slot = committer._pool.lease(owner := Owner())
    codes = []
    committer.add(Commit(slot, 0, 1, 2, b"Fa\0Tb\0\0", codes.append))
    committer.run_group()
    committer._idents[slot.number] = slot.ident  # let go, and taken away by another qmail-send; the number comes back
    committer._hot.pop(slot.number)
    os.unlink(layout.todo(slot.number))
    os.unlink(layout.mess(slot.number))
    os.ftruncate(slot.mess_fd, RECYCLE_BYTES + 1)
    owner.free.append(slot)
    assert committer._pool.lease(owner) is slot
    committer.add(Commit(slot, RECYCLE_BYTES + 1, 1, 2, b"Fa\0Tb\0\0", codes.append))
    committer.run_group()
    assert codes == [0, 0]

    monkeypatch.setattr("pluq.queue.committer.LEAVE_COUNT", 1)
    fail_folder(monkeypatch, committer)
    committer.finish(slot.number)
    committer.settle(0, lambda code: None)
    committer.run_group()
    assert os.path.exists(layout.mess(slot.number)), "its name in todo/ is not gone for good"
