from __future__ import annotations

import os
from pathlib import Path

import pytest

from pluq.errors import TemporaryFailure
from pluq.pop3.maildrop import MaildirDrop
from pluq.store.maildir_list import TMP_SECONDS

NOW = 1_700_000_000


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    for folder in ("tmp", "new", "cur"):
        (tmp_path / folder).mkdir()
    return tmp_path


def put(maildir: Path, name: str, mtime: int = NOW - 10, content: bytes = b"x\n") -> Path:
    file = maildir / name
    file.write_bytes(content)
    os.utime(file, (mtime, mtime))
    return file


def drop(maildir: Path) -> MaildirDrop:
    return MaildirDrop(os.fsencode(maildir), NOW)


def test_messages_stand_in_the_order_of_arrival_wherever_they_are(maildir: Path) -> None:
    put(maildir, "new/z", NOW - 3)
    put(maildir, "cur/b:2,S", NOW - 5)
    put(maildir, "new/a", NOW - 3)
    assert [message.unique for message in drop(maildir).messages] == [b"b", b"a", b"z"]


def test_a_message_of_this_second_waits_for_the_next_session(maildir: Path) -> None:
    put(maildir, "new/a", NOW)
    assert drop(maildir).messages == []


def test_hidden_files_are_no_messages(maildir: Path) -> None:
    put(maildir, "new/.x")
    put(maildir, "tmp/.old", 1)
    assert drop(maildir).messages == []
    assert (maildir / "tmp/.old").exists()


def test_only_files_given_up_long_ago_leave_tmp(maildir: Path) -> None:
    old = put(maildir, "tmp/old", NOW - TMP_SECONDS - 1)
    young = put(maildir, "tmp/young", NOW - TMP_SECONDS)
    drop(maildir)
    assert (old.exists(), young.exists()) == (False, True)


def test_a_new_message_becomes_seen_and_a_seen_one_keeps_its_flags(maildir: Path) -> None:
    put(maildir, "new/a")
    put(maildir, "cur/b:2,RS")
    mailbox = drop(maildir)
    for message in mailbox.messages:
        mailbox.keep(message)
    assert sorted(path.name for path in (maildir / "cur").iterdir()) == ["a:2,", "b:2,RS"]


def test_removing_twice_is_a_failure(maildir: Path) -> None:
    put(maildir, "new/a")
    mailbox = drop(maildir)
    assert mailbox.remove(mailbox.messages[0])
    assert not mailbox.remove(mailbox.messages[0])


def test_a_fifo_does_not_hold_the_session(maildir: Path) -> None:
    os.mkfifo(maildir / "new/fifo")
    os.utime(maildir / "new/fifo", (1, 1))
    mailbox = drop(maildir)
    with mailbox.open(mailbox.messages[0]) as file:
        assert file.readline(10) == b""


@pytest.mark.parametrize("missing", ["new", "cur"])
def test_half_a_maildir_is_a_temporary_failure(maildir: Path, missing: str) -> None:
    (maildir / missing).rmdir()
    with pytest.raises(TemporaryFailure, match=missing):
        drop(maildir)
