"""What is in the queue, message by message, and which messages somebody means.

    for message in messages(layout, Selection(recipients=patterns(["example.org"])), now): ...

Folders are listed once and each message's files read once, so the time grows with the number of messages. Messages come and go
meanwhile; one that goes is left out.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from pluq.queue.layout import QueueLayout
from pluq.queue.reader import HELD_TIME, never_waiting, numbers
from pluq.queue.records import parse_info, parse_recipients, parse_todo

__all__ = ["Message", "Recipient", "Selection", "messages", "parse_age", "patterns", "read_message", "text"]

CHANNELS = ("local", "remote")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


class Recipient(NamedTuple):
    """One recipient. `channel` is empty while nobody has looked at the message."""

    address: str
    channel: str
    done: bool


@dataclass(frozen=True)
class Message:
    """One message. Times are seconds since the epoch; `next_try` is None while none is planned.

    `state` is "todo" before qmail-send has looked at it, then "queued", "held" or "bouncing" (failure notes are there).
    """

    number: int
    identity: int
    sender: str
    size: int
    arrived: int
    state: str
    next_try: int | None
    recipients: list[Recipient]


Patterns = re.Pattern[str]


def patterns(given: Iterable[str]) -> Patterns | None:
    """Return shell patterns for addresses as one; None for none. One without @ is for the domain, <> is the empty sender."""
    found = [fnmatch.translate(_whole(one).lower()) for one in given]
    return re.compile("|".join(f"(?:{one})" for one in found)) if found else None


def _whole(pattern: str) -> str:
    if pattern in ("<>", ""):
        return ""
    return pattern if pattern.partition("@")[0] and ("@" in pattern or pattern == "*") else f"*@{pattern.lstrip('@')}"


def parse_age(given: str) -> int:
    """Return the seconds in "90", "15m", "2h", "3d" or "1w". Raises ValueError."""
    number, unit = (given[:-1], given[-1]) if given[-1:] in UNITS else (given, "s")
    if not (number.isascii() and number.isdigit()):
        raise ValueError(f"{given!r} is no age: a number, then s, m, h, d or w")
    return int(number) * UNITS[unit]


@dataclass(frozen=True)
class Selection:
    """Which messages are meant: all that fit everything that is said here. Ages in seconds.

    A recipient counts while it is not done; the channel is that of such a recipient.
    """

    numbers: Collection[int] = ()
    senders: Patterns | None = None
    recipients: Patterns | None = None
    older: int | None = None
    younger: int | None = None
    channel: str | None = None
    states: Collection[str] = field(default=())

    @property
    def is_everything(self) -> bool:
        return self == Selection()

    def fits(self, message: Message, now: float) -> bool:
        age = now - message.arrived
        return (
            (not self.numbers or message.number in self.numbers)
            and (self.older is None or age >= self.older)
            and (self.younger is None or age < self.younger)
            and (not self.states or message.state in self.states)
            and (self.senders is None or self.senders.match(message.sender.lower()) is not None)
            and ((self.recipients is None and self.channel is None) or any(map(self._fits, message.recipients)))
        )

    def _fits(self, recipient: Recipient) -> bool:
        return (
            not recipient.done
            and (self.channel is None or recipient.channel == self.channel)
            and (self.recipients is None or self.recipients.match(recipient.address.lower()) is not None)
        )


def messages(layout: QueueLayout, selection: Selection, now: float) -> Iterator[Message]:
    """Yield each message that is meant, once, in no order. Raises OSError, ProtocolError."""
    for number in selection.numbers or _all_numbers(layout):
        message = read_message(layout, number)
        if message is not None and selection.fits(message, now):
            yield message


def _all_numbers(layout: QueueLayout) -> Iterator[int]:
    """Yield every number once; of the numbers in todo/, which are few, all are in memory."""
    waiting = {number for folder in layout.todo_dirs() for number in numbers(folder)}
    yield from waiting
    for part in range(layout.split):
        yield from (number for number in numbers(f"{layout.path}/info/{part}") if number not in waiting)


def read_message(layout: QueueLayout, number: int) -> Message | None:
    """Return a message; None if it is not, or no longer, in the queue. Raises OSError, ProtocolError."""
    try:
        stat = os.stat(layout.mess(number))
        envelope, arrived = _read(layout.todo(number)) or (b"", 0)
        if not envelope:
            return _preprocessed(layout, number, stat)
    except FileNotFoundError:
        return None
    todo = parse_todo(envelope)
    rows = [Recipient(text(address), "", False) for address in todo.recipients]
    return Message(number, stat.st_mtime_ns, text(todo.sender), stat.st_size, arrived, "todo", None, rows)


def _preprocessed(layout: QueueLayout, number: int, stat: os.stat_result) -> Message | None:
    info = _read(layout.info(number))
    if info is None:
        return None
    rows: list[Recipient] = []
    times = []
    for channel, path in zip(CHANNELS, (layout.local(number), layout.remote(number)), strict=True):
        found = _read(path)
        if found is not None:
            times.append(found[1])
            rows += [Recipient(text(one.address), channel, one.done) for one in parse_recipients(found[0])]
    planned = [when for when in times if when != HELD_TIME]
    noted = "bouncing" if os.path.exists(layout.bounce(number)) else "queued"
    state = "held" if times and not planned else noted
    sender = text(parse_info(info[0]))
    next_try = min(planned, default=None)
    return Message(number, stat.st_mtime_ns, sender, stat.st_size, info[1], state, next_try, rows)


def _read(path: str) -> tuple[bytes, int] | None:
    """Return what is in a file of the queue, and its time; None where there is no file. Raises OSError."""
    try:
        descriptor = never_waiting(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        stat = os.fstat(descriptor)
        return os.read(descriptor, stat.st_size), int(stat.st_mtime)
    finally:
        os.close(descriptor)


def text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
