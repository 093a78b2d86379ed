"""One delivery, as qmail-lspawn orders it from qmail-local, and what follows from it. Values only.

    qmail-local user homedir local dash ext domain sender defaultdelivery

The lines that a delivered message begins with (newlines that a stranger put into an address become underscores):

    From sender Fri Nov 20 17:20:17 2026      mbox only; UFLINE
    Return-Path: <sender>                     RPLINE
    Delivered-To: local@domain                DTLINE

Programs get the envelope in their environment. These values are a stranger's: nothing is quoted, and a value that an old shell
would run as a function is not handed over at all.

Source: qmail-local(8), qmail-command(8), main in qmail-local.c; CVE-2014-6271.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pluq.errors import PermanentFailure
from pluq.mail.address import quote
from pluq.mail.date import mbox_date

_BLANKS = bytes.maketrans(b" \t\n", b"---")
FUNCTION = b"() {"
DEPTH = 4
"""EXT to EXT4, HOST to HOST4."""


class Order(NamedTuple):
    """The arguments of qmail-local. `local`@`host` is the recipient; mail follows `home`/.qmail<dash><ext>."""

    user: bytes
    home: bytes
    local: bytes
    dash: bytes
    ext: bytes
    host: bytes
    sender: bytes
    default: bytes

    @property
    def recipient(self) -> bytes:
        return b"%b@%b" % (self.local, self.host)


def delivered_to(order: Order) -> bytes:
    """Return the Delivered-To line; the same line in a message that comes in means that it goes in circles."""
    return b"Delivered-To: %b@%b\n" % (order.local.replace(b"\n", b"_"), order.host.replace(b"\n", b"_"))


def return_path(sender: bytes) -> bytes:
    """Return the Return-Path line."""
    return b"Return-Path: <%b>\n" % quote(sender).replace(b"\n", b"_")


def from_line(sender: bytes, now: float) -> bytes:
    """Return the From_ line that an mbox begins a message with: the sender is one word there."""
    return b"From %b %b\n" % (sender.translate(_BLANKS) or b"MAILER-DAEMON", mbox_date(now))


def environment(order: Order, new_sender: bytes, default_start: int | None, now: float) -> dict[bytes, bytes]:
    """Return what a program is told. DEFAULT is absent where the .qmail file has no default part."""
    values = {
        b"USER": order.user,
        b"HOME": order.home,
        b"LOCAL": order.local,
        b"RECIPIENT": order.recipient,
        b"SENDER": order.sender,
        b"NEWSENDER": new_sender,
        b"DTLINE": delivered_to(order),
        b"RPLINE": return_path(order.sender),
        b"UFLINE": from_line(order.sender, now),
    }
    ext, host = order.ext, order.host
    for level in range(1, DEPTH + 1):
        suffix = b"%d" % level if level > 1 else b""
        values[b"EXT" + suffix], values[b"HOST" + suffix] = ext, host
        ext = ext.partition(b"-")[2]
        host = host.rpartition(b".")[0] if b"." in host else host
    if default_start is not None:
        values[b"DEFAULT"] = order.ext[default_start:]
    return values


def refuse_functions(values: Mapping[bytes, bytes]) -> None:
    """Raise PermanentFailure for an address that an old shell would run as a function."""
    if any(value.startswith(FUNCTION) for value in values.values()):
        raise PermanentFailure("Sorry, this address may not be given to a program. (#5.1.3)", "5.1.3")
