"""milter: what is shown to a filter, what its answers mean, what it may change; and what happens when it does none of that well."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq import Message, Recipient, Transaction
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk
from pluq_milter import Milter
from pluq_milter.conversation import Server, parse_reply
from pluq_milter.edits import apply
from pluq_milter.packets import (
    ALL_ACTIONS,
    AddHeader,
    AddRecipient,
    Body,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    InsertHeader,
    MilterError,
    Options,
    Step,
    packet,
    parse_change,
    split_texts,
    texts,
)

CONTINUE = packet(b"c")


class Filter:
    """A milter of the test: answers what `answers` says for a command, "continue" else, and remembers what it was told."""

    def __init__(self, answers: dict[bytes, bytes] | None = None, options: Options | None = None) -> None:
        self.answers = answers or {}
        self.options = options or Options(steps=Step(0))
        self.told: list[tuple[bytes, bytes]] = []
        self.macros: dict[bytes, bytes] = {}
        self.has_ended = asyncio.Event()

    def of(self, command: bytes) -> list[bytes]:
        return [data for kind, data in self.told if kind == command]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = struct.unpack(">I", await reader.readexactly(4))
                data = await reader.readexactly(length)
                kind, data = data[:1], data[1:]
                self.told.append((kind, data))
                if kind == b"O":
                    writer.write(self.answers.get(b"O", self.options.encode()))
                elif kind == b"D":
                    pairs = data[1:].split(b"\0")
                    self.macros |= dict(zip(pairs[::2], pairs[1::2], strict=False))
                elif kind == b"Q":
                    break
                else:
                    writer.write(self.answers.get(kind, CONTINUE))
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            self.has_ended.set()


@asynccontextmanager
async def listening(*filters: Filter) -> AsyncIterator[list[str]]:
    """Serve them on ports of their own; yield where."""
    servers = [await asyncio.start_server(one.serve, "127.0.0.1", 0) for one in filters]
    try:
        yield [f"inet:127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    finally:
        for server in servers:
            server.close()
        async with asyncio.timeout(30):
            for one in filters:
                if one.told:
                    await one.has_ended.wait()


def talk_to(
    places: list[str], on_error: str = "defer", patience: float = 60.0, environment: Mapping[str, str] | None = None
) -> Talk:
    logged: list[str] = []
    plugin = make_plugin(Milter, servers=tuple(places), patience=patience, log=logged.append)
    plugin.start()
    plan = plan_of(plugin, on_error=on_error, log=logged.append)
    talk = Talk(plan=plan, environment={"RELAYCLIENT": "", **(environment or {})})
    talk.logged = logged
    return talk


LETTER = b"DATA\r\nSubject: hello\r\nX-Spam: old\r\nX-Spam: older\r\nTo: a,\r\n\tb\r\n\r\nline\r\n..dot\r\n.\r\n"


async def send(talk: Talk, recipients: int = 1) -> list[bytes]:
    """Send one message; return the replies."""
    await talk.ask("EHLO client.example")
    replies = [await talk.ask("MAIL FROM:<ann@example.net> SIZE=10")]
    replies += [await talk.ask(f"RCPT TO:<joe{number}@example.org>") for number in range(recipients)]
    talk.send(LETTER)
    await talk.settled()
    last = talk.said.split(b"\r\n")[-2]
    talk.hang_up()
    await talk.settled()
    return [*(reply.encode() for reply in replies), last]


async def test_everything_that_is_known_of_a_message_is_shown() -> None:
    one = Filter()
    async with listening(one) as places:
        talk = talk_to(places)
        await send(talk, 2)
    assert [kind for kind, _ in one.told if kind != b"D"] == [
        b"O", b"C", b"H", b"M", b"R", b"R", b"T", b"L", b"L", b"L", b"L", b"N", b"B", b"E", b"Q",
    ]  # fmt: skip
    assert one.of(b"H") == [b"client.example\0"]
    assert one.of(b"M") == [b"<ann@example.net>\0SIZE=10\0"]
    assert one.of(b"R") == [b"<joe0@example.org>\0", b"<joe1@example.org>\0"]
    assert one.of(b"L") == [b"Subject\0hello\0", b"X-Spam\0old\0", b"X-Spam\0older\0", b"To\0a,\n\tb\0"]
    assert one.of(b"B") == [b"line\r\n.dot\r\n"]
    assert one.macros[b"{mail_addr}"] == b"ann@example.net"
    assert one.macros[b"{rcpt_addr}"] == b"joe1@example.org"
    (queued,) = talk.queue.messages
    assert b"Subject: hello\n" in queued.message


@pytest.mark.parametrize(
    ("command", "answer", "replies"),
    [
        (b"C", packet(b"r"), ["550 Command rejected (#5.7.1)"]),
        (b"H", packet(b"t"), ["451 Service unavailable - try again later (#4.7.1)"]),
        (b"M", packet(b"y", b"553 5.1.8 who are you\0"), ["553 who are you (#5.1.8)"]),
        (b"R", packet(b"r"), ["250 ok", "550 Command rejected (#5.7.1)"]),
        (b"T", packet(b"y", b"452 full 100%%\0"), ["250 ok", "250 ok", "452 full 100%"]),
        (b"L", packet(b"r"), ["250 ok", "250 ok", "550 Command rejected (#5.7.1)"]),
        (b"B", packet(b"r"), ["250 ok", "250 ok", "550 Command rejected (#5.7.1)"]),
        (b"E", packet(b"y", b"554 5.7.1 spam\r\n554 5.7.1 more\0"), ["250 ok", "250 ok", "554 spam (#5.7.1)"]),
        (b"E", packet(b"p") * 3 + packet(b"r"), ["250 ok", "250 ok", "550 Command rejected (#5.7.1)"]),
    ],
)
async def test_a_refusal_is_a_reply_to_the_client(command: bytes, answer: bytes, replies: list[str]) -> None:
    async with listening(Filter({command: answer})) as places:
        talk = talk_to(places)
        await send(talk)
    said = talk.said.decode()
    for reply in replies:
        assert f"{reply}\r\n" in said, said
    assert talk.queue.messages == []


@pytest.mark.parametrize("command", [b"C", b"H", b"M", b"R", b"T", b"L", b"N", b"B", b"E"])
async def test_accept_ends_the_questions_and_discard_takes_the_message_away(command: bytes) -> None:
    for answer, count in ((b"a", 1), (b"d", 0)):
        one = Filter({command: packet(answer)})
        async with listening(one) as places:
            talk = talk_to(places)
            replies = await send(talk)
        assert replies[-1].startswith(b"250 "), replies
        assert len(talk.queue.messages) == count
        after = [kind for kind, _ in one.told if kind != b"D"]
        assert after[after.index(command) :] in ([command, b"Q"], [command])


async def test_what_one_changes_the_next_one_sees_and_the_queue_gets() -> None:
    changes = [
        packet(b"h", b"X-Added\0yes\0"),
        packet(b"i", b"\0\0\0\1X-Top\0first\r\n second\0"),
        packet(b"m", b"\0\0\0\2X-Spam\0new\0"),
        packet(b"m", b"\0\0\0\1X-Spam\0\0"),
        packet(b"m", b"\0\0\0\1X-None\0there\0"),
        packet(b"+", b"<kim@example.org>\0"),
        packet(b"-", b"<joe0@example.org>\0"),
        packet(b"e", b"<bob@example.net>\0"),
        packet(b"b", b"other\r\n"),
        packet(b"b", b"body\r\n"),
    ]
    first, second = Filter({b"E": b"".join(changes) + CONTINUE}), Filter()
    async with listening(first, second) as places:
        talk = talk_to(places)
        await send(talk)
    assert second.of(b"L") == [
        b"X-Top\0first\n second\0", b"Subject\0hello\0", b"X-Spam\0new\0", b"To\0a,\n\tb\0", b"X-Added\0yes\0", b"X-None\0there\0",
    ]  # fmt: skip
    assert second.of(b"B") == [b"other\r\nbody\r\n"]
    (queued,) = talk.queue.messages
    assert (queued.sender, queued.recipients) == (b"bob@example.net", [b"kim@example.org"])
    expected = (
        b"X-Top: first\n second\nSubject: hello\nX-Spam: new\nTo: a,\n\tb\nX-Added: yes\nX-None: there\n\nother\nbody\n"
    )
    assert queued.message.endswith(expected)


async def test_a_milter_that_wants_to_see_less_and_answer_less_gets_its_way() -> None:
    silent = Step.SILENT_MAIL | Step.SILENT_HEADER | Step.SILENT_BODY
    one = Filter(options=Options(steps=Step.NO_HELO | Step.NO_RCPT | Step.NO_DATA | Step.LEADING_SPACE | silent))
    one.answers = {b"M": b"", b"L": b"", b"B": b""}
    async with listening(one) as places:
        talk = talk_to(places)
        await send(talk)
    assert [kind for kind, _ in one.told if kind != b"D"] == [
        b"O",
        b"C",
        b"M",
        b"L",
        b"L",
        b"L",
        b"L",
        b"N",
        b"B",
        b"E",
        b"Q",
    ]
    assert one.of(b"L")[0] == b"Subject\0 hello\0"
    assert len(talk.queue.messages) == 1


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (b"O", packet(b"c")),
        (b"O", packet(b"O", b"\0\0")),
        (b"O", Options(version=1).encode()),
        (b"O", Options(version=7).encode()),
        (b"C", b"\0\0\0\0"),
        (b"C", b"\xff\xff\xff\xffx"),
        (b"M", packet(b"?")),
        (b"M", packet(b"y", b"250 fine\0")),
        (b"R", packet(b"y", b"550 4.1.1 both\0")),
        (b"E", packet(b"q", b"reason\0") + CONTINUE),
        (b"E", packet(b"h", b"no end") + CONTINUE),
        (b"E", packet(b"m", b"\0") + CONTINUE),
        (b"E", packet(b"h", b"Bad Name\0x\0") + CONTINUE),
        (b"E", packet(b"h", b"X\0a\rb\0") + CONTINUE),
        (b"E", packet(b"h", b"X\0y\0") * 10_001 + CONTINUE),
    ],
)
async def test_a_milter_that_makes_no_sense_puts_mail_off_and_loses_none(command: bytes, answer: bytes) -> None:
    for skips in (False, True):
        async with listening(Filter({command: answer})) as places:
            talk = talk_to(places, on_error="skip" if skips else "defer")
            await send(talk)
        assert (b"451 " in talk.said) is not skips
        assert len(talk.queue.messages) == skips
        assert any(places[0] in line for line in talk.logged)


@pytest.mark.parametrize("place", ["inet:127.0.0.1:1", "unix:/nowhere/at/all"])
async def test_a_milter_that_is_away_puts_mail_off(place: str) -> None:
    talk = talk_to([place])
    replies = await send(talk)
    assert replies[0].startswith(b"451 ")


async def test_a_milter_that_does_not_answer_is_waited_for_only_so_long() -> None:
    async with listening(Filter({b"M": b""})) as places:
        talk = talk_to(places, patience=0.05)
        replies = await send(talk)
    assert replies[0].startswith(b"451 ")
    assert any("no answer in 0.05 s" in line for line in talk.logged)


async def test_mail_of_a_connection_that_is_exempt_is_shown_to_nobody() -> None:
    talk = talk_to(["unix:/nowhere"], environment={"MILTERSKIP": "1"})
    assert (await send(talk))[-1].startswith(b"250 ")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("inet:127.0.0.1:11332", ("", "127.0.0.1", 11332)),
        ("inet:8891@localhost", ("", "localhost", 8891)),
        ("inet6:[::1]:25", ("", "::1", 25)),
        ("unix:/run/x.sock", ("/run/x.sock", "", 0)),
        ("local:/run/x.sock", ("/run/x.sock", "", 0)),
    ],
)
def test_places_are_written_as_for_postfix_and_sendmail(text: str, place: tuple[str, str, int]) -> None:
    server = Server(text)
    assert (server.path, server.host, server.port) == place


def test_what_is_no_place_is_told_by_check() -> None:
    for text in ("127.0.0.1:25", "inet:25", "unix:x", "inet:host:99999", ""):
        (fault,) = make_plugin(Milter, servers=(text,)).check()
        assert "is none of" in fault
    assert make_plugin(Milter).check() == ["servers: names no milter"]


BYTES = st.binary(max_size=80)


@given(st.sampled_from([b"h", b"i", b"m", b"+", b"2", b"-", b"e", b"b", b"q", b"", b"x"]), BYTES)
def test_any_change_is_carried_out_or_refused_and_the_header_stays_one(kind: bytes, data: bytes) -> None:
    message = Message.from_bytes(b"Subject: x\nX-A: 1\n\nbody\n")
    transaction = Transaction(b"a@b", recipients=[Recipient(b"c@d")])
    try:
        apply([parse_change(kind, data, ALL_ACTIONS)], message, transaction, False)
    except MilterError:
        return
    whole = message.as_bytes()
    assert whole.count(b"\n\n") >= 1
    if kind != b"b":
        assert whole.endswith(b"\n\nbody\n")
        assert b"\0" not in whole


@given(BYTES)
def test_any_reply_is_a_verdict_or_refused(data: bytes) -> None:
    try:
        parse_reply(data)
    except MilterError:
        return
    assert data[:1] in (b"4", b"5")


@given(st.lists(BYTES.map(lambda text: text.replace(b"\0", b"")), max_size=5))
def test_texts_that_are_written_are_read(items: list[bytes]) -> None:
    assert split_texts(texts(*items), len(items)) == items


CASES: list[tuple[Callable[..., object], bytes]] = [
    (AddHeader, b"h"), (InsertHeader, b"i"), (ChangeHeader, b"m"), (AddRecipient, b"+"), (DeleteRecipient, b"-"), (ChangeSender, b"e"), (Body, b"b"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "letter"), CASES, ids=[letter.decode() for _, letter in CASES])
def test_a_change_that_was_not_agreed_on_is_refused(kind: Callable[..., object], letter: bytes) -> None:
    data = b"\0\0\0\1X-A\0b\0"
    assert isinstance(parse_change(letter, data if letter in b"im" else data[4:], ALL_ACTIONS), kind)  # type: ignore[arg-type]
    with pytest.raises(MilterError, match="was not agreed on"):
        parse_change(letter, data, type(ALL_ACTIONS)(0))


class TestConformance(Conformance):
    """No milter is asked: one whose answers come over a socket needs an event loop, which is what `Talk` does without."""

    plugin = Milter
    settings: ClassVar[dict[str, Any]] = {"servers": ("unix:/nowhere",), "skip": True}
