"""Each file in tests/dialogues/pop3 is a session with the same mailbox, line for line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pluq.pop3.dialogue import converse
from pluq.pop3.maildrop import MaildirDrop
from pluq.pop3.transaction import Transaction

DIALOGUES = sorted((Path(__file__).parent.parent / "dialogues" / "pop3").glob("*.txt"))
NOW = 1_700_000_000
MAILBOX = {
    "new/1.a": (b"Subject: one\n\nfirst\n.dot\n..two\n", 1000000000),
    "cur/2.b:2,S": (b"Subject: two\n\nl1\nl2\nl3\nno newline", 1000000100),
    "new/3.c": (b"Subject: three\r\n\r\nbody\r\n", 1000000200),
}


def make_maildir(base: Path) -> Path:
    for name, (content, mtime) in MAILBOX.items():
        file = base / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (mtime, mtime))
    return base


def sides(text: str) -> tuple[list[bytes], bytes]:
    """Return what the client says, line by line, and all that the server must answer."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    client = [line[3:].encode() + b"\r\n" for line in lines if line.startswith("C:")]
    server = b"".join(line[3:].encode() + b"\r\n" for line in lines if line.startswith("S:"))
    return client, server


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda path: path.stem)
def test_the_session_goes_as_written(dialogue: Path, tmp_path: Path) -> None:
    client, expected = sides(dialogue.read_text())
    capabilities = (b"TOP", b"UIDL") if dialogue.stem.startswith("profile-") else ()
    maildrop = MaildirDrop(os.fsencode(make_maildir(tmp_path)), NOW)
    said = iter(client)
    answered: list[bytes] = []

    converse(Transaction(maildrop, capabilities), lambda size: next(said, b""), answered.append)

    assert b"".join(answered) == expected


def one_byte_at_a_time(data: bytes) -> Iterator[bytes]:
    yield from (data[index : index + 1] for index in range(len(data)))


def test_where_a_read_ends_makes_no_difference(tmp_path: Path) -> None:
    client, expected = sides((DIALOGUES[0].parent / "mailbox.txt").read_text())
    maildrop = MaildirDrop(os.fsencode(make_maildir(tmp_path)), NOW)
    stream = one_byte_at_a_time(b"".join(client))
    answered: list[bytes] = []

    converse(Transaction(maildrop), lambda size: next(stream, b""), answered.append)

    assert b"".join(answered) == expected
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["2.b:2,S", "3.c:2,"]
