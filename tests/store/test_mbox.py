"""An mbox: lines are quoted, a failure leaves the file as it was, a lock is honoured but not for ever."""

import fcntl
import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pluq.errors import TemporaryFailure
from pluq.store import mbox


@pytest.fixture
def home(tmp_path):
    fd = os.open(tmp_path, os.O_PATH)
    yield fd
    os.close(fd)


def open_message(folder, data):
    path = folder / "message"
    path.write_bytes(data)
    return os.open(path, os.O_RDONLY)


def append(folder, data, head=b"From x\n", **options):
    home = os.open(folder, os.O_PATH)
    message = open_message(folder, data)
    try:
        mbox.append(b"./Mailbox", home, head, message, **options)
    finally:
        os.close(message)
        os.close(home)


def quoted_line_by_line(data):
    """What mbox(5) says, the slow way."""
    lines = data.split(b"\n")
    whole = data.endswith(b"\n") or not data
    if data.endswith(b"\n"):
        lines.pop()
    if not data:
        lines = []
    text = b"".join((b">" if re.match(rb">*From ", line) else b"") + line + b"\n" for line in lines)
    assert whole or text.endswith(b"\n")
    return text + b"\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", b"\n"),
        (b"a\n", b"a\n\n"),
        (b"a", b"a\n\n"),
        (b"From x\n>From y\n>>From z\n From q\nFrom\n", b">From x\n>>From y\n>>>From z\n From q\nFrom\n\n"),
        (b"a\n\nFrom here\n", b"a\n\n>From here\n\n"),
        (b">From ", b">>From \n\n"),
        (b"\n", b"\n\n"),
    ],
)
def test_from_lines_are_quoted_and_an_empty_line_ends_the_message(tmp_path, data, expected):
    append(tmp_path, data)
    assert (tmp_path / "Mailbox").read_bytes() == b"From x\n" + expected


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([b"From ", b">", b">>>>", b"\n", b"x", b"Fro", b"m ", b"\r", b"\0"]), max_size=60))
def test_pieces_of_any_size_are_quoted_like_the_whole(tmp_path_factory, parts):
    data = b"".join(parts)
    message = open_message(tmp_path_factory.mktemp("m"), data)
    real = mbox._read
    for size in (1, 2, 5, 7, 64):
        mbox._read = lambda fd, position, asked=None, size=size: os.pread(fd, asked or size, position)
        try:
            assert b"".join(mbox.quoted(message)) == quoted_line_by_line(data)
        finally:
            mbox._read = real
    os.close(message)


def test_a_line_of_a_hundred_thousand_quotes_needs_no_memory_for_them(tmp_path):
    data = b">" * 300_000 + b"From x\n"
    message = open_message(tmp_path, data)
    pieces = list(mbox.quoted(message))
    os.close(message)
    assert b"".join(pieces) == b">" + data + b"\n"
    assert max(map(len, pieces)) <= mbox.CHUNK_BYTES


def test_messages_follow_one_another(tmp_path):
    append(tmp_path, b"one\n")
    append(tmp_path, b"two\n")
    assert (tmp_path / "Mailbox").read_bytes() == b"From x\none\n\nFrom x\ntwo\n\n"
    assert os.stat(tmp_path / "Mailbox").st_mode & 0o777 == 0o600


def test_a_full_disk_cuts_the_file_back(tmp_path, monkeypatch):
    append(tmp_path, b"one\n")
    before = (tmp_path / "Mailbox").read_bytes()
    calls = []
    real = os.write

    def write(fd, data):
        calls.append(fd)
        if len(calls) == 2:
            raise OSError(28, "no space")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(TemporaryFailure) as caught:
        append(tmp_path, b"two\n")
    monkeypatch.undo()
    assert caught.value.text == "Unable to write ./Mailbox: out of disk space. (#4.3.0)"
    assert (tmp_path / "Mailbox").read_bytes() == before


def test_a_lock_that_others_keep_puts_the_delivery_off(tmp_path):
    append(tmp_path, b"one\n")
    before = (tmp_path / "Mailbox").read_bytes()
    with open(tmp_path / "Mailbox", "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TemporaryFailure) as caught:
            append(tmp_path, b"two\n", patience=0.0)
    assert caught.value.text == "File has been locked for 30 seconds straight. (#4.3.0)"
    assert (tmp_path / "Mailbox").read_bytes() == before


def test_the_lock_is_taken_when_it_comes_free(tmp_path, monkeypatch):
    append(tmp_path, b"one\n")
    with open(tmp_path / "Mailbox", "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        monkeypatch.setattr(mbox.time, "sleep", lambda _: fcntl.flock(other, fcntl.LOCK_UN))
        append(tmp_path, b"two\n")
    assert (tmp_path / "Mailbox").read_bytes().count(b"From x\n") == 2


def test_a_link_is_followed_as_people_have_it(tmp_path):
    (tmp_path / "real").write_bytes(b"")
    os.symlink("real", tmp_path / "Mailbox")
    append(tmp_path, b"one\n")
    assert (tmp_path / "real").read_bytes() == b"From x\none\n\n"


def test_swapping_the_file_after_it_was_opened_changes_nothing(tmp_path, monkeypatch):
    """Whoever swaps a link in after the opening does not get the message, nor does what the link shows to."""
    (tmp_path / "Mailbox").write_bytes(b"")
    (tmp_path / "victim").write_bytes(b"precious")
    real = fcntl.flock

    def flock(fd, what):
        if not os.path.islink(tmp_path / "Mailbox"):
            os.rename(tmp_path / "Mailbox", tmp_path / "moved")
            os.symlink("victim", tmp_path / "Mailbox")
        return real(fd, what)

    monkeypatch.setattr(mbox.fcntl, "flock", flock)
    append(tmp_path, b"one\n")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert (tmp_path / "moved").read_bytes() == b"From x\none\n\n"


@pytest.mark.parametrize(("make", "why"), [(os.mkdir, "is a directory"), (os.mkfifo, "device not configured")])
def test_what_is_no_file_is_a_temporary_failure(tmp_path, home, make, why):
    make(tmp_path / "Mailbox")
    with pytest.raises(TemporaryFailure) as caught:
        append(tmp_path, b"x")
    assert caught.value.text == f"Unable to open ./Mailbox: {why}. (#4.2.1)"
