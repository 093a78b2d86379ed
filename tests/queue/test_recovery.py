"""What a crash leaves in the queue and in the journal, and what recovery makes of it."""

import itertools
import os
from dataclasses import dataclass

import pytest

from pluq.config import Home, current_ids
from pluq.queue import recovery
from pluq.queue.journal import RECORD, Journal, marked, record
from pluq.queue.layout import QueueLayout
from pluq.queue.records import parse_todo
from pluq.queue.recovery import recover, recover_unserved
from pluq.supervisor.hier import make_home

ENVELOPE = b"Fsender\0Trecipient\0"
MESSAGE = b"Subject: x\n\nnew\n"
OLD = b"Subject: x\n\nold, and longer than the new one\n"


@pytest.fixture(autouse=True)
def pool(layout):
    os.makedirs(layout.pool, exist_ok=True)


@pytest.fixture
def journal(layout):
    return Journal(layout.pool)


def put(layout, todo, message, number=None):
    """Put files into the queue as a crash may have left them; return the number."""
    path = f"{layout.pool}/m"
    with open(path, "wb") as file:
        file.write(message)
    number = number or os.stat(path).st_ino
    os.rename(path, layout.mess(number))
    if todo is not None:
        with open(layout.todo(number), "wb") as file:
            file.write(todo)
    return number


def write(journal, number, ident):
    """Have the journal promise MESSAGE under a number."""
    todo = marked(5, 6, ident, ENVELOPE)
    journal.write([RECORD.pack(b"m", ident, number, len(todo), len(MESSAGE)), todo, MESSAGE])
    return todo


def checkpoint(journal):
    journal._begin_checkpoint()
    journal._wait()


def messages(look):
    """Return number and text of what is in todo/ now."""
    found = look()
    return {number: found.messages[number] for number, state in found.states.items() if state == "S4"}


@dataclass
class Left:
    """What the crash left under a promised number: `todo` is made of the id of the promise, None for no file."""

    todo: object
    message: bytes
    keeps_number: bool = True


LEFT = {
    "whole": Left(lambda ident: marked(5, 6, ident, ENVELOPE), MESSAGE),
    "message torn": Left(lambda ident: marked(5, 6, ident, ENVELOPE), OLD),
    "message empty": Left(lambda ident: marked(5, 6, ident, ENVELOPE), b""),
    "envelope empty": Left(lambda ident: b"", MESSAGE),
    "envelope cut": Left(lambda ident: marked(5, 6, ident, ENVELOPE)[:9], MESSAGE),
    "both of the message before": Left(lambda ident: marked(5, 6, ident - 1, b"Fother\0Tother\0"), OLD),
    "no name in todo": Left(lambda ident: None, MESSAGE, keeps_number=False),
}


@pytest.mark.parametrize("left", LEFT.values(), ids=LEFT)
def test_what_was_promised_is_in_the_queue(layout, look, journal, left):
    ident = journal.next_ident() + 1
    number = put(layout, left.todo(ident), left.message)
    todo = write(journal, number, ident)
    recover(layout)
    found = messages(look)
    assert list(found.values()) == [MESSAGE]
    assert (number in found) is left.keeps_number
    with open(layout.todo(next(iter(found))), "rb") as file:
        assert file.read() == todo
    assert recover(layout) == (0, 0), "the journal is gone"


def test_what_was_promised_is_written_when_the_disk_knows_nothing_of_it(layout, look, journal):
    for number in (1, 2, 3):
        write(journal, number, journal.next_ident())
    assert recover(layout) == (3, 0)
    assert list(messages(look).values()) == [MESSAGE] * 3
    assert not {1, 2, 3} & set(messages(look)), "numbers of the journal are taken"


@pytest.mark.parametrize("count", [1, recovery.MANY + 1])
def test_what_is_whole_is_written_once_more(layout, look, journal, monkeypatch, count):
    """The kernel shows bytes as whole that it could not write, and forgets that it told of it: that may be why the daemon died."""
    numbers = set()
    for _ in range(count):
        ident = journal.next_ident()
        number = put(layout, marked(5, 6, ident, ENVELOPE), MESSAGE)
        write(journal, number, ident)
        numbers.add(number)
    original, written = recovery.write_all, []

    def write_all(fd, data):
        written.append(os.fstat(fd).st_ino)
        original(fd, data)

    monkeypatch.setattr(recovery, "write_all", write_all)
    assert recover(layout) == (0, 0)
    assert numbers <= set(written)
    assert set(messages(look)) == numbers


def test_what_had_left_does_not_come_back(layout, look, journal):
    ident = journal.next_ident()
    number = put(layout, marked(5, 6, ident, ENVELOPE), MESSAGE)
    write(journal, number, ident)
    journal.write([record(b"d", ident, number)])
    assert recover(layout) == (0, 1)
    assert look().states == {}


