"""The pool of workers: who is kept, who makes room, what a death means."""

import os
import selectors

import pytest

from pluq.local.packets import Answer, decode_lookups, encode_answer, encode_lookup
from pluq.local.pool import IDLE_SECONDS, PACKET_FILES, Identity, Pool, fitting
from pluq.local.worker import packets


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Driver:
    """A pool whose workers answer each question with their process number; the question "die" kills them."""

    def __init__(self, most):
        self.clock = Clock()
        self.selector = selectors.DefaultSelector()
        self.answers = {}
        self.pool = Pool(
            self.serve, lambda key: Identity(None, 0), self.watch, self.answered, most_workers=most, clock=self.clock
        )

    def serve(self, key, sock):
        for batch in packets(sock):
            for packet, _ in batch:
                for job, question in decode_lookups(packet):
                    if question == b"die":
                        os._exit(3)
                    if question != b"silence":
                        sock.send(encode_answer(Answer(job, 0, b"%d" % os.getpid())))

    def watch(self, worker, writing):
        if writing is None:
            self.selector.unregister(worker.sock)
        elif worker.sock.fileno() not in self.selector.get_map():
            self.selector.register(worker.sock, selectors.EVENT_READ, worker)

    def answered(self, answer):
        self.answers[answer.job] = answer

    def ask(self, key, job, question=b"who"):
        self.pool.give(key, job, encode_lookup(job, question))
        self.pool.flush()

    def wait(self, job):
        while job not in self.answers:
            ready = self.selector.select(20)
            assert ready, "no answer"
            for key, _ in ready:
                self.pool.hear(key.data)
        return self.answers.pop(job)


@pytest.fixture
def drive():
    made = []

    def make(most=3):
        made.append(Driver(most))
        return made[-1]

    yield make
    for driver in made:
        driver.pool.close()
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break


def test_a_worker_is_kept_for_its_user(drive):
    driver = drive()
    pids = []
    for job in range(3):
        driver.ask("joe", job)
        pids.append(driver.wait(job).output)
    assert len(set(pids)) == 1


def test_the_one_that_idled_longest_makes_room(drive):
    driver = drive(most=2)
    first = {}
    for job, key in enumerate(["joe", "ann"]):
        driver.ask(key, job)
        first[key] = driver.wait(job).output
    driver.ask("joe", 2)
    assert driver.wait(2).output == first["joe"]
    driver.ask("bob", 3)
    driver.wait(3)
    driver.ask("joe", 4)
    assert driver.wait(4).output == first["joe"]
    driver.ask("ann", 5)
    assert driver.wait(5).output != first["ann"]


def test_a_busy_worker_is_never_sent_away(drive):
    driver = drive(most=1)
    driver.ask("joe", 1, b"silence")
    driver.ask("ann", 2)
    assert driver.wait(2).code == 0
    assert 1 not in driver.answers


def test_idle_workers_end(drive):
    driver = drive()
    driver.ask("joe", 1)
    before = driver.wait(1).output
    assert driver.pool.expire() == pytest.approx(IDLE_SECONDS)
    driver.clock.now += IDLE_SECONDS + 1
    assert driver.pool.expire() is None
    driver.ask("joe", 2)
    assert driver.wait(2).output != before


def test_a_death_is_the_answer_to_all_that_was_asked(drive):
    driver = drive()
    driver.ask("joe", 1, b"silence")
    driver.ask("joe", 2, b"die")
    assert driver.wait(1).code < 0
    assert driver.wait(2).code < 0
    driver.ask("joe", 3)
    assert driver.wait(3).code == 0


def test_a_retired_worker_finishes_and_others_get_new_ones(drive):
    driver = drive()
    driver.ask("joe", 1)
    old = driver.wait(1).output
    driver.ask("joe", 2)
    driver.pool.retire_all()
    driver.ask("joe", 3)
    assert driver.wait(2).output == old
    assert driver.wait(3).output != old


def test_an_answer_to_what_was_never_asked_is_ignored(drive):
    driver = drive()
    driver.serve = lambda key, sock: [sock.send(encode_answer(Answer(99, 0, b""))), sock.recv(100)]
    driver.pool.serve = driver.serve
    driver.ask("joe", 1)
    assert driver.wait(1).code < 0  # the worker ended
    assert 99 not in driver.answers


def test_a_packet_holds_what_fits():
    assert fitting([(b"x" * 100, 1)] * 200) == PACKET_FILES
    assert fitting([(b"x" * 60_000, 1)] * 10) == 2
    assert fitting([(b"x" * 10_000_000, 1), (b"x", 2)]) == 1
    assert fitting([(b"x", 1)]) == 1
