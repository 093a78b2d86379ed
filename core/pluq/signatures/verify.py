"""What verifying a signature takes: the sums of the body, the keys, and the comparison.

Bounds: what one message may look up in DNS, with other plugins. A name server that fails or is slow makes a temporary error, never a
failure. A body that is large is hashed in a thread, so that other sessions go on.

Source: RFC 6376 section 6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from pluq.dns import Budget, NoRecords, Resolver
from pluq.errors import ProtocolError, TemporaryFailure
from pluq.hookspecs import HeaderField, Message
from pluq.signatures.canon import BodyForm, BodySum, header_input, sum_body
from pluq.signatures.finding import Code, Unacceptable
from pluq.signatures.record import KeyRecord, read_record
from pluq.signatures.signature import Signature

# Hashing so much takes about a millisecond; more is done in a thread.
INLINE_BYTES = 262144
PIECE_BYTES = 131072


# -- the body


async def sum_of_body(message: Message, forms: set[BodyForm]) -> dict[BodyForm, BodySum]:
    """Return the sums of the frozen original's body."""
    if message.size <= INLINE_BYTES:
        return sum_body(body_pieces(message), forms)
    return await asyncio.get_running_loop().run_in_executor(None, sum_body, body_pieces(message), forms)


def body_pieces(message: Message) -> Iterator[bytes]:
    """Yield the body: what follows the first empty line."""
    start = message.header_size + 1
    reader = message.open()
    reader.seek(start)
    while piece := reader.read(PIECE_BYTES):
        yield piece


# -- keys

Looked = KeyRecord | Unacceptable


async def look_up(names: set[str], resolver: Resolver, budget: Budget) -> dict[str, Looked]:
    """Return what each record says, or why it cannot be used."""
    ordered = sorted(names)
    if len(ordered) == 1:  # nearly every message, and no task is needed
        return {ordered[0]: await _look_up(ordered[0], resolver, budget)}
    found = await asyncio.gather(*(_look_up(name, resolver, budget) for name in ordered))
    return dict(zip(ordered, found, strict=True))


async def _look_up(name: str, resolver: Resolver, budget: Budget) -> Looked:
    try:
        return read_record(await resolver.txt(name, budget))
    except NoRecords:
        return Unacceptable(Code.NO_KEY)
    except TemporaryFailure:
        return Unacceptable(Code.DNS_FAILED)
    except ProtocolError:  # a name that DNS cannot carry
        return Unacceptable(Code.NO_KEY)
    except Unacceptable as error:
        return error


# -- one signature


def verdict_on(
    signature: Signature, record: KeyRecord, fields: list[HeaderField], body: BodySum, accepts_partial: bool = False
) -> Code:
    """Return what a signature is worth, given its key and the sum of the body. Raises Unacceptable.

    `accepts_partial`: a body that is longer than l= says is believed.
    """
    if signature.length is not None and body.size < signature.length:
        raise Unacceptable(Code.SHORT_BODY)
    if body.digest != signature.body_hash:
        return Code.FAILED_TESTING if record.testing else Code.BODY_CHANGED
    signed = header_input(fields, signature.signed, signature.field, signature.header_form)
    if not record.verifies(signature.value, signed):
        return Code.FAILED_TESTING if record.testing else Code.BAD_SIGNATURE
    if signature.length is not None and body.size > signature.length:
        if not accepts_partial:
            raise Unacceptable(Code.PARTIAL_BODY, f"{body.size - signature.length} octets are not signed")
        return Code.EXTRA
    return Code.TESTING if record.testing else Code.GOOD
