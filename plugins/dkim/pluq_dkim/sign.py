r"""Making signatures.

    message as it stands now -> header and body -> one field for each key, to be put on top

From and the other fields that readers see are named once more than they occur ("oversigned"): nobody can add another one without
breaking the signature. Trace fields, other signatures and what relays change are never signed. A message without exactly one From
field is not signed at all.

Source: RFC 6376 sections 3.5, 5.4 and 8.15; RFC 8463.
"""

from __future__ import annotations

import base64
import re

from pluq.errors import ProtocolError
from pluq.hookspecs import HeaderField
from pluq.mail import header, tokens
from pluq.signatures import tags
from pluq.signatures.canon import header_input
from pluq.signatures.keys import SigningKey
from pluq.signatures.outgoing import NEVER, USUAL, Outgoing, fold_specs, fold_value
from pluq_dkim.options import Options
from pluq_dkim.verify import NAME

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
    text = fold_specs("DKIM-Signature", specs).encode("ascii") + b";\n\tb="
    unsigned = HeaderField(NAME, text + b"\n")
    value = base64.b64encode(key.sign(header_input(outgoing.fields, names, unsigned, options.header_form)))
    return text + fold_value(value) + b"\n"


def identity_fits(identity: str, domain: str) -> bool:
    """Return whether i= may say so: a printable address within the domain."""
    local, at, host = identity.rpartition("@")
    plain = local.isascii() and local.isprintable() and not any(octet in local for octet in ' ;"')
    return bool(at) and plain and (host.lower() == domain or host.lower().endswith("." + domain))


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
