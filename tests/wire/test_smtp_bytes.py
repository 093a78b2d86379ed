"""What leaves and what comes in, as bytes. The model for both is qmail-remote."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import ProtocolError
from pluq.wire.smtp import (
    MAX_TEXT_BYTES,
    DotStuffer,
    Reply,
    ReplyParser,
    capabilities,
    enhanced_code,
    stuff,
    stuff_chunks,
)

message_bytes = st.lists(st.sampled_from([b"a", b".", b"\n", b"\r", b"\r\n", b"..", b"\0", b"\xff"])).map(b"".join)
reply_bytes = st.lists(st.sampled_from([b"2", b"5", b"0", b"-", b" ", b"\r", b"\n", b"x", b"\0"]), max_size=60).map(
    b"".join
)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", b""),
        (b"a\n", b"a\r\n"),
        (b".\n..\n.a\n", b"..\r\n...\r\n..a\r\n"),
        (b"a\r\nb\r\n", b"a\r\nb\r\n"),
        (b"a\r", b"a\r\n"),
        (b"a\r.\r", b"a\r\n..\r\n"),
        (b"a\r\r\n.\r\r\n", b"a\r\n\r\n..\r\n\r\n"),
        (b"a\n.\r\nMAIL FROM:<x>\r\n", b"a\r\n..\r\nMAIL FROM:<x>\r\n"),
    ],
)
def test_a_message_leaves_with_crlf_and_doubled_dots(message: bytes, wire: bytes) -> None:
    assert stuff(message) == wire


@pytest.mark.parametrize("message", [b"a", b"a\nb", b".", b"a\r\n."])
def test_a_partial_final_line_cannot_be_sent(message: bytes) -> None:
    with pytest.raises(ProtocolError):
        stuff(message)
    with pytest.raises(ProtocolError):
        list(stuff_chunks([message]))


@given(message_bytes)
def test_nothing_bare_and_no_single_dot_ever_leaves(message: bytes) -> None:
    wire = stuff(message + b"\n")
    assert re.search(rb"(?<!\r)\n|\r(?!\n)", wire) is None
    assert not any(line == b"." for line in wire.split(b"\r\n"))
    assert all(line[:1] != b"." or line[:2] == b".." for line in wire.split(b"\r\n"))


@given(message_bytes, st.lists(st.integers(0, 5)))
def test_pieces_give_the_same_bytes_as_the_whole(message: bytes, sizes: list[int]) -> None:
    try:
        whole = stuff(message)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            list(stuff_chunks(cut(message, sizes)))
    else:
        assert b"".join(stuff_chunks(cut(message, sizes))) == whole


def test_the_stuffer_holds_at_most_a_cr() -> None:
    stuffer = DotStuffer()
    assert stuffer.feed(b"x" * 1000 + b"\r") == b"x" * 1000
    assert stuffer.feed(b"\n.") == b"\r\n.."


@pytest.mark.parametrize(
    ("data", "replies"),
    [
        (b"220 hi\r\n", [Reply(220, b"220 hi\n")]),
        (b"250\n", [Reply(250, b"250\n")]),
        (b"250-a\r\n250 b\r\n354 go\n", [Reply(250, b"250-a\n250 b\n"), Reply(354, b"354 go\n")]),
        (b"250-a\r\n599 b\r\n", [Reply(250, b"250-a\n599 b\n")]),  # only the first line's code counts
        (b"250-a\r\n25\nx 250 b\n", [Reply(250, b"250-a\n25\nx 250 b\n")]),  # three bytes of a line, whatever they are
        (b"2\n50 x\n", [Reply(((2 * 100) + (10 - 48) * 10 + 5) & ((1 << 64) - 1), b"2\n50 x\n")]),
        (b"HELLO\r\n", [Reply(2400 + 210 + 28, b"HELLO\n")]),
        (b"250 \r\r\r\n", [Reply(250, b"250 \n")]),
    ],
)
def test_replies_are_read_as_qmail_reads_them(data: bytes, replies: list[Reply]) -> None:
    assert ReplyParser().feed(data) == replies


def test_a_long_reply_keeps_memory_bounded() -> None:
    parser = ReplyParser()
    assert parser.feed(b"550 " + b"x" * 100_000) == []
    for _ in range(100):
        assert parser.feed(b"y" * 10_000) == []
    (reply,) = parser.feed(b"\r\n")
    assert reply.code == 550
    assert reply.text == b"550 " + b"x" * (MAX_TEXT_BYTES - 4)
    assert parser.is_clean


def model(data: bytes) -> list[Reply]:
    """qmail-remote's smtpcode(), byte by byte."""
    replies: list[Reply] = []
    stream = iter(data)
    while True:
        text = b""

        def get() -> int:
            nonlocal text
            byte = next(stream)
            if byte != 13:
                text += bytes([byte])
            return byte

        try:
            code = get() - 48
            code = code * 10 + get() - 48
            code = code * 10 + get() - 48
            while (byte := get()) == 45:
                while byte != 10:
                    byte = get()
                get(), get(), get()
            while byte != 10:
                byte = get()
        except StopIteration:
            return replies
        replies.append(Reply(code & ((1 << 64) - 1), text[:MAX_TEXT_BYTES]))


@given(reply_bytes, st.lists(st.integers(0, 5)))
def test_any_bytes_in_any_pieces_parse_as_in_qmail(data: bytes, sizes: list[int]) -> None:
    parser = ReplyParser()
    assert [reply for piece in cut(data, sizes) for reply in parser.feed(piece)] == model(data)


def test_capabilities_are_keywords_with_parameters() -> None:
    text = b"250-mx.example hello\n250-SIZE 1000\n250-auth=LOGIN\n250-AUTH PLAIN LOGIN\n250-STARTTLS\n250 pipelining\n"
    assert capabilities(text) == {b"SIZE": b"1000", b"AUTH": b"LOGIN", b"STARTTLS": b"", b"PIPELINING": b""}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"550 5.1.1 no such user\n", b"5.1.1"),
        (b"250-2.0.0 ok\n250 2.0.0 ok\n", b"2.0.0"),
        (b"550 no\n", None),
        (b"550 5.1 no\n", None),
        (b"550 192.0.2.1 is listed\n", None),
        (b"", None),
    ],
)
def test_enhanced_codes_are_found_at_the_start_of_a_reply(text: bytes, code: bytes | None) -> None:
    assert enhanced_code(text) == code
