from __future__ import annotations

import io
from typing import BinaryIO

from hypothesis import given
from hypothesis import strategies as st

from pluq.pop3 import transaction
from pluq.pop3.transaction import Message, Transaction, leading_number, retrieval


class FakeDrop:
    """A mailbox in memory."""

    def __init__(self, *contents: bytes) -> None:
        self.contents = {b"new/%d" % number: content for number, content in enumerate(contents)}
        self.messages = [Message(name, len(content)) for name, content in self.contents.items()]
        self.kept: list[bytes] = []

    def open(self, message: Message) -> BinaryIO:
        if message.name not in self.contents:
            raise FileNotFoundError
        return io.BytesIO(self.contents[message.name])

    def remove(self, message: Message) -> bool:
        return self.contents.pop(message.name, None) is not None

    def keep(self, message: Message) -> None:
        self.kept.append(message.name)


def say(session: Transaction, verb: bytes, argument: bytes = b"") -> bytes:
    return b"".join(session.command(verb, argument))


def test_a_message_that_has_gone_is_refused_and_the_session_goes_on() -> None:
    drop = FakeDrop(b"x\n")
    session = Transaction(drop)
    drop.contents.clear()

    assert say(session, b"retr", b"1") == b"-ERR unable to open that message\r\n"
    assert not session.finished


def test_quit_reports_each_message_that_could_not_be_removed() -> None:
    drop = FakeDrop(b"a\n", b"b\n", b"c\n")
    session = Transaction(drop)
    say(session, b"dele", b"1")
    say(session, b"dele", b"2")
    drop.contents.pop(b"new/0")

    assert say(session, b"quit") == b"-ERR unable to unlink all deleted messages\r\n+OK \r\n"
    assert drop.kept == [b"new/2"]
    assert list(drop.contents) == [b"new/2"]


def test_an_unreadable_message_ends_the_session_without_a_final_dot() -> None:
    class Broken(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            raise IsADirectoryError

    drop = FakeDrop(b"x\n")
    drop.open = lambda message: Broken()  # type: ignore[method-assign]
    session = Transaction(drop)

    assert say(session, b"retr", b"1") == b"+OK \r\n"
    assert session.finished


def undone(sent: bytes) -> bytes:
    """Return the message that a client makes of what it got (RFC 1939 section 3)."""
    assert sent.endswith(b"\r\n.\r\n")
    lines = sent[: -len(b".\r\n")].split(b"\r\n")[:-1]
    assert b"." not in lines
    return b"\n".join(line.removeprefix(b".") for line in lines)


@given(st.lists(st.sampled_from([b"", b".", b"..", b".x", b"word", b"\r", b"a" * 20, b"\xff\0"]), max_size=8))
def test_what_arrives_is_the_message_with_one_empty_line(lines: list[bytes]) -> None:
    message = b"".join(line + b"\n" for line in lines)
    assert undone(b"".join(retrieval(io.BytesIO(message), None))) == message


@given(st.binary(max_size=300), st.none() | st.integers(0, 5), st.integers(1, 7))
def test_the_size_of_the_pieces_makes_no_difference(message: bytes, lines: int | None, size: int) -> None:
    whole = b"".join(retrieval(io.BytesIO(message), lines))
    before = transaction.PIECE_BYTES
    transaction.PIECE_BYTES = size
    try:
        assert b"".join(retrieval(io.BytesIO(message), lines)) == whole
    finally:
        transaction.PIECE_BYTES = before


@given(st.integers(0, 10**90), st.text("abc -.", max_size=3))
def test_numbers_wrap_as_an_unsigned_long(number: int, rest: str) -> None:
    assert leading_number(b"%d%b" % (number, rest.encode())) == (number % 2**64, rest.encode())


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_no_command_of_a_stranger_breaks_the_session(verb: bytes, argument: bytes) -> None:
    reply = say(Transaction(FakeDrop(b"a\n")), verb, argument)
    assert reply.startswith((b"+OK", b"-ERR"))
    assert reply.endswith(b"\r\n")


@given(st.sampled_from(sorted(transaction.COMMANDS)), st.text("0123456789 x-", max_size=8))
def test_no_argument_of_a_stranger_breaks_a_command(verb: bytes, argument: str) -> None:
    assert say(Transaction(FakeDrop(b"a\n", b".\n")), verb, argument.encode()).startswith((b"+OK", b"-ERR"))
