"""Verifying the signatures of a message.

    fields -> signatures that are worth it -> body hashes, in one pass -> keys, all looked up at once -> findings

Signatures beyond the site's limit are not looked at. The parts that other kinds of signatures need as well are in pluq.signatures.

Source: RFC 6376 section 6.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from pluq.dns import Budget, Resolver
from pluq.hookspecs import HeaderField, Message
from pluq.hookspecs.message import MAX_HEADER_BYTES
from pluq.signatures.canon import BodyForm, BodySum
from pluq.signatures.finding import Code, Finding, Unacceptable
from pluq.signatures.record import check_use
from pluq.signatures.signature import Signature, check_cover, read_signature
from pluq.signatures.verify import Looked, look_up, sum_of_body, verdict_on

NAME = b"dkim-signature"


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
        code = verdict_on(
            signature, record, fields, bodies[signature.body_form, signature.length], policy.accept_partial_body
        )
    except Unacceptable as error:
        return finding(signature, error.code, error.detail)
    return finding(signature, code)
