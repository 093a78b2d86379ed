"""What `pluq queue` says to a scheduler on run/send, and what it answers: one packet each.

    order    VERB NUL TEXT NUL, then for each message: NUMBER:IDENTITY NUL        "hold", "release", "flush", "remove", "bounce"
    answer   for each message: NUMBER and a letter, NUL
    follow   "follow" NUL NUL: from now on packets with lines of the log come, until the connection is closed

TEXT is the reason that a bounce gives. The identity of a message is the time at which its file was written, in nanoseconds, so that an
order never meets a later message with the same number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import NamedTuple

from pluq.errors import ProtocolError

PACKET_BYTES = 60_000
MESSAGES_A_PACKET = 250
"""The scheduler carries out one packet in one turn: reports of deliveries must not wait long behind it."""
FOLLOW = "follow"


class Outcome(Enum):
    """What became of an order for one message."""

    DONE = "+"
    LATER = "~"  # a delivery is under way; done as soon as that ends
    GONE = "?"  # no such message any more
    NOTHING = "-"  # the order does not apply
    FAILED = "!"  # the log says why


class Order(NamedTuple):
    """An order for some messages, given as number and identity."""

    verb: str
    text: bytes
    messages: Mapping[int, int]


def encode_order(order: Order) -> bytes:
    """Return the packet. Raises ProtocolError for a text with a NUL, or for too much."""
    if b"\0" in order.text:
        raise ProtocolError("a text with a NUL", blame="local")
    items = b"".join(b"%d:%d\0" % item for item in order.messages.items())
    packet = order.verb.encode() + b"\0" + order.text + b"\0" + items
    if len(packet) > PACKET_BYTES:
        raise ProtocolError("too much for one order", blame="local")
    return packet


def decode_order(packet: bytes) -> Order:
    """Return the order in a packet. Raises ProtocolError."""
    verb, *fields = packet.split(b"\0")
    if len(fields) < 2 or fields[-1]:
        raise ProtocolError("an order that is cut short")
    pairs = [item.partition(b":") for item in fields[1:-1]]
    if not all(_is_number(number) and _is_number(identity) for number, _colon, identity in pairs):
        raise ProtocolError("an order for no message")
    return Order(
        verb.decode("ascii", "replace"), fields[0], {int(number): int(identity) for number, _colon, identity in pairs}
    )


def encode_answer(outcomes: Iterable[tuple[int, Outcome]]) -> bytes:
    return b"".join(b"%d%b\0" % (number, outcome.value.encode()) for number, outcome in outcomes)


def decode_answer(packet: bytes) -> dict[int, Outcome]:
    """Return the outcomes by message. Raises ProtocolError."""
    try:
        return {int(item[:-1]): Outcome(item[-1:].decode()) for item in packet.split(b"\0")[:-1]}
    except ValueError as error:
        raise ProtocolError("not an answer to an order") from error


def _is_number(digits: bytes) -> bool:
    return digits.isdigit() and len(digits) < 20
