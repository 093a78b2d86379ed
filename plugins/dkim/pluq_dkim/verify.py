"""Verifying the signatures of a message.

    fields -> signatures that are worth it -> body hashes, in one pass -> keys, all looked up at once -> findings

Bounds: what one message may look up in DNS, with other plugins; signatures beyond the site's limit are not looked at. A name server that
fails or is slow makes a temporary error, never a failure. A body that is large is hashed in a thread, so that other sessions go on.

Source: RFC 6376 section 6.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from dataclasses import dataclass

from pluq.dns import Budget, NoRecords, Resolver
from pluq.errors import ProtocolError, TemporaryFailure
from pluq.hookspecs import HeaderField, Message
from pluq.hookspecs.message import MAX_HEADER_BYTES
from pluq_dkim.canon import BodyForm, BodySum, header_input, sum_body
from pluq_dkim.finding import Code, Finding, Unacceptable
from pluq_dkim.record import KeyRecord, check_use, read_record
from pluq_dkim.signature import Signature, check_cover, read_signature

NAME = b"dkim-signature"

# Hashing so much takes about a millisecond; more is done in a thread.
INLINE_BYTES = 262144
PIECE_BYTES = 131072


@dataclass(frozen=True)
class Policy:
    """How strict the site is. `max_signatures` are looked at, from the top."""

    max_signatures: int = 8
    accept_partial_body: bool = False
    subject_needed: bool = False


async def verify_message(
    message: Message, resolver: Resolver, policy: Policy, now: float, budget: Budget | None = None
) -> list[Finding]:
    """Return a finding for each signature of a message, from the top; none if it is not signed."""
    if message.header_size >= MAX_HEADER_BYTES:
        return [Finding(Code.BAD_SYNTAX, "header is too long")]
    fields = message.fields
    signed = [field for field in fields if field.name == NAME][: policy.max_signatures]
    found = [_read(field, fields, policy, now) for field in signed]
    good = [one for one in found if isinstance(one, Signature)]
    if not good:
        return [one for one in found if isinstance(one, Finding)]
    bodies = await sum_of_body(message, {(one.body_form, one.length) for one in good})
    keys = await look_up({one.record_name for one in good}, resolver, budget or Budget.of_message())
    return [one if isinstance(one, Finding) else _judge(one, fields, bodies, keys, policy) for one in found]


def _read(field: HeaderField, fields: list[HeaderField], policy: Policy, now: float) -> Signature | Finding:
    try:
        signature = read_signature(field, now)
    except Unacceptable as error:
        return Finding(error.code, error.detail)
    try:
        check_cover(signature, fields, policy.subject_needed)
    except Unacceptable as error:
        return finding(signature, error.code, error.detail)
    return signature


def finding(signature: Signature, code: Code, detail: str = "") -> Finding:
    """Return the finding for a signature that could be read. The first octets of b= tell it from others (RFC 6008)."""
    return Finding(
        code,
        detail,
        signature.domain,
        signature.selector,
        signature.identity,
        signature.algorithm,
        base64.b64encode(signature.value[:6]).decode("ascii"),
    )


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


def _judge(
    signature: Signature,
    fields: list[HeaderField],
    bodies: dict[BodyForm, BodySum],
    keys: dict[str, Looked],
    policy: Policy,
) -> Finding:
    record = keys[signature.record_name]
    try:
        if isinstance(record, Unacceptable):
            raise record
        check_use(record, signature)
        code = _code(signature, record, fields, bodies[signature.body_form, signature.length], policy)
    except Unacceptable as error:
        return finding(signature, error.code, error.detail)
    return finding(signature, code)


def _code(signature: Signature, record: KeyRecord, fields: list[HeaderField], body: BodySum, policy: Policy) -> Code:
    if signature.length is not None and body.size < signature.length:
        raise Unacceptable(Code.SHORT_BODY)
    if body.digest != signature.body_hash:
        return Code.FAILED_TESTING if record.testing else Code.BODY_CHANGED
    signed = header_input(fields, signature.signed, signature.field, signature.header_form)
    if not record.verifies(signature.value, signed):
        return Code.FAILED_TESTING if record.testing else Code.BAD_SIGNATURE
    if signature.length is not None and body.size > signature.length:
        if not policy.accept_partial_body:
            raise Unacceptable(Code.PARTIAL_BODY, f"{body.size - signature.length} octets are not signed")
        return Code.EXTRA
    return Code.TESTING if record.testing else Code.GOOD
