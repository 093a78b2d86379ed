"""QMTP and QMQP sessions over bytes in memory and a queue in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.errors import PluqError, ProtocolError, TemporaryFailure
from pluq.qmtpd import qmqp, run
from pluq.qmtpd.intake import Client
from pluq.qmtpd.qmtp import Policy, QmtpSession
from pluq.qmtpd.reader import EndOfInput
from pluq.queue.refusal import QueueRefusal, Receipt
from pluq.wire.netstring import encode
from pluq.wire.qmqp import encode_request
from pluq.wire.qmtp import Answers, encode_package

NOW = 1_000_000_000
HEAD = b"Received: from h.example (192.0.2.1)\n  by unknown with QMTP; 9 Sep 2001 01:46:40 -0000\n"


@dataclass
class FakeQueue:
    """Keeps what is committed; `refusal` is raised instead."""

    refusal: int = 0
    queued: list[tuple[bytes, bytes, list[bytes]]] = field(default_factory=list)
    aborted: int = 0

    async def open(self) -> FakeSubmission:
        return FakeSubmission(self)


class FakeSubmission:
    def __init__(self, queue: FakeQueue) -> None:
        self.queue = queue
        self.message = b""

    def write(self, chunk: bytes) -> None:
        self.message += chunk

    async def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        if self.queue.refusal:
            raise QueueRefusal(self.queue.refusal)
        self.queue.queued.append((self.message, sender, list(recipients)))
        return Receipt(7)

    def abort(self) -> None:
        self.queue.aborted += 1


class Wire:
    """A client that sends `stream` in pieces of at most `size` bytes and keeps the answers."""

    def __init__(self, stream: bytes, size: int = 512) -> None:
        self.stream = stream
        self.size = size
        self.answers = b""

    async def read(self, size: int) -> bytes:
        size = min(size, self.size)
        piece, self.stream = self.stream[:size], self.stream[size:]
        return piece

    async def write(self, data: bytes) -> None:
        self.answers += data


CLIENT = Client({b"TCPREMOTEHOST": b"h.example", b"TCPREMOTEIP": b"192.0.2.1"})


def is_example(address: bytes) -> bool:
    return address.endswith(b"@ok.example")


def qmtp(
    stream: bytes,
    databytes: int = 0,
    relay: bytes | None = None,
    size: int = 512,
    refusal: int = 0,
    ends: type[PluqError] = EndOfInput,
) -> tuple[bytes, FakeQueue]:
    queue, wire = FakeQueue(refusal), Wire(stream, size)
    session = QmtpSession(Policy(databytes, relay, is_example), CLIENT, queue, wire.read, wire.write, lambda: NOW)
    with pytest.raises(ends):
        run(session.serve())
    return wire.answers, queue


def verdicts(answers: bytes) -> str:
    return "".join(answer.verdict for answer in Answers().feed(answers))


ACCEPTED = encode(b"Kok 1000000000 qp 7")


def test_each_package_is_queued_with_our_field_and_answered() -> None:
    one = encode_package(b"one\n", b"s@x", [b"a@ok.example", b"b@ok.example"])
    two = encode_package(b"two\n", b"", [b"c@ok.example"])
    answers, queue = qmtp(one + two)
    assert answers == 3 * ACCEPTED
    assert queue.queued == [
        (HEAD + b"one\n", b"s@x", [b"a@ok.example", b"b@ok.example"]),
        (HEAD + b"two\n", b"", [b"c@ok.example"]),
    ]
    assert queue.aborted == 0


@pytest.mark.parametrize("size", [1, 2, 7, 512])
def test_where_a_read_ends_makes_no_difference(size: int) -> None:
    package = encode(b"\ra\r\nb\r\r\nc\rd") + b"0:,16:12:a@ok.example,,"
    answers, queue = qmtp(package, size=size)
    assert answers == ACCEPTED
    assert queue.queued[0][0] == HEAD + b"a\nb\r\nc\rd"


def test_recipients_are_answered_one_by_one_in_their_order() -> None:
    package = encode_package(b"x\n", b"s@x", [b"a@evil", b"a@ok.example", b"n\0@ok.example", b"l" * 1000, b"\0@evil"])
    answers, queue = qmtp(package)
    assert verdicts(answers) == "DKDDD"
    assert answers.count(b"rcpthosts") == 2
    assert queue.queued[0][2] == [b"a@ok.example"]


def test_relayclient_lets_everything_through_with_its_suffix_and_counts_for_the_length() -> None:
    fits, long = b"f" * 991 + b"@x", b"l" * 992 + b"@x"
    answers, queue = qmtp(encode_package(b"x\n", b"s@x", [fits, long]), relay=b".relay")
    assert verdicts(answers) == "KD"
    assert queue.queued[0][2] == [fits + b".relay"]


def test_a_message_none_of_whose_recipients_is_taken_is_not_queued() -> None:
    answers, queue = qmtp(encode_package(b"x\n", b"s@x", [b"a@evil"]))
    assert (verdicts(answers), queue.queued, queue.aborted) == ("D", [], 1)


@pytest.mark.parametrize("sender", [b"a\0b", b"s" * 1000])
def test_an_impossible_sender_refuses_the_whole_package(sender: bytes) -> None:
    answers, queue = qmtp(encode_package(b"x\n", sender, [b"a@ok.example", b"b@evil"]))
    assert answers.startswith(b"29:Dunacceptable sender (#5.1.7),66:D")
    assert queue.queued == []


@pytest.mark.parametrize(
    ("message", "verdict"), [(b"\n12345", "K"), (b"\n123456", "D"), (b"\r123\r\n4", "K"), (b"\r123\r\n4\r", "D")]
)
def test_databytes_counts_the_message_as_it_is_queued(message: bytes, verdict: str) -> None:
    answers, queue = qmtp(encode(message) + b"0:,16:12:a@ok.example,,", databytes=5)
    assert verdicts(answers) == verdict
    assert len(queue.queued) == (verdict == "K")


def test_what_the_queue_says_reaches_the_client() -> None:
    answers, _ = qmtp(encode_package(b"x\n", b"", [b"a@ok.example", b"b@ok.example"]), refusal=53)
    assert answers == 2 * encode(b"Zqq write error or disk full (#4.3.0)")


@pytest.mark.parametrize(
    "stream",
    [b"0:", b"x", b"3:abc", b"2:\nx;", b"2:\nx,1:a;", b"2:\nx,1:a,3:3:a,,", b"2:\nx,1:a,3:0:;", b"2:\nx,0:,1:1"],
)
def test_a_broken_package_ends_the_session(stream: bytes) -> None:
    answers, queue = qmtp(stream, ends=ProtocolError)
    assert (answers, queue.queued) == (b"", [])


def test_a_huge_length_is_our_limit_and_not_their_fault() -> None:
    assert qmtp(b"2000000000000:", ends=TemporaryFailure) == (b"", FakeQueue())


@given(st.binary(max_size=120))
def test_no_bytes_of_a_stranger_raise_anything_else(stream: bytes) -> None:
    qmtp(stream, ends=PluqError)


def one(stream: bytes, refusal: int = 0, size: int = 512) -> tuple[bytes, FakeQueue]:
    queue, wire = FakeQueue(refusal), Wire(stream, size)
    now: Callable[[], int] = lambda: NOW  # noqa: E731
    return run(qmqp.serve(CLIENT, queue, wire.read, now)), queue


@pytest.mark.parametrize("size", [1, 3, 512])
def test_a_qmqp_request_is_queued_whoever_it_is_for(size: int) -> None:
    answer, queue = one(encode_request(b"hello\n", b"s@x", [b"any@where", b""]), size=size)
    assert answer == ACCEPTED
    assert queue.queued == [(HEAD.replace(b"QMTP", b"QMQP") + b"hello\n", b"s@x", [b"any@where", b""])]


@pytest.mark.parametrize("addresses", [[b"a\0b", b"c"], [b"a", b"c", b"c\0"], [b"a", b"l" * 1000], [b"l" * 1000, b"c"]])
def test_one_impossible_address_refuses_the_request(addresses: list[bytes]) -> None:
    answer, queue = one(encode_request(b"x", addresses[0], addresses[1:]))
    assert answer == encode(qmqp.BAD_ADDRESS)
    assert (queue.queued, queue.aborted) == ([], 1)


@pytest.mark.parametrize(
    "stream",
    [b"x:", b"3:1:x,1:a,,", b"4:10:x", b"12:1:x,1:a,1:b,;", b"12:1:x,1:a,1:b;,", b"11:1:x,1:a,1:b,,", b"0" * 101],
)
def test_a_broken_request_gets_no_answer(stream: bytes) -> None:
    with pytest.raises(ProtocolError):
        one(stream)


@pytest.mark.parametrize("cut", range(30))
def test_a_request_cut_short_is_not_queued(cut: int) -> None:
    with pytest.raises(EndOfInput):
        one(encode_request(b"hello\n", b"s@x", [b"any@where"])[:cut])


@given(st.binary(max_size=60))
def test_no_request_of_a_stranger_raises_anything_else(stream: bytes) -> None:
    try:
        one(stream)
    except PluqError:
        pass
