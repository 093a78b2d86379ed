"""Parsers of what comes over the network: SMTP on both sides, QMQP, QMTP, POP3, DNS, and the fields and texts of messages."""

from __future__ import annotations

import contextlib
from io import BytesIO

from tests.fuzz.streams import decoded, pieces

from pluq.dns.codec import answers_question, decode_answer, encode_question, is_truncated
from pluq.errors import PermanentFailure, ProtocolError, TemporaryFailure
from pluq.hookspecs.message import Message, split_fields
from pluq.mail import address, bounce, header, tokens
from pluq.mail.envelope import bounce_target, verp_sender
from pluq.mail.received import server_received
from pluq.pop3.dialogue import Lines, split_command
from pluq.pop3.transaction import leading_number
from pluq.remote import report
from pluq.remote.client import Dialogue, State
from pluq.smtpd.results import is_ours, mark
from pluq.testing.smtp_session import Talk
from pluq.wire import netstring, qmqp, qmtp, smtp

LIMIT = 100_000
NOW = 1_700_000_000
US = "mx.example.org"
TYPES = ("A", "MX", "TXT", "PTR", "TLSA", "AAAA", "CNAME", "SRV")


def smtp_commands(data: bytes) -> None:
    """Replies have SMTP's form and envelopes break no line; and the same comes out however the bytes are cut."""
    whole, cut = Talk(), Talk()
    whole.send(data)
    for piece in pieces(data):
        cut.send(piece)
    assert [one.text for one in whole.queue.messages] == [one.text for one in cut.queue.messages]
    for line in whole.said.split(b"\r\n")[:-1]:
        assert line[:3].isdigit(), line
        assert line[3:4] in (b" ", b"-"), line
        assert b"\n" not in line, line
    for queued in whole.queue.messages:
        for one in (queued.sender, *queued.recipients):
            assert len(one) <= address.MAX_ADDRESS + 100, one
            assert not set(one) & {0, 10}, one
    assert not any("\n" in line for line in whole.logged)


def addresses(data: bytes) -> None:
    """An address that is quoted and read again is the same address."""
    with contextlib.suppress(ProtocolError, PermanentFailure):
        found, rest = address.parse_path(data)
        address.parse_parameters(rest)
        box, _, domain = found.rpartition(b"@")
        if box and not set(found) & {0, 10, 13} and not set(domain) & set(b'\\">@'):
            again = address.parse_path(b"<" + address.quote(found) + b">")[0]
            assert again == found or found.startswith(b"@"), (found, again)
    address.address_literal(data.rpartition(b"@")[2])
    verp_sender(data, b"x@example.org")
    bounce_target(data)


def received(data: bytes) -> None:
    """What strangers say of themselves stands in a header field of ours: it stays one field."""
    host, ip, info, helo, *_ = [*data.split(b"\0"), b"", b"", b"", b""]
    text = server_received(remote_host=host, remote_ip=ip, remote_info=info, helo=helo, local=b"x", when=NOW)
    assert len(split_fields(text)) == 1
    assert text.count(b"\n") == 2


def headers(data: bytes) -> None:
    """Fields are found in linear time, and what is taken out of a message leaves the rest as it was."""
    fields, _ = header.read_header(BytesIO(data).readline)
    for one in fields[:20]:
        found = tokens.parse(one)
        if found is not None:
            header.rewrite_addresses(found, lambda part: list(part))
    message = Message.from_bytes(data)
    assert message.as_bytes() == data
    kept = [field for field in message.fields if len(field.raw) % 2]
    message.remove(lambda field: len(field.raw) % 2 == 0)
    assert split_fields(message.as_bytes())[: len(kept)] == kept


def address_lists(data: bytes) -> None:
    """What is written of an address list can be read again."""
    found = tokens.parse(b"To: " + data)
    if found is None:
        return
    assert tokens.parse(tokens.unparse(found)) is not None
    header.rewrite_addresses(found, lambda part: list(part))


