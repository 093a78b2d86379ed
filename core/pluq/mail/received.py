r"""Received fields, as qmail writes them.

    Received: from relay1.uu.net (HELO uunet.uu.net) (7@192.48.96.5)\n  by silverton.berkeley.edu with SMTP; DATE\n
    Received: (qmail 1234 invoked from network); DATE\n

The first one is the server's, the second one qmail-queue's. What a stranger or the DNS said is made harmless: any byte that is
not a letter, a digit or one of .@%+/=:-[] becomes a question mark, so nothing can end a comment or a line.

Source: received.c and qmail-queue.c of qmail.
"""

from __future__ import annotations

from functools import lru_cache

from pluq.mail.date import date822

_SAFE = frozenset(b".@%+/=:-[]abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_TO_SAFE = bytes(octet if octet in _SAFE else 0x3F for octet in range(256))

# Most messages of one second share the date: formatting it costs more than the rest of the field.
_date = lru_cache(maxsize=8)(date822)


def safe(text: bytes) -> bytes:
    """Return `text` with a question mark for every byte that may not stand in a comment of ours."""
    return text.translate(_TO_SAFE)


def server_received(
    *,
    remote_host: bytes,
    remote_ip: bytes,
    remote_info: bytes | None,
    helo: bytes | None,
    local: bytes,
    when: int,
    protocol: bytes = b"SMTP",
    local_dates: bool = False,
    hidden: bool = False,
) -> bytes:
    """Return the field of a server. `helo` is None where the client greeted with its own name, or not at all.

    With `hidden` it says neither name nor address of the client: `Received: (HELO x) (user)`, as patched qmail for its users.
    """
    greeting = b"" if helo is None else b" (HELO %s)" % helo.translate(_TO_SAFE)
    info = b"" if remote_info is None else remote_info.translate(_TO_SAFE)
    if not hidden:
        greeting = b" from " + remote_host.translate(_TO_SAFE) + greeting
        info += (b"" if remote_info is None else b"@") + remote_ip.translate(_TO_SAFE)
    return b"Received:%s (%s)\n  by %s with %s; %s\n" % (
        greeting,
        info,
        local.translate(_TO_SAFE),
        protocol,
        _date(when, local_dates),
    )


def queue_received(qp: int, invoked: bytes, when: int, local_dates: bool = False) -> bytes:
    """Return the field of qmail-queue. `invoked` is b"by uid 1000", b"from network", b"by alias" or b"for bounce"."""
    return b"Received: (qmail %d invoked %s); %s\n" % (qp, invoked, _date(when, local_dates))


def invoked_by(uid: int, alias: int, qmaild: int, qmails: int) -> bytes:
    """Return how qmail-queue names the user that invoked it; the arguments after the first are the qmail users' uids."""
    words = {qmails: b"for bounce", qmaild: b"from network", alias: b"by alias"}
    return words.get(uid, b"by uid %d" % uid)
