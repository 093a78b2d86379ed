"""Commands that are cut, doubled, endless, of another protocol or of no alphabet: each line is answered once, and what stands in it stays in it."""

import resource

import pytest

from pluq.testing.smtp_session import Talk

START = b"MAIL FROM:<a@b>\r\nRCPT TO:<x@example.org>\r\n"
MESSAGE = b"DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"
# What would be left of the other line of a command that was taken for two.
EVIL = b"evil@evil.example"


def codes(talk):
    """The code of each reply that was given."""
    return [line[:3] for line in talk.said.split(b"\r\n")[:-1] if line[3:4] == b" "]


@pytest.mark.parametrize(
    "line",
    [
        b"MAIL FROM:<a\r@b>",
        b"MAIL FROM:<a@b\r>",
        b"MAIL FROM:<a\rMAIL FROM:<evil@evil.example>",
        b'MAIL FROM:<"a\\\rb"@c>',
    ],
)
def test_a_bare_cr_in_an_address_is_refused(line):
    talk = Talk()
    assert talk.send(line + b"\r\n").startswith(b"555 ")
    talk.send(START + MESSAGE)
    assert [queued.sender for queued in talk.queue.messages] == [b"a@b"], "the session is in step"


@pytest.mark.parametrize(
    "line",
    [
        b"MAIL FROM:<a@b\0>RCPT TO:<evil@evil.example>",
        b"HELO x\0y",
        b"HELO x\ry",
        b"HELO x\x1b[2J\x07y",
        b"EHLO " + b"\xff\xfe\x80" * 20,
        b"RCPT TO:<evil@evil.example\0@example.org>",
        b"NOOP\0MAIL FROM:<evil@evil.example>",
    ],
)
def test_octets_that_are_no_text_reach_neither_envelope_nor_field_nor_log(line):
    talk = Talk()
    talk.send(line + b"\r\n" + START + MESSAGE)
    (queued,) = talk.queue.messages
    assert EVIL not in b"".join([queued.sender, *queued.recipients])
    received = queued.message.split(b"Subject:")[0]
    assert not set(received) - set(range(32, 127)) - {10}
    assert received.count(b"\n") == 2
    assert not any(not text.isprintable() for text in talk.logged)


def test_a_line_that_ends_in_lf_alone_is_one_command():
    """As in qmail, which reads lines up to LF: the two are two commands for everybody, and each has its reply."""
    talk = Talk()
    talk.send(b"MAIL FROM:<a@b>\nRCPT TO:<x@example.org>\n")
    assert codes(talk) == [b"220", b"250", b"250"]
    assert talk.said.count(b"\n") == talk.said.count(b"\r\n")


@pytest.mark.parametrize("pieces", [1, 7, 10_000])
def test_who_speaks_early_is_understood_as_who_waits(pieces):
    stream = b"EHLO x\r\n" + START + MESSAGE + b"QUIT\r\n"
    talk = Talk()
    size = len(stream) // pieces or 1
    for start in range(0, len(stream), size):
        talk.send(stream[start : start + size])
    assert codes(talk) == [b"220", b"250", b"250", b"250", b"354", b"250", b"221"]
    assert len(talk.queue.messages) == 1


@pytest.mark.parametrize("size", [b"0 LAST", b"5", b"-1", b"9223372036854775808", b"x", b""])
def test_bdat_is_not_offered_and_takes_nothing(size):
    talk = Talk()
    assert b"CHUNKING" not in talk.send(b"EHLO x\r\n")
    talk.send(START)
    assert talk.send(b"BDAT " + size + b"\r\n").startswith(b"502 ")
    assert talk.send(b"RSET\r\n") == b"250 flushed\r\n"


@pytest.mark.parametrize("size", [512, 1000, 32_000, 64_000, 1_000_000])
def test_a_long_line_has_one_reply_and_the_next_one_too(size):
    talk = Talk()
    talk.send(b"NOOP " + b"x" * size + b"\r\nNOOP\r\n")
    assert codes(talk) == [b"220", b"250" if size < 32_768 else b"500", b"250"]


def test_a_hundred_megabytes_without_a_line_end_take_no_memory():
    talk = Talk()
    piece = b"x" * 65536
    talk.send(piece)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1600):
        talk.send(piece)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096
    assert codes(talk) == [b"220", b"500"]
    talk.send(b"\r\nNOOP\r\n")
    assert codes(talk) == [b"220", b"500", b"250"]


SMTP_BODY = b"\r\n\r\nHELO x\r\n" + START + MESSAGE
STRANGERS = {
    "a form": b"POST / HTTP/1.1\r\nHost: mx\r\nContent-Length: 200" + SMTP_BODY,
    "a page": b"GET / HTTP/1.0" + SMTP_BODY,
    "another method": b"PUT /x HTTP/2" + SMTP_BODY,
    "a TLS client": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32) + b"\n" + START + MESSAGE,
}


@pytest.mark.parametrize("stream", STRANGERS.values(), ids=STRANGERS)
@pytest.mark.parametrize("cut", [1, 5, 100_000])
def test_another_protocol_is_hung_up_on_at_its_first_line(stream, cut):
    talk = Talk()
    for start in range(0, len(stream), cut):
        talk.send(stream[start : start + cut])
    assert talk.is_closed
    assert not talk.queue.messages
    assert codes(talk) == [b"220", b"502"]


@pytest.mark.parametrize(
    "banner",
    [b"SSH-2.0-OpenSSH_9.2\r\n", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", b"USER joe\r\n", b"*1\r\n$4\r\nPING\r\n"],
)
def test_other_greetings_are_unknown_commands(banner):
    talk = Talk()
    talk.send(banner)
    assert set(codes(talk)[1:]) == {b"502"}
    assert talk.session.remote_ip == "192.0.2.7"


@pytest.mark.parametrize(
    "line", [b"NOOP", b"RSET", b"XYZZY", b"VRFY root", b"HELO x", b"MAIL FROM:<a@b>", b"RCPT TO:<x@far.example>"]
)
def test_a_flood_of_commands_without_mail_ends_the_session(line):
    talk = Talk()
    for _ in range(10_000):
        if talk.is_closed:
            break
        talk.send(line + b"\r\n")
    assert talk.is_closed
    assert len(codes(talk)) < 1100


def test_eight_bit_addresses_are_octets_as_in_qmail():
    """No extension is asked for; they pass as they are, in the envelope only."""
    talk = Talk()
    talk.send("MAIL FROM:<jörg@exämple.org>\r\n".encode() + b"RCPT TO:<\xff\x80@example.org>\r\n" + MESSAGE)
    (queued,) = talk.queue.messages
    assert (queued.sender, queued.recipients) == ("jörg@exämple.org".encode(), [b"\xff\x80@example.org"])
    assert b"\xff" not in queued.message
