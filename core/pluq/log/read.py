"""Reading a log again: when a line was written, and what it tells of the scheduler.

Times, as loggers put them before a line (in the order in which they are tried):

    @400000006740a1b2...  TAI64N                multilog t
    {"time":"2026-...     JSON                  the other form of this log
    1795274214.123456     seconds               splogger, accustamp, journalctl -o short-unix
    2026-11-21 15:16:54.123456789               tai64nlocal, svlogd -tt (UTC), rsyslog and journalctl (with a zone)
    Nov 21 15:16:54 host qmail: ...             syslog; the year is that which makes it the past

An event is a tuple that begins with its name; see `parse`. Lines of stock qmail-send and of ours are the same.

Source: qmail-log(5); tai64n(8); RFC 3164.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

__all__ = ["Event", "events", "parse", "split_time"]

Event = tuple[Any, ...]

TAI_EPOCH = 2**62 + 10
"""The label of 1970; tai64n knows no leap seconds but the first ten."""
DAY = 86400
MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
OUTCOMES = (b"success", b"deferral", b"failure")
FIRST_WORDS = frozenset(
    (b"status:", b"new", b"info", b"starting", b"delivery", b"end", b"bounce", b"warning:", b"alert:")
)


def events(lines: Iterable[bytes]) -> Iterator[tuple[float | None, Event]]:
    """Yield the time and the event of each line that tells one. An object right behind the line of its event is the same event."""
    before: tuple[Any, ...] | None = None
    for line in lines:
        when, rest = split_time(line)
        event = parse(rest)
        if event is None:
            continue
        is_object = rest[:1] == b"{"
        if not (is_object and event[:2] == before):
            yield when, event
        before = None if is_object else event[:2]


def split_time(line: bytes) -> tuple[float | None, bytes]:
    """Return when a line was written, in seconds since the epoch, and the line without that; None where it does not say."""
    first = line[:1]
    if first == b"@" and line[25:26] == b" ":
        try:
            return _tai(line[1:17]) + int(line[17:25], 16) * 1e-9, line[26:]
        except ValueError:
            return None, line
    if first == b"{":
        return _iso(line[9:39].partition(b'"')[0] + b" ")[0] if line[1:9] == b'"time":"' else None, line
    if first.isdigit():
        return _digits(line)
    if line[:3] in MONTHS and line[15:16] == b" ":
        when = _syslog(line[:15])
        if when is not None:
            return _tagged(when, line[16:])
    return None, line


@lru_cache(64)  # the lines of one second
def _tai(label: bytes) -> int:
    return int(label, 16) - TAI_EPOCH


def _digits(line: bytes) -> tuple[float | None, bytes]:
    if line[4:5] == b"-":
        return _iso(line)
    word, _, rest = line.partition(b" ")
    try:
        return _tagged(float(word), rest)
    except ValueError:
        return None, line


def _iso(line: bytes) -> tuple[float | None, bytes]:
    word, _, rest = line[19:].partition(b" ")
    when = _second(line[:10] + b"T" + line[11:19], _zone(word), line[10:11] == b"_")
    return (None, line) if when is None else _tagged(when + _fraction(word), rest)


def _zone(word: bytes) -> bytes:
    """Return the zone behind a time: "Z", "+01:00", "+0100", or nothing."""
    for sign in (b"Z", b"+", b"-"):
        at = word.find(sign)
        if at >= 0:
            return word[at:]
    return b""


def _fraction(word: bytes) -> float:
    digits = word[1:10] if word[:1] in (b".", b",") else b""
    digits = digits[: len(digits) - len(digits.lstrip(b"0123456789"))]
    return int(digits) / 10 ** len(digits) if digits else 0.0


@lru_cache(64)
def _second(text: bytes, zone: bytes, is_utc: bool) -> float | None:
    try:
        found = datetime.fromisoformat((text + zone).decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        return None
    if is_utc and found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return found.timestamp()


@lru_cache(64)
def _syslog(text: bytes) -> float | None:
    """Return the time of "Nov 21 15:16:54", local time, in this year or the last."""
    now = time.time()
    year = time.localtime(now).tm_year
    try:
        day, clock = int(text[4:6]), [int(part) for part in text[7:].split(b":")]
        times = [time.mktime((one, MONTHS[text[:3]], day, *clock, 0, 0, -1)) for one in (year, year - 1)]  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError):
        return None
    return times[0] if times[0] <= now + DAY else times[1]


def _tagged(when: float, rest: bytes) -> tuple[float, bytes]:
    """Take off the host and the program that syslog puts between time and line, and a second time behind them."""
    if rest.partition(b" ")[0] in FIRST_WORDS:
        return when, rest
    tag, colon, line = rest.partition(b": ")
    if not colon or b" " not in tag:
        return when, rest
    if line[:1].isdigit() or line[:1] == b"@":
        inner, found = split_time(line)
        return (when, found) if inner is None else (inner, found)
    return when, line


def parse(line: bytes) -> Event | None:
    """Return what a line tells; None for what is none of these, or is cut short.

    ("new", message)                                    ("delivery", delivery, outcome, report)
    ("info", message, size, sender, qp, uid)            ("end", message)
    ("start", delivery, message, channel, recipient)    ("bounce", message, qp)
    ("warning", text) ("alert", text)

    Numbers are int, all else is bytes as in the line; outcomes are b"success", b"deferral" and b"failure".
    """
    first, _, rest = line.partition(b" ")
    reader = READERS.get(first)
    if reader is None:
        return _object(line) if first[:1] == b"{" else None
    try:
        return reader(rest)
    except (ValueError, IndexError):
        return None


def _new(rest: bytes) -> Event | None:
    return ("new", int(rest[4:])) if rest[:4] == b"msg " else None


def _end(rest: bytes) -> Event | None:
    return ("end", int(rest[4:])) if rest[:4] == b"msg " else None


def _info(rest: bytes) -> Event | None:
    if rest[:4] != b"msg ":
        return None
    head, _, tail = rest[4:].partition(b" from <")
    number, _, size = head.partition(b": bytes ")
    sender, _, tail = tail.rpartition(b"> qp ")
    qp, _, uid = tail.partition(b" uid ")
    return "info", int(number), int(size), sender, int(qp), int(uid)


def _start(rest: bytes) -> Event:
    words = rest.split(b" ", 5)  # delivery D: msg N to CHANNEL RECIPIENT
    channel, _, recipient = words[5].partition(b" ")
    return "start", int(words[1][:-1]), int(words[3]), channel, recipient


def _delivery(rest: bytes) -> Event | None:
    number, _, tail = rest.partition(b": ")
    outcome, _, report = tail.partition(b": ")
    if outcome not in OUTCOMES:
        outcome, report = b"deferral", tail  # "report mangled, will defer"
    return "delivery", int(number), outcome, report


def _bounce(rest: bytes) -> Event | None:
    words = rest.split(b" ")
    return ("bounce", int(words[1]), int(words[3])) if words[2:3] == [b"qp"] else None


READERS: dict[bytes, Callable[[bytes], Event | None]] = {
    b"new": _new,
    b"end": _end,
    b"info": _info,
    b"starting": _start,
    b"delivery": _delivery,
    b"bounce": _bounce,
    b"warning:": lambda rest: ("warning", rest),
    b"alert:": lambda rest: ("alert", rest),
}


def _object(line: bytes) -> Event | None:
    import json

    try:
        record = json.loads(line)
        return OBJECTS[record["event"]](record)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _bytes(text: str) -> bytes:
    """Return text of an object as it would stand in a line."""
    from pluq.log.lines import SAFE

    return text.encode("utf-8", "surrogateescape").translate(SAFE)


OBJECTS: dict[str, Callable[[dict[str, Any]], Event]] = {
    "new": lambda one: ("new", int(one["message"])),
    "end": lambda one: ("end", int(one["message"])),
    "info": lambda one: ("info", one["message"], one["bytes"], _bytes(one["sender"]), one["qp"], one["uid"]),
    "start": lambda one: ("start", one["delivery"], one["message"], _bytes(one["channel"]), _bytes(one["recipient"])),
    "delivery": lambda one: (
        "delivery",
        one["delivery"],
        _bytes(one["status"] if one["status"] != "mangled" else "deferral"),
        _bytes(one["text"]),
    ),
    "bounce": lambda one: ("bounce", one["message"], one["qp"]),
    "warning": lambda one: ("warning", one["text"].encode("utf-8", "replace")),
    "alert": lambda one: ("alert", one["text"].encode("utf-8", "replace")),
}