def authentication_results(data: bytes) -> None:
    """A field that claims to be ours goes; one is left, and it is ours."""
    message = Message.from_bytes(b"Authentication-Results: " + data.replace(b"\n", b"") + b"\n\ntext\n")
    mark(message, US, [])
    assert [is_ours(field, US.encode()) for field in split_fields(message.as_bytes())].count(True) == 1


def netstrings(data: bytes) -> None:
    assert decoded(netstring.Decoder(LIMIT).feed, [data])[1] == decoded(netstring.Decoder(LIMIT).feed, pieces(data))[1]
    with contextlib.suppress(ProtocolError):
        payload, rest = netstring.decode(data, LIMIT)
        assert netstring.decode(netstring.encode(payload) + rest, LIMIT) == (payload, rest)
    with contextlib.suppress(ProtocolError):
        netstring.decode_all(data, LIMIT)


def qmqp_and_qmtp(data: bytes) -> None:
    """A request read in pieces is the request read whole."""
    with contextlib.suppress(ProtocolError):
        request = qmqp.parse_request(data, LIMIT)
        decoder = qmqp.RequestDecoder(LIMIT, LIMIT, LIMIT)
        text = b"".join([decoder.feed(piece) for piece in pieces(data)])
        assert (text, decoder.sender, decoder.recipients) == (request.message, request.sender, list(request.recipients))
        assert decoder.complete
    with contextlib.suppress(ProtocolError):
        qmqp.parse_reply(data)
    decoded(qmtp.Answers().feed, pieces(data))
    lines = qmtp.CrlfLines()
    assert b"".join([*map(lines.feed, pieces(data)), lines.finish()]) == data.replace(b"\r\n", b"\n")


def remote_replies(data: bytes) -> None:
    """Whatever a server says, the delivery ends in records that are each one record."""
    whole = decoded(smtp.ReplyParser().feed, [data])
    assert whole == decoded(smtp.ReplyParser().feed, pieces(data))
    dialogue = Dialogue(b"192.0.2.1", b"a@b", [b"c@d", b"e@f"], b"Subject: x\r\n\r\nx\r\n", pipelining=data[:1] > b"@")
    dialogue.start()
    for reply in whole[0]:
        smtp.capabilities(reply.text)
        smtp.enhanced_code(reply.text)
        if dialogue.state is State.DONE:
            break
        dialogue.answer(reply)
        while dialogue.state is State.BODY:
            dialogue.more()
    else:
        dialogue.lost()
    assert not any(b"\0" in record for record in dialogue.records)
    report.spawn_report(report.join_records(dialogue.records))
    report.exit_report(0, data)


def dots(data: bytes) -> None:
    """No message can end itself: the final dot comes once."""
    stuffer = smtp.DotStuffer()
    with contextlib.suppress(ProtocolError):
        text = b"".join([*map(stuffer.feed, pieces(data)), stuffer.finish()])
        assert b"\r\n.\r\n" not in b"\r\n" + text
        assert text == smtp.stuff(data)


def dns_replies(data: bytes) -> None:
    name, kind = b"example.org", TYPES[len(data) % len(TYPES)]
    question = encode_question(name, kind)
    for wire in (data, data[:4] + b"\0\1" + data[6:12] + question + data[12:]):
        if answers_question(wire, question):
            is_truncated(wire)
            with contextlib.suppress(TemporaryFailure, ProtocolError):
                decode_answer(wire, name, kind)


def bounces(data: bytes) -> None:
    """A report and an address in a bounce are one paragraph, whatever they hold."""
    recipient, _, said = data.partition(b"\0")
    text = bounce.paragraph(recipient, said)
    assert text.endswith(b"\n\n")
    assert b"\n\n" not in text[:-2]
    bounce.notice(data, bounce.Postmaster(b"MAILER-DAEMON", b"example.org", b"postmaster@example.org"), NOW)


def pop3(data: bytes) -> None:
    whole, cut = Lines(), Lines()
    lines, refused = decoded(cut.feed, pieces(data))
    if not refused:
        assert (lines, False) == decoded(whole.feed, [data])
    for line in lines:
        verb, argument = split_command(line)
        assert verb == verb.lower()
        assert b"\0" not in argument
        leading_number(argument)
