"""Verifying a chain: the last message signature, and every seal.

    pass   all of it holds      fail   something does not      none   nobody sealed      temperror   a key could not be looked up

The message signatures of earlier hosts are not looked at: the message may have been changed since, which is what ARC is for.

Source: RFC 8617 section 5.2.
"""

from __future__ import annotations

from dataclasses import dataclass

from pluq.dns import Budget, Resolver
from pluq.errors import ProtocolError
from pluq.hookspecs import Message
from pluq.hookspecs.message import MAX_HEADER_BYTES
from pluq.signatures.finding import Code, Unacceptable
from pluq.signatures.record import check_kind
from pluq.signatures.signature import Signature
from pluq.signatures.verify import Looked, look_up, sum_of_body, verdict_on
from pluq_arc.chain import ArcSet, BadChain, Seal, collect, read_message, read_seals, sealed_octets

GOOD = (Code.GOOD, Code.TESTING)


@dataclass(frozen=True)
class Outcome:
    """What is to be said of a chain. `domain` is who sealed last, as far as that could be read."""

    result: str
    domain: str = ""
    reason: str = ""


async def verify_chain(message: Message, resolver: Resolver, budget: Budget, now: float) -> Outcome:
    """Return the outcome for a message."""
    if message.header_size >= MAX_HEADER_BYTES:
        return Outcome("fail", reason="the header is too long")
    domain = ""
    try:
        sets = collect(message.fields)
        if not sets:
            return Outcome("none")
        seals = read_seals(sets, now)
        domain = seals[-1].domain
        signature = _last_message(sets, now)
        names = {signature.record_name, *(seal.record_name for seal in seals)}
        keys = await look_up(names, resolver, budget)
        await _check_message(signature, message, keys)
        for number, seal in enumerate(seals, 1):
            _check_seal(sets[:number], seal, keys[seal.record_name])
    except BadChain as error:
        return Outcome("fail", domain, error.reason)
    except Unacceptable as error:
        return Outcome("temperror" if error.code is Code.DNS_FAILED else "fail", domain, error.code.sentence)
    return Outcome("pass", domain)


def _last_message(sets: list[ArcSet], now: float) -> Signature:
    try:
        return read_message(sets[-1].message, now)
    except ProtocolError as error:
        raise BadChain(f"message signature {len(sets)}: {error.text}") from None


async def _check_message(signature: Signature, message: Message, keys: dict[str, Looked]) -> None:
    record = keys[signature.record_name]
    if isinstance(record, Unacceptable):
        raise record
    check_kind(record, signature.algorithm)
    sums = await sum_of_body(message, {(signature.body_form, signature.length)})
    code = verdict_on(signature, record, message.fields, sums[signature.body_form, signature.length])
    if code not in GOOD:
        raise Unacceptable(code)


def _check_seal(sets: list[ArcSet], seal: Seal, record: Looked) -> None:
    if isinstance(record, Unacceptable):
        raise record
    check_kind(record, seal.algorithm)
    if not record.verifies(seal.value, sealed_octets(sets)):
        raise BadChain(f"seal {len(sets)} does not match")
