"""The journal as a reader finds it, at whatever moment the power goes."""

import errno
import os
from concurrent.futures import Future

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pluq.queue import journal as module
from pluq.queue.journal import RECORD, SEGMENTS, Journal, JournalError, mark_of, marked, record
from pluq.queue.recovery import Contents, read_blocks

PAGE = module.PAGE_BYTES


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


class Immediately:
    """A thread that has done its work as soon as it is asked."""

    def submit(self, work, *arguments):
        future = Future()
        try:
            future.set_result(work(*arguments))
        except OSError as error:
            future.set_exception(error)
        return future

    def shutdown(self):
        pass


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


@pytest.fixture
def journal(tmp_path, clock, monkeypatch):
    """A journal with segments of six pages, whose checkpoints take no time."""
    monkeypatch.setattr(module, "SEGMENT_BYTES", 6 * PAGE)
    monkeypatch.setattr(module, "STEP_BYTES", PAGE)
    return make_journal(str(tmp_path))


def make_journal(path):
    made = Journal(path)
    made._thread = Immediately()
    return made


def leave(journal):
    """Close its files, as the end of a process does."""
    for fd in (journal._folder, *(segment.fd for segment in journal._segments)):
        os.close(fd)


def enter(journal, number, message=b"text"):
    """Write a new message; return its id."""
    ident = journal.next_ident()
    todo = marked(1, 2, ident, b"Fa\0Tb\0")
    journal.write([RECORD.pack(b"m", ident, number, len(todo), len(message)), todo, message])
    return ident


def test_what_was_written_is_read_and_the_last_record_of_a_number_counts(journal, tmp_path):
    first, second = enter(journal, 7, b"one"), enter(journal, 8, b"two")
    journal.write([record(b"d", first, 7)])
    third = enter(journal, 7, b"three")
    journal.sync()
    entries = Contents.read(str(tmp_path)).entries
    assert {number: (entry.ident, entry.message) for number, entry in entries.items()} == {
        7: (third, b"three"),
        8: (second, b"two"),
    }
    assert mark_of(entries[7].todo) == third


def test_blocks_of_different_syncs_share_no_page(journal, tmp_path):
    for number in range(4):
        enter(journal, number, b"x" * 100)
        assert journal._at % PAGE == 0
    blocks = list(read_blocks((tmp_path / SEGMENTS[0]).read_bytes()))
    assert len(blocks) == 4


def test_after_a_checkpoint_the_journal_vouches_for_nothing_that_was_there_before(journal, tmp_path, clock):
    enter(journal, 1)
    journal.sync()
    clock.now += module.CHECKPOINT_SECONDS
    assert journal.wait_seconds() == 0
    journal.rest()
    enter(journal, 2)
    journal.sync()
    contents = Contents.read(str(tmp_path))
    assert [number for number, entry in contents.entries.items() if contents.awaits(entry)] == [2]
    assert journal.durable_base == contents.base


def test_an_idle_journal_says_that_it_vouches_for_nothing_any_more(journal, tmp_path, clock):
    enter(journal, 1)
    journal.sync()
    clock.now += module.CHECKPOINT_SECONDS
    journal.rest()
    journal.rest()
    contents = Contents.read(str(tmp_path))
    assert not [entry for entry in contents.entries.values() if contents.awaits(entry)]
    assert journal.wait_seconds() is None, "that is nothing to make a checkpoint for"


def test_what_a_stranger_sent_is_no_block(journal, tmp_path):
    """A page of an old message lies right behind the newest block, and guessed everything that can be guessed."""
    enter(journal, 1)
    records = [record(b"d", 1 << 62, 1)]
    with open(tmp_path / SEGMENTS[0], "r+b") as file:
        file.seek(PAGE)
        crc = module.block_sum(2, journal._base, records)
        file.write(module.BLOCK.pack(module.MAGIC, 0, 2, journal._base, len(records[0]), crc) + records[0])
    assert Contents.read(str(tmp_path)).entries[1].letter == b"m"


def test_a_full_segment_is_written_again_only_when_a_checkpoint_covers_it(journal, tmp_path, monkeypatch):
    held = Future()
    monkeypatch.setattr(journal._thread, "submit", lambda work, *arguments: held)
    for number in range(7):  # the seventh goes to the other segment, and a checkpoint begins
        enter(journal, number)
    journal.rest()
    for number in range(7, 12):
        enter(journal, number)
        journal.rest()
    assert len(Contents.read(str(tmp_path)).entries) == 12
    held.set_result(None)
    monkeypatch.setattr(journal._thread, "submit", Immediately().submit)
    enter(journal, 12)
    contents = Contents.read(str(tmp_path))
    assert {number for number, entry in contents.entries.items() if contents.awaits(entry)} == {*range(7, 13)}


