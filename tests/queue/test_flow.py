"""New messages wait for old ones to leave: not for long, and not where nothing leaves."""

import os

import pytest

from pluq.queue import committer as module
from pluq.queue import todo_dirs
from pluq.queue.committer import Committer
from pluq.queue.entering import Commit
from pluq.queue.pool import Owner, Pool

MESSAGE = b"Subject: x\n\nbody\n"
ENVELOPE = b"Fsender\0Trecipient\0\0"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


class Queue:
    """A committer with three messages under way, which is as many as it takes before new ones wait."""

    def __init__(self, layout):
        self.pool, self.owner, self.answers = Pool(layout), Owner(), []
        self.committer = Committer(layout, self.pool, lambda *message: True, None)
        self.numbers = [self.add() for _ in range(3)]
        self.committer.run_group()
        self.answers.clear()

    def add(self):
        slot = self.pool.lease(self.owner)
        os.pwrite(slot.mess_fd, MESSAGE, 0)
        self.committer.add(Commit(slot, len(MESSAGE), 1, 2, ENVELOPE, self.answers.append))
        return slot.number


@pytest.fixture
def queue(layout, clock, monkeypatch):
    monkeypatch.setattr(module, "FLOW_COUNT", 3)
    return Queue(layout)


def test_below_the_limit_nobody_waits(queue):
    queue.committer.finish(queue.numbers[0])
    queue.committer.run_group()
    queue.add()
    assert queue.committer.is_due()
    queue.committer.run_group()
    assert queue.answers == [0]


def test_a_new_message_waits_until_one_has_left(queue, clock):
    queue.committer.finish(queue.numbers[0])
    queue.committer.run_group()
    queue.add()
    queue.committer.run_group()
    queue.answers.clear()
    queue.add()
    assert not queue.committer.is_due()
    assert not queue.committer.is_idle
    assert queue.committer.wait_seconds() == pytest.approx(module.STILL_SECONDS)
    queue.committer.finish(queue.numbers[1])
    assert queue.committer.is_due()
    queue.committer.run_group()
    assert queue.answers == [0]


def test_where_nothing_leaves_nobody_waits(queue, clock):
    clock.now += module.STILL_SECONDS
    queue.add()
    assert queue.committer.is_due()
    queue.committer.run_group()
    assert queue.answers == [0]


def test_nobody_waits_for_long(queue, clock):
    begin = clock.now
    queue.committer.finish(0)
    queue.add()
    while clock.now < begin + module.FLOW_SECONDS:
        queue.committer.run_group()
        assert queue.answers == []
        queue.committer.finish(0)  # of a message that is no file of ours: others leave, but not enough
        clock.now += module.STILL_SECONDS / 2
    queue.committer.run_group()
    assert queue.answers == [0]


def test_at_the_end_everything_goes(queue):
    queue.committer.finish(0)
    queue.add()
    queue.committer.close()
    assert queue.answers == [0]


def test_a_question_is_answered_when_what_left_before_has_left_for_good(queue, layout, monkeypatch):
    synced = []
    monkeypatch.setattr(todo_dirs, "fsync", synced.append)
    queue.committer.finish(queue.numbers[0])
    queue.committer.settle(0, queue.answers.append)
    queue.committer.run_group()
    assert queue.answers == [0]
    assert len(synced) == 1, "without a journal, todo/ was synced once"
    queue.committer.settle(0, queue.answers.append)
    queue.committer.run_group()
    assert queue.answers == [0, 0]
    assert len(synced) == 1, "a question alone costs no sync"
