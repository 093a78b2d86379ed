"""The text of a bounce: qmail's QSBMF.

    Date, From, To, Subject: failure notice
    (empty line)
    Hi. This is the qmail-send program at HOST. ...          who speaks, and why
    (empty line)
    <address>:                                               one paragraph for each failed recipient,
    why it failed                                            with no empty line inside
    (empty line)
    --- Below this line is a copy of the message.
    (empty line)
    Return-Path: <sender>                                    then the message as it lies in the queue

A bounce goes to the message's sender, from the empty sender. What bounces with an empty sender is a bounce: the double bounce
goes to the administrator, from the sender `#@[]`. What bounces with that sender is thrown away.

Source: qmail-send(8); addbounce and injectbounce in qmail-send.c; "The qmail-send Bounce Message Format" (QSBMF).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pluq.mail.address import quote, quote_box
from pluq.mail.date import date822
from pluq.mail.envelope import DOUBLE_BOUNCE, NULL

SINGLE_INTRODUCTION = (
    b"I'm afraid I wasn't able to deliver your message to the following addresses.\n"
    b"This is a permanent error; I've given up. Sorry it didn't work out.\n"
)
DOUBLE_INTRODUCTION = b"I tried to deliver a bounce message to this address, but the bounce bounced!\n"
SINGLE_BREAK = b"--- Below this line is a copy of the message.\n"
DOUBLE_BREAK = b"--- Below this line is the original bounce.\n"
TOO_LONG = b"I'm not going to try again; this message has been in the queue too long.\n"

STRIPPED = b"\n\n--- End of message stripped.\n"
"""What follows a copy that is not whole."""

EMPTY_LINE = re.compile(rb"(?<=\n)\n")


@dataclass
class Draft:
    """A bounce about to be made of the message `message_number`. `sender` is that message's: who gets the bounce.

    Both other values may be changed: an empty `sender` makes a double bounce; `copy_bytes` is how much of the message is sent
    back, None for all of it.
    """

    message_number: int
    sender: bytes
    copy_bytes: int | None = None


@dataclass(frozen=True)
class Postmaster:
    """Who speaks in bounces, and who gets the double ones: control/bouncefrom, bouncehost, doublebounceto@doublebouncehost."""

    user: bytes
    host: bytes
    double_to: bytes


@dataclass(frozen=True)
class Notice:
    """A bounce ready to queue. The whole message is `head`, the paragraphs, `middle`, the original message."""

    sender: bytes
    recipient: bytes
    head: bytes
    middle: bytes


def paragraph(recipient: bytes, report: bytes) -> bytes:
    """Return the text about one failed recipient. Empty lines end a paragraph, so those in a report are filled with a slash."""
    address = recipient.replace(b"\n", b"_")
    if report and not report.endswith(b"\n"):
        report += b"\n"
    text = b"<%b>:\n%b" % (address, report)
    return EMPTY_LINE.sub(b"/", text[:-1]) + text[-1:] + b"\n"


def notice(sender: bytes, postmaster: Postmaster, now: float) -> Notice | None:
    """Return the bounce for a message from `sender`; None when it must be thrown away."""
    if sender == DOUBLE_BOUNCE:
        return None
    single = sender != NULL
    recipient = sender if single else postmaster.double_to
    head = (
        b"Date: %b\nFrom: %b@%b\nTo: %b\nSubject: failure notice\n\nHi. This is the qmail-send program at %b.\n%b\n"
    ) % (
        date822(now),
        quote_box(postmaster.user),
        postmaster.host,
        quote(recipient),
        postmaster.host,
        SINGLE_INTRODUCTION if single else DOUBLE_INTRODUCTION,
    )
    middle = b"%b\nReturn-Path: <%b>\n" % (SINGLE_BREAK if single else DOUBLE_BREAK, quote(sender))
    return Notice(NULL if single else DOUBLE_BOUNCE, recipient, head, middle)
