"""What happens to a message, told in plain words from the lines of the log. Pure: events in, sentences out.

queued as QP  ->  message N  ->  a delivery for each recipient  ->  success, deferral, failure  ->  end
                                    |
                                    forwarded: queued as another QP, which is followed as well
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from enum import IntEnum

from pluq.log.read import Event

DID = re.compile(r"did (\d+)\+(\d+)\+(\d+)")
QP = re.compile(r"\bqp (\d+)")
HISTORY_EVENTS = 10_000
HINTS = (
    (
        "couldn't find any host",
        "The domain has neither MX nor address records. Is it spelt right? `pluq dns` shows what there is.",
    ),
    ("CNAME lookup failed", "DNS did not answer. Does the name server in /etc/resolv.conf work?"),
    (
        "wasn't able to establish an SMTP",
        "No host of the domain answered on port 25. Is outgoing port 25 blocked here?",
    ),
    (
        "not listed in my control/locals",
        "MX points to this host, but the domain is in neither control/locals nor control/virtualdomains.",
    ),
    (
        "no mailbox here by that name",
        "There is no such user, and no .qmail file in the home of alias takes the address.",
    ),
    ("but connection died", "The other host hung up. Its own log may say why."),
    ("greylist", "The other host wants to see a second try; that comes by itself."),
    ("try again later", "The other host takes it later, it says; that is tried by itself."),
    ("mail loop", "The message came back to an address that it had been to. Look at the .qmail files on its way."),
    ("Unable to", "Look at the permissions of the home directory, the .qmail file and the mailbox."),
)


class Ending(IntEnum):
    """How it ended, the worst last."""

    DELIVERED = 0
    DEFERRED = 1
    FAILED = 2


class Story:
    """Follows the message that was queued as `qp`, and what it is forwarded as: a story of its own for each of them.

    What is forwarded is in the queue before the delivery that does so is reported, so the events until then are kept.
    """

    def __init__(self, qp: int) -> None:
        self.number: int | None = None
        self._qp = qp
        self._history: deque[Event] = deque(maxlen=HISTORY_EVENTS)
        self._flying: dict[int, str] = {}
        self._outcome: Ending | None = None
        self._has_ended = False
        self._forwarded: list[Story] = []

    @property
    def is_over(self) -> bool:
        """Everything was tried once, and what failed has bounced."""
        rests = self._has_ended or (self._outcome is Ending.DEFERRED and not self._flying)
        return rests and all(story.is_over for story in self._forwarded)

    @property
    def ending(self) -> Ending | None:
        """The worst that happened to a recipient so far."""
        found = [self._outcome, *(story.ending for story in self._forwarded)]
        return max((one for one in found if one is not None), default=None)

    @property
    def numbers(self) -> list[int]:
        """The numbers of messages that are still in the queue."""
        here = [self.number] if self.number is not None and not self._has_ended else []
        return here + [number for story in self._forwarded for number in story.numbers]

    def feed(self, event: Event) -> Iterator[str]:
        """Yield what an event means for the message."""
        for story in self._forwarded:
            yield from story.feed(event)
        self._history.append(event)
        if self._has_ended:
            return  # The number may belong to another message.
        match event:
            case ("info", number, size, _sender, self._qp, _uid) if self.number is None:
                self.number = number
                yield f"It is in the queue as message {number}, {size} bytes."
            case ("start", delivery, self.number, channel, recipient):
                self._flying[delivery] = shown(recipient)
                yield f"A {shown(channel)} delivery to {shown(recipient)} begins."
            case ("delivery", delivery, outcome, report) if delivery in self._flying:
                yield from self._delivered(delivery, outcome, readable(shown(report)))
            case ("bounce", self.number, _qp):
                yield "A bounce goes to the sender."
            case ("end", self.number):
                self._has_ended = True
                yield f"Message {self.number} has left the queue."

    def _delivered(self, delivery: int, outcome: bytes, report: str) -> Iterator[str]:
        recipient = self._flying.pop(delivery)
        if outcome == b"success":
            self._worst(Ending.DELIVERED)
            yield f"Delivered to {recipient}: {success(report)}."
            yield from self._follow_forwards(report)
            return
        if outcome == b"deferral":
            self._worst(Ending.DEFERRED)
            yield f"Not delivered to {recipient} for now; it stays in the queue and is tried again: {report}"
        else:
            self._worst(Ending.FAILED)
            yield f"Cannot be delivered to {recipient}: {report}"
        yield from (hint for needle, hint in HINTS if needle in report)

    def _follow_forwards(self, report: str) -> Iterator[str]:
        if DID.search(report) is None:
            return  # A remote host's own number.
        for qp in QP.findall(report):
            story = Story(int(qp))
            self._forwarded.append(story)
            for event in tuple(self._history):
                yield from story.feed(event)

    def _worst(self, ending: Ending) -> None:
        self._outcome = ending if self._outcome is None else max(self._outcome, ending)


def success(report: str) -> str:
    """Return what a report of success says, in words."""
    did = DID.search(report)
    if did is None:
        return report.rstrip(".") or "accepted"
    words = ("written to {} mailbox{}", "forwarded {} time{}", "given to {} program{}")
    plurals = ("es", "s", "s")
    told = [
        text.format(count, plural if int(count) > 1 else "")
        for text, count, plural in zip(words, did.groups(), plurals, strict=True)
        if int(count)
    ]
    return ", ".join(told) or "its .qmail file throws it away"


def readable(report: str) -> str:
    """Return a report as it was before it was logged, on one line: blanks were underscores, line ends slashes."""
    return report.replace("_", " ").replace("./", ". ").strip(" /")


def shown(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