def test_a_preprocessed_message_is_not_preprocessed_again(layout, look, journal):
    ident = journal.next_ident()
    number = put(layout, marked(5, 6, ident, ENVELOPE), MESSAGE)
    with open(layout.info(number), "wb") as file:
        file.write(b"Fsender\0")
    write(journal, number, ident)
    journal.write([record(b"s", ident, number)])
    recover(layout)
    assert look().states == {number: "S5"}
    assert look().messages == {number: MESSAGE}


def test_another_message_under_the_number_of_one_that_left_stays(layout, look, journal):
    old, young = journal.next_ident(), journal.next_ident()
    of_qmail_queue = put(layout, b"u1\0p2\0" + ENVELOPE, b"qmail-queue's\n")
    younger = put(layout, marked(5, 6, young, ENVELOPE), b"younger, and durable\n")
    unmentioned = put(layout, marked(5, 6, old, ENVELOPE), b"unmentioned\n")
    for number in (of_qmail_queue, younger):
        journal.write([record(b"d", old, number)])
    checkpoint(journal)
    journal.write([])
    assert recover(layout) == (0, 0)
    assert set(messages(look)) == {of_qmail_queue, younger, unmentioned}


def test_what_was_being_written_into_a_file_is_no_message_when_its_former_name_comes_back(layout, look, journal):
    left, under_way = journal.next_ident(), journal.next_ident()
    number = put(layout, marked(5, 6, under_way, ENVELOPE), OLD)
    write(journal, number, left)
    journal.write([record(b"d", left, number)])
    recover(layout)
    assert look().states == {}


def test_a_message_file_that_another_writer_has_now_is_left_alone(layout, look, journal):
    number = put(layout, None, b"qmail-queue is about to make this a message\n")
    write(journal, number, journal.next_ident())
    recover(layout)
    assert os.path.exists(layout.mess(number))
    assert list(messages(look).values()) == [MESSAGE]


@pytest.mark.parametrize("by_recovery", [True, False])
def test_a_journal_that_is_being_removed_brings_nothing_back(layout, look, journal, monkeypatch, by_recovery):
    """The older segment has the message, the newer one that it left; whoever removes them is killed in between."""
    monkeypatch.setattr("pluq.queue.journal.SEGMENT_BYTES", 4096)
    journal._turn_over()  # the second segment is the older one
    ident = journal.next_ident()
    write(journal, 77, ident)
    journal.write([record(b"d", ident, 77)])
    unlink, removed = os.unlink, []

    def once(path):
        if "journal." in str(path):
            if removed:
                raise KeyboardInterrupt
            removed.append(path)
        unlink(path)

    monkeypatch.setattr(os, "unlink", once)
    with pytest.raises(KeyboardInterrupt):
        recover(layout) if by_recovery else journal.close()
    monkeypatch.undo()
    assert recover(layout) == (0, 0)
    assert look().states == {}


def test_what_a_checkpoint_covered_is_not_brought_back(layout, look, journal):
    write(journal, 77, journal.next_ident())
    checkpoint(journal)
    kept = journal.next_ident()
    write(journal, 78, kept)
    recover(layout)
    assert len(messages(look)) == 1


def test_a_queue_without_a_journal_is_left_alone(layout, look):
    number = put(layout, marked(5, 6, 7, ENVELOPE), b"")
    assert recover(layout) == (0, 0)
    assert messages(look) == {number: b""}


def test_a_queue_that_a_daemon_has_is_left_to_it(layout, look, journal):
    write(journal, 77, journal.next_ident())
    with recovery.held(layout.pool):
        recover_unserved(layout)
        assert look().states == {}
    recover_unserved(layout)
    assert len(messages(look)) == 1


def crash(layout):
    """Leave each kind of remains at once."""
    journal = Journal(layout.pool)
    base = journal.next_ident() + 100
    for index, left in enumerate(LEFT.values()):
        ident = base + 10 * index
        write(journal, put(layout, left.todo(ident), left.message), ident)
    write(journal, 3, base + 500)
    gone = put(layout, marked(5, 6, base + 600, b"Fgone\0Tgone\0"), b"gone\n")
    journal.write([record(b"d", base + 600, gone)])


@pytest.mark.parametrize("kills", [1, 2])
def test_a_recovery_that_is_killed_at_any_change_is_done_again(tmp_path, in_child, kill_before, kills):
    """Killed before its n-th change, and perhaps once more at the same place, it then does everything once."""
    for count in itertools.count(1):
        home = Home(str(tmp_path / str(count)))
        make_home(home, current_ids())
        layout = QueueLayout(home.queue)
        os.makedirs(layout.pool, exist_ok=True)
        crash(layout)

        def work(count=count, layout=layout):
            kill_before(count)
            recover(layout)

        ends = [in_child(work) for _ in range(kills)]
        recover(layout)
        found = [(parse_todo(todo).sender, number) for number, todo in recovery.todo_files(layout)]
        assert [sender for sender, _number in found] == [b"sender"] * (len(LEFT) + 1)
        for _sender, number in found:
            assert recovery.read_file(layout.mess(number)) == MESSAGE
        if 0 in ends:
            break
    assert count > 20
