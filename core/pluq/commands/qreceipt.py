"""qreceipt deliveryaddress

For a line in a .qmail file: answers a Notice-Requested-Upon-Delivery-To field that names this very address with a success notice
to the envelope sender (SENDER). Bounces get no answer.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pluq.commands.terminal import die, help_asked

if TYPE_CHECKING:
    from pluq.mail.tokens import Token

FATAL = "qreceipt: fatal: "

NOTICE = b"""\
From: DELIVERY NOTICE SYSTEM <%(sender)s>
To: <%(sender)s>
Subject: success notice

Hi! This is the qreceipt program. Your message was delivered to the
following address: %(target)s. Thanks for asking.
"""


def main() -> int:
    if help_asked(__doc__):
        return 0
    sender = os.environb.get(b"SENDER")
    if len(sys.argv) < 2 or sender is None:
        die(100, "qreceipt: usage: qreceipt deliveryaddress")
    from pluq.mail.envelope import is_bounce
    from pluq.mail.header import field_name, read_header

    try:
        with open(0, "rb", closefd=False) as source:
            fields, _ = read_header(source.readline)
    except OSError:
        die(111, FATAL, "read error")
    target = os.fsencode(sys.argv[1])
    wanted = [field for field in fields if field_name(field) == b"notice-requested-upon-delivery-to"]
    # All of them are read first: one that cannot be read is an error even if nobody is answered.
    asked = [target in addresses(field) for field in wanted]
    if any(asked) and not is_bounce(sender):
        ids = [field for field in fields if field_name(field) == b"message-id"]
        send(sender, target, ids[-1:])
    return 0


def addresses(field: bytes) -> list[bytes]:
    """Return the addresses that a field names, as an envelope has them."""
    from pluq.mail.header import rewrite_addresses
    from pluq.mail.tokens import parse, unquote

    found: list[bytes] = []

    def note(address: list[Token]) -> list[Token]:
        found.append(unquote(address))
        return address

    tokens = parse(field)
    if tokens is None or rewrite_addresses(tokens, note) is None:
        os.write(2, FATAL.encode() + b"unable to parse this: " + field)
        raise SystemExit(100)
    return found


def send(sender: bytes, target: bytes, message_id: list[bytes]) -> None:
    """Queue the notice."""
    from pluq.config import Home
    from pluq.mail.address import quote
    from pluq.queue.submit import QueueRefusal, submit_sync

    notice = NOTICE % {b"sender": quote(sender), b"target": target}
    notice += b"".join(b"Your " + field for field in message_id)
    try:
        submit_sync(Home.from_environment(), notice, b"", [sender])
    except QueueRefusal as refusal:
        kind = "permanent" if refusal.permanent else "temporary"
        die(100 if refusal.permanent else 111, FATAL, kind, " qmail-queue error")