def test_a_checkpoint_does_not_cover_messages_that_are_about_to_be_written(journal, tmp_path):
    """Their group has its ids already when it is found that there is no room for it without a checkpoint."""
    for number in range(12):
        enter(journal, number)
    enter(journal, 12)
    contents = Contents.read(str(tmp_path))
    assert contents.awaits(contents.entries[12])


def test_a_clean_end_leaves_no_journal(journal, tmp_path):
    enter(journal, 1)
    journal.close()
    assert os.listdir(tmp_path) == []


def test_an_error_of_the_disk_is_not_survived(journal, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    enter(journal, 1)
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(JournalError, match="unable to sync the journal"):
        journal.sync()


def test_an_error_of_a_checkpoint_is_not_survived(journal, clock, monkeypatch):
    def fail(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    enter(journal, 1)
    monkeypatch.setattr(module, "syncfs", fail)
    clock.now += module.CHECKPOINT_SECONDS
    journal.rest()
    with pytest.raises(JournalError, match="unable to sync the queue"):
        journal.rest()


def test_on_a_full_disk_it_takes_nothing_and_leaves_the_rest_of_the_space(journal, tmp_path, monkeypatch):
    original = os.pwrite

    def full(fd, data, at):
        if at >= 2 * PAGE:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(fd, data[: PAGE // 2], at)

    monkeypatch.setattr(os, "pwrite", full)
    enter(journal, 1)
    enter(journal, 2)
    with pytest.raises(OSError, match="No space"):
        enter(journal, 3)
    assert (tmp_path / SEGMENTS[0]).stat().st_size == 2 * PAGE
    monkeypatch.undo()
    enter(journal, 4)
    assert set(Contents.read(str(tmp_path)).entries) == {1, 2, 4}


STEPS = st.lists(st.tuples(st.sampled_from("eeeedsr"), st.integers(0, 40), st.integers(0, 9000)), max_size=60)


@given(steps=STEPS)
@example(steps=[("e", 0, 8107), ("e", 6, 0), ("e", 1, 8437), ("e", 2, 3), ("e", 5, 7), ("e", 3, 0), ("e", 4, 0)])
def test_at_every_moment_the_promises_are_in_the_journal_or_in_the_files(tmp_path_factory, steps):
    """A model beside it: `promised` are messages that only the journal has, `left` those whose files may still be there."""
    path = str(tmp_path_factory.mktemp("journal"))
    clock, promised, left, inside = Clock(), {}, {}, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "monotonic", clock)
        patch.setattr(module, "SEGMENT_BYTES", 6 * PAGE)
        patch.setattr(module, "STEP_BYTES", PAGE)

        def checkpoint(fd):
            promised.clear()
            left.clear()

        patch.setattr(module, "syncfs", checkpoint)
        patch.setattr(module, "fsync_dir", lambda path: None)
        journal = make_journal(path)
        for step, (what, number, size) in enumerate(steps):
            clock.now += size / 4000
            if what == "e" and number not in inside:
                message = b"%d" % step + b"x" * size
                inside[number] = enter(journal, number, message)
                promised[number] = message
                left.pop(number, None)
            elif what in "ds" and number in inside:
                ident = inside.pop(number)
                journal.write([record(what.encode(), ident, number)])
                promised.pop(number, None)
                left[number] = what.encode()
            journal.sync()
            if what == "r":
                journal.rest()
            contents = Contents.read(path)
            entries = contents.entries
            for found, message in promised.items():
                assert contents.awaits(entries[found])
                assert entries[found].message == message
            assert {found: entries[found].letter for found in left} == left
            awaited = {found for found, entry in entries.items() if contents.awaits(entry)}
            assert awaited <= set(inside), "what has left is not brought back"
        leave(journal)


@given(
    sizes=st.lists(st.integers(0, 6000), min_size=1, max_size=6),
    damage=st.lists(st.tuples(st.integers(0, 40000), st.binary(min_size=1, max_size=600)), max_size=3),
)
def test_of_a_damaged_segment_only_whole_blocks_before_the_damage_are_believed(tmp_path_factory, sizes, damage):
    path = tmp_path_factory.mktemp("journal")
    journal = make_journal(str(path))
    for number, size in enumerate(sizes):
        enter(journal, number, b"x" * size)
    leave(journal)
    file = path / SEGMENTS[0]
    good = file.read_bytes()
    bad = bytearray(good)
    for at, noise in damage:
        bad[at : at + len(noise)] = noise[: max(0, len(bad) - at)]
    written = list(read_blocks(good))
    assert len(written) == len(sizes)
    believed = list(read_blocks(bytes(bad)))
    assert believed == written[: len(believed)]
