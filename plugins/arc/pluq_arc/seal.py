"""Sealing: one more set on top, with what our own host found when the message came in.

What was found stands in our Authentication-Results field, `arc=` among it: that is the state of the chain as it arrived, and it goes into cv=.
Without such a field nobody can vouch for anything, and nothing is sealed. A chain that had failed gets one set that says so and covers only
itself; one that says itself that it has failed gets none.

Source: RFC 8617 section 5.1.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from pluq.errors import ProtocolError
from pluq.hookspecs import HeaderField, Message
from pluq.signatures import tags
from pluq.signatures.canon import header_input
from pluq.signatures.keys import SigningKey
from pluq.signatures.outgoing import USUAL, Outgoing, fold_specs, fold_value, read_outgoing
from pluq.smtpd.results import is_ours
from pluq_arc.chain import MAX_SETS, MESSAGE, RESULTS, SEAL, ArcSet, BadChain, collect, sealed_octets

FORM = "relaxed"
SIGNED = USUAL | {b"dkim-signature"}

# Results that only a stranger's message has.
STRANGERS_METHODS = (b"arc=", b"spf=", b"dkim=", b"dmarc=", b"iprev=")


def findings(fields: Sequence[HeaderField], authserv_id: str) -> bytes | None:
    """Return the value of our Authentication-Results field of a message from a stranger; None for one of our own, or without it."""
    ours = authserv_id.lower().encode("utf-8", "replace")
    field = next((one for one in fields if ours and is_ours(one, ours)), None)
    if field is None:
        return None
    methods = methods_of(field.value)
    if any(one.startswith(b"auth=pass") for one in methods):
        return None
    return field.value if any(one.startswith(STRANGERS_METHODS) for one in methods) else None


def methods_of(value: bytes) -> list[bytes]:
    """Return the results in a field that we wrote: no value in it has a semicolon (pluq.smtpd.results)."""
    return [part.strip(b" \t\n") for part in value.split(b";")[1:]]


def status_of(value: bytes) -> str | None:
    """Return the arc= of our field: "none", "pass" or "fail"; None where it was not looked at, or could not be."""
    words = [one[4:].split()[0].lower() for one in methods_of(value) if one.startswith(b"arc=") and one[4:].split()]
    known = [word.decode() for word in words if word in (b"none", b"pass", b"fail")]
    return known[0] if len(words) == len(known) == 1 else None


async def seal(message: Message, key: SigningKey, domain: str, authserv_id: str, now: int) -> list[bytes]:
    """Return the fields of a new set, in the order in which they are put on top; none where there is nothing to seal."""
    found = findings(message.fields, authserv_id)
    status = None if found is None else status_of(found)
    if found is None or status is None:
        return []
    earlier = _earlier(message.fields, status)
    if earlier is None:
        return []
    sets, number = earlier
    outgoing = await read_outgoing(message, {(FORM, None)})
    if outgoing is None:
        return []
    results = HeaderField(RESULTS, b"ARC-Authentication-Results: i=%d; " % number + found + b"\n")
    signed = _message_signature(outgoing, key, domain, number, now)
    sealed = _seal(sets, results, signed, key, domain, status, number, now)
    return [results.raw, signed.raw, sealed.raw]


def _earlier(fields: Sequence[HeaderField], status: str) -> tuple[list[ArcSet], int] | None:
    """Return the sets that the new seal covers, and the number of the new one; None where there must be none."""
    try:
        sets = collect(fields)
        last = len(sets)
    except BadChain as error:
        if not error.last:
            return None
        sets, last, status = [], error.last, "fail"
    if last >= MAX_SETS or (not last) != (status == "none") or (sets and says_failed(sets[-1].seal)):
        return None
    return ([] if status == "fail" else sets), last + 1


def says_failed(field: HeaderField) -> bool:
    try:
        return tags.parse_tags(field.raw.partition(b":")[2]).get(b"cv", b"").lower() == b"fail"
    except ProtocolError:
        return False


def _message_signature(outgoing: Outgoing, key: SigningKey, domain: str, number: int, now: int) -> HeaderField:
    # From once more than it occurs: nobody can add one without breaking the signature.
    names = [one.name for one in outgoing.fields if one.name in SIGNED] + [b"from"]
    specs = [
        f"i={number}",
        f"a={key.algorithm}",
        f"c={FORM}/{FORM}",
        f"d={domain}",
        f"s={key.selector}",
        f"t={now}",
        f"h={b':'.join(names).decode('ascii')}",
        f"bh={base64.b64encode(outgoing.bodies[FORM, None].digest).decode()}",
    ]
    text = fold_specs("ARC-Message-Signature", specs).encode("ascii") + b";\n\tb="
    octets = header_input(outgoing.fields, names, HeaderField(MESSAGE, text + b"\n"), FORM)
    return _with_value(MESSAGE, text, key, octets)


def _seal(
    sets: list[ArcSet],
    results: HeaderField,
    signed: HeaderField,
    key: SigningKey,
    domain: str,
    status: str,
    number: int,
    now: int,
) -> HeaderField:
    specs = [f"i={number}", f"cv={status}", f"a={key.algorithm}", f"d={domain}", f"s={key.selector}", f"t={now}"]
    text = fold_specs("ARC-Seal", specs).encode("ascii") + b";\n\tb="
    own = ArcSet(results, signed, HeaderField(SEAL, text + b"\n"))
    return _with_value(SEAL, text, key, sealed_octets([*sets, own]))


def _with_value(name: bytes, text: bytes, key: SigningKey, octets: bytes) -> HeaderField:
    return HeaderField(name, text + fold_value(base64.b64encode(key.sign(octets))) + b"\n")
