"""One message as a table of states: commands out, replies in, no sockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pluq.errors import ProtocolError
from pluq.remote.client import Dialogue, State, is_unsafe, smtp_address
from pluq.wire.smtp import Reply, stuff_chunks

HOST = b"192.0.2.1"
GOOD = [b"250 sender\n", b"250 rcpt\n", b"354 go\n", b"250 taken\n"]


def start(recipients: list[bytes] | None = None, body: bytes | Iterator[bytes] = b"x\r\n", **options: bool) -> Dialogue:
    return Dialogue(HOST, b"s@src.example", recipients or [b"r@dst.example"], body, **options)


def say(dialogue: Dialogue, replies: list[bytes]) -> bytes:
    """Answer until the dialogue is done; return all that it sent."""
    sent = dialogue.start()
    for text in replies:
        sent += dialogue.answer(Reply(int(text[:3]), text))
        while dialogue.state is State.BODY:
            sent += dialogue.more()
    return sent


def test_one_message_is_sent_as_qmail_remote_sends_it() -> None:
    dialogue = start()
    assert dialogue.start() == b"MAIL FROM:<s@src.example>\r\n"
    assert dialogue.answer(Reply(250, b"250 ok\n")) == b"RCPT TO:<r@dst.example>\r\n"
    assert dialogue.answer(Reply(250, b"250 ok\n")) == b"DATA\r\n"
    assert dialogue.answer(Reply(354, b"354 go\n")) == b""
    assert not dialogue.critical
    assert dialogue.more() == b"x\r\n.\r\n"
    assert dialogue.critical
    assert dialogue.answer(Reply(250, b"250 taken\n")) == b""
    assert dialogue.state is State.DONE
    assert dialogue.records == [b"r", b"K192.0.2.1 accepted message.\nRemote host said: 250 taken\n"]
    assert dialogue.usable
    assert not dialogue.reset_needed


def test_a_pipelined_message_takes_two_groups() -> None:
    dialogue = start(pipelining=True, reset=True)
    assert dialogue.start() == b"RSET\r\nMAIL FROM:<s@src.example>\r\nRCPT TO:<r@dst.example>\r\nDATA\r\n"
    assert say(start(pipelining=True), GOOD).endswith(b"DATA\r\nx\r\n.\r\n")


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ((), 'MAIL FROM:<"дом"@src.example>\r\n'),
        ((b"SIZE=1",), 'MAIL FROM:<"дом"@src.example> SIZE=1\r\n'),
        ((b"BODY=8BITMIME", b"SMTPUTF8"), "MAIL FROM:<дом@src.example> BODY=8BITMIME SMTPUTF8\r\n"),
    ],
)
def test_letters_beyond_ascii_are_quoted_unless_smtputf8_was_agreed(parameters: tuple[bytes, ...], line: str) -> None:
    sender = "дом@src.example".encode()
    dialogue = Dialogue(HOST, sender, [b'"a b"@x', sender], b"", parameters=parameters, pipelining=True)
    assert dialogue.start().startswith(line.encode())
    recipient = line[len("MAIL FROM:") :].partition(">")[0]
    assert dialogue.start().endswith(f"RCPT TO:{recipient}>\r\nDATA\r\n".encode())


@pytest.mark.parametrize("pipelining", [False, True])
@pytest.mark.parametrize(
    ("replies", "records"),
    [
        ([b"550 no\n"], [b"DConnected to 192.0.2.1 but sender was rejected.\nRemote host said: 550 no\n"]),
        ([b"450 no\n"], [b"ZConnected to 192.0.2.1 but sender was rejected.\nRemote host said: 450 no\n"]),
        (
            [b"250 ok\n", b"550 no\n"],
            [
                b"h192.0.2.1 does not like recipient.\nRemote host said: 550 no\n",
                b"DGiving up on 192.0.2.1.\n",
            ],
        ),
        (
            [b"250 ok\n", b"450 no\n"],
            [
                b"s192.0.2.1 does not like recipient.\nRemote host said: 450 no\n",
                b"DGiving up on 192.0.2.1.\n",
            ],
        ),
        (
            [b"250 ok\n", b"250 ok\n", b"554 no\n"],
            [b"r", b"D192.0.2.1 failed on DATA command.\nRemote host said: 554 no\n"],
        ),
        (
            [b"250 ok\n", b"250 ok\n", b"354 ok\n", b"452 full\n"],
            [b"r", b"Z192.0.2.1 failed after I sent the message.\nRemote host said: 452 full\n"],
        ),
    ],
)
def test_refusals_say_the_same_with_and_without_pipelining(
    pipelining: bool, replies: list[bytes], records: list[bytes]
) -> None:
    dialogue = start(pipelining=pipelining)
    ahead = [b"503 bad sequence\n"] * (3 - len(replies)) if pipelining else []
    say(dialogue, replies + ahead)
    assert dialogue.state is State.DONE
    assert dialogue.records == records
    assert dialogue.usable
    assert not dialogue.may_try_again


def test_what_the_next_message_must_begin_with() -> None:
    refused = start()
    say(refused, [b"250 ok\n", b"550 no\n"])
    assert refused.reset_needed
    nothing_open = start()
    say(nothing_open, [b"550 no\n"])
    assert not nothing_open.reset_needed


def test_a_peer_that_wants_a_message_for_nobody_hears_nothing_more() -> None:
    dialogue = start(pipelining=True)
    say(dialogue, [b"250 ok\n", b"550 no\n", b"354 go\n"])
    assert dialogue.state is State.DONE
    assert dialogue.in_message
    assert not dialogue.usable
    assert not dialogue.may_try_again


@pytest.mark.parametrize("lost_after", [0, 1, 2, 3])
def test_a_connection_that_dies_is_reported_and_only_the_final_dot_is_critical(lost_after: int) -> None:
    dialogue = start()
    say(dialogue, GOOD[:lost_after])
    dialogue.lost()
    critical = lost_after == 3
    assert dialogue.records[-1] == (
        b"ZConnected to 192.0.2.1 but connection died. "
        + (b"Possible duplicate! " if critical else b"")
        + b"(#4.4.2)\n"
    )
    assert dialogue.may_try_again is not critical


def test_a_421_before_the_message_may_be_tried_again_after_it_not() -> None:
    for replies, again in [([b"421 bye\n"], True), ([*GOOD[:3], b"421 bye\n"], False)]:
        dialogue = start(pipelining=True)
        say(dialogue, replies)
        assert dialogue.state is State.DONE
        assert dialogue.may_try_again is again
        assert not dialogue.usable


def test_a_refusal_that_was_said_counts_although_the_connection_dies() -> None:
    dialogue = start(pipelining=True)
    say(dialogue, [b"550 no\n"])
    dialogue.lost()
    assert dialogue.records[0].startswith(b"DConnected to 192.0.2.1 but sender was rejected")
    assert len(dialogue.records) == 1
    assert not dialogue.may_try_again


def test_several_recipients_are_reported_one_by_one() -> None:
    dialogue = start([b"a@d", b"b@d", b"c@d"])
    say(dialogue, [b"250 ok\n", b"450 later\n", b"550 never\n", b"250 c\n", b"354 go\n", b"250 ok\n"])
    assert [record[:1] for record in dialogue.records] == [b"s", b"h", b"r", b"K"]


def test_a_message_that_cannot_be_sent_to_its_end_never_gets_a_dot() -> None:
    def unreadable() -> Iterator[bytes]:
        yield b"half\r\n"
        raise OSError("disk")

    for body, record in [
        (stuff_chunks([b"no end"]), b"DSMTP cannot transfer messages with partial final lines. (#5.6.2)\n"),
        (unreadable(), b"ZUnable to read message. (#4.3.0)\n"),
    ]:
        dialogue = start(body=body)
        sent = say(dialogue, GOOD[:3])
        assert not sent.endswith(b".\r\n")
        assert dialogue.records == [b"r", record]
        assert dialogue.in_message
        assert not dialogue.may_try_again


@pytest.mark.parametrize(
    ("address", "written"),
    [
        (b"", b""),
        (b"postmaster", b"postmaster"),
        (b"a b", b"a b"),  # without an @ nothing is quoted
        (b"a b@x", b'"a b"@x'),
        (b"a@b@x", b'"a@b"@x'),
        (b"@x", b'""@x'),
        (b"#@[]", b"#@[]"),
    ],
)
def test_addresses_are_written_as_qmail_remote_writes_them(address: bytes, written: bytes) -> None:
    assert smtp_address(address) == written


def test_line_breaks_in_addresses_are_seen() -> None:
    assert is_unsafe(b"a@b", b"c@d\r\nRCPT TO:<x@y>")
    assert is_unsafe(b"a\n@b")
    assert not is_unsafe(b"a@b", b"")


def test_protocol_errors_of_a_body_are_not_swallowed_elsewhere() -> None:
    with pytest.raises(ProtocolError):
        list(stuff_chunks([b"x"]))
