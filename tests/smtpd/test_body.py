"""The message after DATA, in bulk, against a transcription of qmail-smtpd's octet by octet machine."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.smtpd.body import Body, StrayNewline


def blast(data):
    """The reference: (text, octets used, hops), StrayNewline, or None where the message does not end."""
    state, out, hops, in_header, line = 1, bytearray(), 0, True, b""
    for index, octet in enumerate(data):
        char = bytes([octet])
        if in_header:
            line += char
            if line.lower() in (b"received", b"delivered"):
                hops += 1
            if line == b"\r\n":
                in_header = False
            if char == b"\n":
                line = b""
        if state in (0, 1, 2) and char == b"\n":
            raise StrayNewline
        if state == 0:
            if char == b"\r":
                state = 4
                continue
        elif state == 1:
            if char == b".":
                state = 2
                continue
            if char == b"\r":
                state = 4
                continue
            state = 0
        elif state == 2:
            if char == b"\r":
                state = 3
                continue
            state = 0
        elif state == 3:
            if char == b"\n":
                return bytes(out), index + 1, hops
            out += b".\r"
            if char == b"\r":
                state = 4
                continue
            state = 0
        elif state == 4:
            if char == b"\n":
                state = 1
            elif char != b"\r":
                out += b"\r"
                state = 0
        out += char
    return None


def received(pieces):
    """The same of Body: text, octets used, hops."""
    body, text, used = Body(), b"", 0
    for piece in pieces:
        text += body.feed(piece)
        used += len(piece)
        if body.done:
            assert body.size == len(text)
            return text, used - len(body.rest), body._hops.hops
    return None


def outcome(function, argument):
    try:
        return function(argument)
    except StrayNewline:
        return "stray"


tokens = st.sampled_from(
    [b"\r\n", b".", b"\r", b"\n", b"a", b"\r\n.", b"..", b"\0", b"Received: x\r\n", b"deLIVERED", b"\r\n\r\n", b"\r\n.\r\n", b"rec"]
)  # fmt: skip
messages = st.lists(tokens, max_size=24).map(b"".join)


def cut(data, places):
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(data=messages, places=st.lists(st.integers(0, 400), max_size=8))
def test_any_message_in_any_pieces_is_received_as_by_qmail_smtpd(data, places):
    expected = outcome(blast, data)
    assert outcome(received, cut(data, places)) == expected
    assert outcome(received, [bytes([octet]) for octet in data]) == expected


@pytest.mark.parametrize("first", [b".", b".\r", b"\r", b"\r\n", b"\r\n.", b".\r\n"])
@pytest.mark.parametrize("then", [b"\r\n.\r\n", b"\n.\r\n", b".\r\n", b"x\r\n.\r\n", b"\r\n\r\n.\r\n"])
def test_what_looks_whole_may_be_the_rest_of_a_message(first, then):
    assert outcome(received, [first, then]) == outcome(blast, first + then)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b".\r\n", b""),
        (b"a\r\n.\r\n", b"a\n"),
        (b"..\r\n.\r\n", b".\n"),
        (b"...\r\n.\r\n", b"..\n"),
        (b"\r\n.\r\n", b"\n"),
        (b"a\r\r\nb\r\r\r\n.\r\n", b"a\r\nb\r\r\n"),
        (b"a\r\n.\rb\r\n.\r\r\n.\r\n", b"a\n.\rb\n.\r\n"),
        (b"a\0b\r\n\0\r\n.\r\n", b"a\0b\n\0\n"),
        (b".\rx\r\n.\r\n", b".\rx\n"),
    ],
)
def test_line_ends_and_dots(data, text):
    assert received([data])[0] == text


def test_what_follows_the_end_is_left_over():
    body = Body()
    assert body.feed(b"x\r\n.\r\nNOOP\r\n") == b"x\n"
    assert body.done
    assert body.rest == b"NOOP\r\n"


@pytest.mark.parametrize("boundary", [1024, 4096, 8192, 65536])
@pytest.mark.parametrize("shift", range(-4, 6))
def test_the_end_is_found_across_any_boundary(boundary, shift):
    data = b"x" * (boundary - 3 + shift) + b"\r\n.\r\nQUIT\r\n"
    text, used, _ = received([data[:boundary], data[boundary:]])
    assert text == data[: boundary - 3 + shift] + b"\n"
    assert data[used:] == b"QUIT\r\n"


def test_a_line_without_end_is_passed_on_as_it_comes():
    body = Body()
    for _ in range(100):
        assert len(body.feed(b"x" * 65536)) == 65536
    assert body.size == 6553600


@pytest.mark.parametrize(
    ("header", "looping"),
    [
        (b"Received: x\r\n" * 99, False),
        (b"Received: x\r\n" * 100, True),
        (b"Delivered-To: x\r\n" * 100, True),
        (b"rEcEiVeD: x\r\ndElIvErEd: y\r\n" * 50, True),
        (b"Receivedfoo\r\n" * 100, True),
        (b"Receive: x\r\nDelivere: y\r\n" * 100, False),
        (b" Received: x\r\n" * 120, False),
        (b".Received: x\r\n" * 120, False),
        (b"\r\n" + b"Received: x\r\n" * 120, False),
        (b"Received: x\r\n" * 60 + b"\r\n" + b"Received: x\r\n" * 60, False),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_hops_are_counted_in_the_header(header, looping, step):
    data = header + b"\r\nb\r\n.\r\n"
    body = Body()
    for start in range(0, len(data), step):
        body.feed(data[start : start + step])
    assert body.done
    assert body.is_looping is looping
