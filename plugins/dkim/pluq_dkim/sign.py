r"""Making signatures.

    message as it stands now -> header and body -> one field for each key, to be put on top

The form that is signed is the one that goes over the wire: CR LF, CR and LF in a queue file all become line ends there.

From and the other fields that readers see are named once more than they occur ("oversigned"): nobody can add another one without
breaking the signature. Trace fields, other signatures and what relays change are never signed. A message without exactly one From
field is not signed at all.

Source: RFC 6376 sections 3.5, 5.4 and 8.15; RFC 8463.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pluq.errors import ProtocolError
from pluq.hookspecs import HeaderField, Message
from pluq.hookspecs.message import MAX_HEADER_BYTES, split_fields
from pluq.mail import header, tokens
from pluq_dkim import tags
from pluq_dkim.canon import BodyForm, BodySum, header_input, sum_body
from pluq_dkim.keys import SigningKey
from pluq_dkim.options import Options
from pluq_dkim.verify import INLINE_BYTES, NAME

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

_PLAIN_NAME = re.compile(rb"[a-z0-9_-]+")


def is_signed(name: bytes, options: Options) -> bool:
    """Return whether a field is signed where it is there."""
    if name in NEVER or name.decode("ascii", "replace") in options.excluded:
        return name == b"from"
    if not options.every_field:
        return name in USUAL
    return bool(_PLAIN_NAME.fullmatch(name)) and (not name.startswith(b"x-") or name == b"x-mailer")


def author_domain(fields: list[HeaderField]) -> str | None:
    """Return the domain of the one From field, in lower case; None where it is not one domain, or none that can be in DNS."""
    found = [one for one in fields if one.name == b"from"]
    if len(found) != 1:
        return None
    parsed = tokens.parse(b"From:" + found[0].value)
    addresses: list[bytes] = []

    def note(address: list[tokens.Token]) -> list[tokens.Token]:
        addresses.append(tokens.unquote(address))
        return address

    if parsed is None or header.rewrite_addresses(parsed, note) is None:
        return None
    domains = {address.rpartition(b"@")[2].lower() for address in addresses if b"@" in address}
    if len(domains) != 1 or not all(b"@" in address for address in addresses):
        return None
    return checked_domain(domains.pop())


def checked_domain(name: bytes) -> str | None:
    """Return a domain in lower case; None for what is no domain name, and must not get into a path either."""
    try:
        found = tags.domain(name)
    except ProtocolError:
        return None
    return found if "." in found else None


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


# -- one signature


def signed_names(fields: list[HeaderField], options: Options) -> list[bytes]:
    """Return the names for h=, in the order of the message, those that are oversigned once more."""
    names = [one.name for one in fields if is_signed(one.name, options)]
    more = [name.lower().encode("ascii", "replace") for name in options.oversigned]
    return names + [name for name in more if is_signed(name, options)]


def make_signature(outgoing: Outgoing, key: SigningKey, domain: str, options: Options, now: int) -> bytes:
    """Return a DKIM-Signature field with LF line ends."""
    body = outgoing.bodies[options.body_form, None]
    names = signed_names(outgoing.fields, options)
    specs = [
        "v=1",
        f"a={key.algorithm}",
        f"c={options.header_form}/{options.body_form}",
        f"d={domain}",
        f"s={key.selector}",
        *([f"i={options.identity}"] if identity_fits(options.identity, domain) else []),
        *(["q=dns/txt"] if options.query else []),
        f"t={now}",
        *([f"x={now + options.expire}"] if options.expire else []),
        *([f"l={body.size}"] if options.length else []),
        f"h={b':'.join(names).decode('ascii')}",
        f"bh={base64.b64encode(body.digest).decode()}",
    ]
    text = fold_specs(specs).encode("ascii") + b";\n\tb="
    unsigned = HeaderField(NAME, text + b"\n")
    value = base64.b64encode(key.sign(header_input(outgoing.fields, names, unsigned, options.header_form)))
    lines = [value[at : at + LINE] for at in range(0, len(value), LINE)]
    return text + b"\n\t ".join(lines) + b"\n"


def identity_fits(identity: str, domain: str) -> bool:
    """Return whether i= may say so: a printable address within the domain."""
    local, at, host = identity.rpartition("@")
    plain = local.isascii() and local.isprintable() and not any(octet in local for octet in ' ;"')
    return bool(at) and plain and (host.lower() == domain or host.lower().endswith("." + domain))


def fold_specs(specs: list[str]) -> str:
    """Return tags on lines of moderate length; a long h= is folded behind its colons."""
    lines = [f"DKIM-Signature: {specs[0]}"]
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


def already_signed(fields: list[HeaderField], domain: str, selector: str) -> bool:
    """Return whether a signature of this domain and selector is there: by an earlier step of ours, mostly."""
    for one in fields:
        if one.name != NAME:
            continue
        try:
            found = tags.parse_tags(one.raw.partition(b":")[2])
            if (tags.domain(found[b"d"]), tags.domain(found[b"s"])) == (domain, selector):
                return True
        except (ProtocolError, KeyError):
            continue
    return False
