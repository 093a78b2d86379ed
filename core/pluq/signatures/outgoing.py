"""A message that is to be signed: its header, the sums of its body, the fields that are worth a signature, and the form of the new field.

The form that is signed is the one that goes over the wire: CR LF, CR and LF in a queue file all become line ends there.

Source: RFC 6376 sections 3.5 and 5.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pluq.hookspecs import HeaderField, Message
from pluq.hookspecs.message import MAX_HEADER_BYTES, split_fields
from pluq.signatures.canon import BodyForm, BodySum, sum_body
from pluq.signatures.verify import INLINE_BYTES

# What is signed where it is there, beside the fields that are oversigned: RFC 6376 section 5.4.1.
USUAL = frozenset(
    (b"from", b"sender", b"reply-to", b"to", b"cc", b"subject", b"date", b"message-id", b"in-reply-to", b"references",
     b"mime-version", b"content-type", b"content-transfer-encoding", b"content-id", b"content-description",
     b"resent-date", b"resent-from", b"resent-sender", b"resent-to", b"resent-cc", b"resent-message-id",
     b"list-id", b"list-help", b"list-unsubscribe", b"list-unsubscribe-post", b"list-subscribe", b"list-post",
     b"list-owner", b"list-archive", b"feedback-id", b"autocrypt")
)  # fmt: skip

# What is never signed: every host adds or changes it.
NEVER = frozenset(
    (b"received", b"return-path", b"authentication-results", b"arc-authentication-results", b"arc-seal",
     b"arc-message-signature", b"dkim-signature", b"domainkey-signature", b"delivered-to", b"bcc", b"resent-bcc",
     b"dkim-status")
)  # fmt: skip

LINE = 72


# -- the message as it will be sent


@dataclass
class Outgoing:
    """The header of a message, and the sums of its body by form."""

    fields: list[HeaderField]
    bodies: dict[BodyForm, BodySum] = field(default_factory=dict)


async def read_outgoing(message: Message, forms: set[BodyForm]) -> Outgoing | None:
    """Return what is to be signed; None for a header that is too long."""
    if message.size <= INLINE_BYTES:
        return _read_outgoing(message, forms)
    return await asyncio.get_running_loop().run_in_executor(None, _read_outgoing, message, forms)


def _read_outgoing(message: Message, forms: set[BodyForm]) -> Outgoing | None:
    pieces = line_ends(message.chunks())
    head = b"\n"  # an empty header ends at once
    while (end := head.find(b"\n\n")) < 0:
        piece = next(pieces, None)
        if piece is None:
            end = len(head)
            break
        head += piece
        if len(head) > MAX_HEADER_BYTES + INLINE_BYTES:
            return None
    return Outgoing(split_fields(head[1 : end + 1]), sum_body(_body(head[end + 2 :], pieces), forms))


def _body(first: bytes, others: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from others


def line_ends(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces with every line end as LF, as they will be on the wire (pluq.wire.smtp)."""
    held = b""
    for one in pieces:
        piece = held + one if held else one
        held = b"\r" if piece.endswith(b"\r") else b""
        if b"\r" in piece:
            piece = piece[: len(piece) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        yield piece
    if held:
        yield b"\n"


# -- the new field


def fold_specs(name: str, specs: list[str]) -> str:
    """Return a field with tags on lines of moderate length; a long h= is folded behind its colons."""
    lines = [f"{name}: {specs[0]}"]
    for spec in specs[1:]:
        words = spec.split(":") if spec.startswith("h=") else [spec]
        for index, word in enumerate(words):
            item = word if index == len(words) - 1 else word + ":"
            glue = "" if index else "; "
            if len(lines[-1]) + len(glue) + len(item) > LINE:
                lines[-1] += glue.rstrip()
                lines.append(item)
            else:
                lines[-1] += glue + item
    return "\n\t".join(lines)


def fold_value(value: bytes) -> bytes:
    """Return base64 on lines of moderate length."""
    return b"\n\t ".join(value[at : at + LINE] for at in range(0, len(value), LINE))
