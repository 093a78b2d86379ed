"""The committer where the system refuses what nearly always works."""

import os

import pytest

from pluq.queue.committer import Committer
from pluq.queue.entering import Commit
from pluq.queue.journal import Journal
from pluq.queue.pool import Owner, Pool


@pytest.fixture
def committer(layout):
    pool = Pool(layout)
    journal = Journal(layout.pool)
    made = Committer(layout, pool, lambda number, size, todo: True, journal)
    yield made
    made.close()
    pool.close()


def entered(committer):
    """Put a message into the queue; return its number."""
    slot = committer._pool.lease(Owner())
    codes = []
    committer.add(Commit(slot, 0, 1, 2, b"Fa\0Tb\0\0", codes.append))
    committer.run_group()
    assert codes == [0]
    return slot.number


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
