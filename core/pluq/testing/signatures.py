"""Messages that bear true DKIM signatures, whatever their tags say: for tests of who verifies them.

    key = SigningKey("s", rsa.generate_private_key(65537, 2048))
    message = signed(key, d="good.test")          # h, c, t and all other tags may be given; "-" leaves one out
    zone = {"s._domainkey.good.test": [("TXT", key_record(key))]}

Source: RFC 6376, RFC 8463.
"""

from __future__ import annotations

import base64

from pluq.hookspecs import HeaderField
from pluq.hookspecs.message import split_fields
from pluq.signatures.canon import header_input, sum_body
from pluq.signatures.keys import SigningKey

NOW = 1_800_000_000
"""When the signatures are made, in seconds since the epoch."""
HEADER = b"From: Joe <joe@good.test>\nTo: ann@example.org\nSubject: hello\nDate: Fri, 15 Jan 2027 08:00:00 +0000\n"
BODY = b"first\n\nlast\n"


def key_record(key: SigningKey, **changes: str) -> str:
    """Return the key record; a change of "-" leaves the tag out."""
    found = {"v": "DKIM1", "k": key.kind, "p": base64.b64encode(key.public_octets()).decode()} | changes
    return "; ".join(f"{name}={value}" for name, value in found.items() if value != "-")


def signed(
    key: SigningKey, header: bytes = HEADER, body: bytes = BODY, value: bytes | None = None, **changes: str
) -> bytes:
    """Return a message with a true signature over what its tags say.

    `changes` are tags, and `more` is put behind them as it is. `value` takes the place of the signature.
    """
    more = changes.pop("more", "")
    fields = split_fields(header)
    found = {
        "v": "1",
        "a": key.algorithm,
        "c": "relaxed/relaxed",
        "d": "good.test",
        "s": "s",
        "t": str(NOW),
        "h": "from:to:subject:date",
    } | changes
    header_form, _, body_form = found["c"].partition("/")
    length = int(found["l"]) if found.get("l", "").isdigit() else None
    digest = sum_body([body], [(body_form or "simple", length)])[body_form or "simple", length].digest
    found.setdefault("bh", base64.b64encode(digest).decode())
    tags = "; ".join(f"{name}={text}" for name, text in found.items() if text != "-")
    unsigned = HeaderField(b"dkim-signature", f"DKIM-Signature: {tags}{more}; b=\n".encode())
    names = [name.strip().lower().encode() for name in found["h"].split(":")]
    octets = header_input(fields, names, unsigned, header_form)
    b = base64.b64encode(value or key.sign(octets))
    return unsigned.raw[:-1] + b + b"\n" + header + b"\n" + body
