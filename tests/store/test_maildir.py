"""A Maildir: a message is there whole, or not at all; success means that it stays."""

import os

import pytest

from pluq.errors import TemporaryFailure
from pluq.store import maildir


@pytest.fixture
def home(tmp_path):
    for name in ("tmp", "new", "cur"):
        (tmp_path / "Maildir" / name).mkdir(parents=True)
    fd = os.open(tmp_path, os.O_PATH)
    yield fd
    os.close(fd)


@pytest.fixture
def message(tmp_path):
    def make(data):
        (tmp_path / "message").write_bytes(data)
        fd = os.open(tmp_path / "message", os.O_RDONLY)
        opened.append(fd)
        return fd

    opened = []
    yield make
    for fd in opened:
        os.close(fd)


def delivered(tmp_path):
    assert os.listdir(tmp_path / "Maildir/tmp") == []
    return [(tmp_path / "Maildir/new" / name).read_bytes() for name in sorted(os.listdir(tmp_path / "Maildir/new"))]


@pytest.mark.parametrize("size", [0, 1, 4096, maildir.READ_BYTES - 1, maildir.READ_BYTES, 5_000_001])
def test_the_whole_message_arrives_whatever_its_size(tmp_path, home, message, size):
    data = os.urandom(size)
    maildir.deliver(b"./Maildir/", home, b"Return-Path: <>\n", message(data))
    assert delivered(tmp_path) == [b"Return-Path: <>\n" + data]


def test_only_the_owner_may_read_it(tmp_path, home, message):
    maildir.deliver(b"./Maildir/", home, b"", message(b"x"))
    (name,) = os.listdir(tmp_path / "Maildir/new")
    assert os.stat(tmp_path / "Maildir/new" / name).st_mode & 0o777 == 0o600


def test_names_differ_within_a_second(tmp_path, home, message):
    for _ in range(100):
        maildir.deliver(b"./Maildir/", home, b"", message(b"x"))
    assert len(delivered(tmp_path)) == 100


def test_a_name_cannot_leave_the_folder(monkeypatch):
    class Names:
        nodename = "evil/../../host:2,S"

    monkeypatch.setattr(os, "uname", Names)
    assert b"/" not in maildir.unique_name(0)
    assert b":" not in maildir.unique_name(0)


def record_syscalls(monkeypatch, *names):
    calls = []

    def spy(name):
        real = getattr(os, name)

        def call(*arguments, **options):
            calls.append(name)
            return real(*arguments, **options)

        monkeypatch.setattr(maildir.os, name, call)

    for name in names:
        spy(name)
    return calls


def test_the_file_is_synced_before_it_is_seen_and_new_before_success(home, message, monkeypatch):
    calls = record_syscalls(monkeypatch, "fsync", "link", "unlink")
    maildir.deliver(b"./Maildir/", home, b"", message(b"x"))
    assert calls == ["fsync", "link", "unlink", "fsync"]


@pytest.mark.parametrize("step", ["write", "fsync", "link"])
def test_a_failure_leaves_nothing_behind(tmp_path, home, message, monkeypatch, step):
    fd = message(b"x")

    def fail(*arguments, **options):
        raise OSError(28, "no space")

    monkeypatch.setattr(maildir.os, step, fail)
    with pytest.raises(TemporaryFailure) as caught:
        maildir.deliver(b"./Maildir/", home, b"", fd)
    assert caught.value.text == "Temporary error on maildir delivery. (#4.3.0)"
    assert delivered(tmp_path) == []


def test_a_failed_sync_of_new_is_no_success(home, message, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(fd):
        synced.append(fd)
        if len(synced) == 2:
            raise OSError(5, "input/output error")
        real(fd)

    fd = message(b"x")
    monkeypatch.setattr(maildir.os, "fsync", fsync)
    with pytest.raises(TemporaryFailure):
        maildir.deliver(b"./Maildir/", home, b"", fd)


def test_no_maildir_is_said_so(home, message):
    with pytest.raises(TemporaryFailure) as caught:
        maildir.deliver(b"./None/", home, b"", message(b"x"))
    assert caught.value.text == "Unable to chdir to maildir. (#4.2.1)"


@pytest.mark.parametrize("missing", ["tmp", "new"])
def test_half_a_maildir_is_a_temporary_failure(tmp_path, home, message, missing):
    os.rmdir(tmp_path / "Maildir" / missing)
    with pytest.raises(TemporaryFailure):
        maildir.deliver(b"./Maildir/", home, b"", message(b"x"))


def test_a_link_planted_under_a_guessed_name_is_not_followed(tmp_path, home, message, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    names = iter([b"guessed", b"guessed", b"guessed"])
    monkeypatch.setattr(maildir, "unique_name", lambda now: next(names))
    os.symlink(victim, tmp_path / "Maildir/tmp/guessed")
    with pytest.raises(TemporaryFailure):
        maildir.deliver(b"./Maildir/", home, b"", message(b"x"))
    assert victim.read_bytes() == b"precious"


def test_a_file_planted_under_a_guessed_name_in_new_is_not_replaced(tmp_path, home, message, monkeypatch):
    names = iter([b"guessed", b"other"])
    monkeypatch.setattr(maildir, "unique_name", lambda now: next(names))
    (tmp_path / "Maildir/new/guessed").write_bytes(b"mail of before")
    maildir.deliver(b"./Maildir/", home, b"", message(b"x"))
    assert delivered(tmp_path) == [b"mail of before", b"x"]


def test_a_maildir_swapped_while_we_write_gets_nothing_it_did_not_have(tmp_path, home, message):
    """The folder is opened once: what is put in its place under its name is not touched."""
    folder = maildir.open_maildir(b"./Maildir/", home)
    staged = maildir.stage(folder, b"", message(b"x"))
    os.rename(tmp_path / "Maildir", tmp_path / "moved")
    for name in ("tmp", "new"):
        (tmp_path / "Maildir" / name).mkdir(parents=True)
    maildir.publish(staged)
    os.close(folder)
    assert os.listdir(tmp_path / "Maildir/new") == []
    assert len(os.listdir(tmp_path / "moved/new")) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_drop_box_that_cannot_be_read_still_takes_mail(tmp_path, home, message):
    os.chmod(tmp_path / "Maildir/new", 0o300)
    maildir.deliver(b"./Maildir/", home, b"", message(b"x"))
    os.chmod(tmp_path / "Maildir/new", 0o700)
    assert delivered(tmp_path) == [b"x"]


@pytest.mark.parametrize("size", [0, 1, maildir.READ_BYTES - 1, maildir.READ_BYTES, maildir.READ_BYTES + 1, 200_000])
def test_what_was_read_already_is_not_read_again(tmp_path, home, message, size):
    text = os.urandom(size)
    folder = maildir.open_maildir(b"./Maildir/", home)
    file = message(text)
    for start in (None, text[: maildir.READ_BYTES]):
        maildir.publish(maildir.stage(folder, b"A: b\n", file, start=start))
    os.close(folder)
    assert delivered(tmp_path) == [b"A: b\n" + text] * 2
