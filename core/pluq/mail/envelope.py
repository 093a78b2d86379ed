"""Envelope senders with a meaning.

    ""                      a bounce: nobody is told when it fails
    #@[]                    a double bounce; when that one fails it is thrown away
    owner-@host-@[]         VERP: each recipient gets its own sender, owner-box=dom@host for the recipient box@dom
    list-owner@host         the owner of a list, in place of the author, on what a .qmail file forwards

Source: addresses(5), dot-qmail(5) and qmail-send(8) of qmail; senderadd in qmail-send.c, main in qmail-local.c.
"""

from __future__ import annotations

__all__ = ["DOUBLE_BOUNCE", "NULL", "VERP_MARK", "bounce_target", "is_bounce", "list_sender", "verp_sender"]

NULL = b""
DOUBLE_BOUNCE = b"#@[]"
VERP_MARK = b"-@[]"


def is_bounce(sender: bytes) -> bool:
    """Say whether a message with this sender is itself a notice, to which no program may answer."""
    return sender in (NULL, DOUBLE_BOUNCE)


def verp_sender(sender: bytes, recipient: bytes) -> bytes:
    """Return the sender to use for one recipient: expanded when it is a VERP pattern, else as it is.

    A recipient without an @, or a pattern without one before its mark, leaves the sender alone.
    """
    if not sender.endswith(VERP_MARK):
        return sender
    box, at, host = sender[: -len(VERP_MARK)].rpartition(b"@")
    recipient_box, recipient_at, recipient_host = recipient.rpartition(b"@")
    if not (at and recipient_at):
        return sender
    return b"%s%s=%s@%s" % (box, recipient_box, recipient_host, host)


def bounce_target(sender: bytes) -> bytes:
    """Return whom a bounce about a message from `sender` goes to: a VERP pattern without its mark, else the sender."""
    return sender[: -len(VERP_MARK)] if sender.endswith(VERP_MARK) else sender


def list_sender(sender: bytes, local: bytes, host: bytes, owner: bool, owner_default: bool) -> bytes:
    """Return the sender for what a .qmail file forwards.

    `owner` and `owner_default` say whether .qmail-EXT-owner and .qmail-EXT-owner-default exist. A bounce keeps its
    sender, or a list could answer itself for ever.
    """
    if is_bounce(sender) or not owner:
        return sender
    if owner_default:
        return b"%s-owner-@%s%s" % (local, host, VERP_MARK)
    return b"%s-owner@%s" % (local, host)
