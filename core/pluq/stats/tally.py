"""What is counted in a log, line by line.

A message begins with "new msg" and ends with "end msg"; an attempt begins with "starting delivery" and ends with its report. The
delay of a success is the time since its message began. What began before the log does has no delay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from pluq.log.read import Event, events
from pluq.stats.bounded import Durations, Recent, TopCounts

HOUR = 3600
CHANNELS = (b"local", b"remote")
OUTCOMES = (b"success", b"deferral", b"failure")
REASON_BYTES = 200
# What differs between reports that mean the same, and what stands for it.
VARIABLE = (
    (re.compile(rb"<[^<>\s]*>|[^\s<>()\[\]:;,'\"/]+@[^\s<>()\[\]:;,'\"/]+"), rb"<...>"),
    (re.compile(rb"https?://\S+"), rb"http..."),
    (re.compile(rb"\b(?:\d{1,3}\.){3}\d{1,3}\b|\b[0-9a-fA-F]{1,4}(?::[0-9a-fA-F]{0,4}){3,7}\b"), rb"(IP)"),
    (re.compile(rb"\b(?=\w*\d)(?=\w*[A-Za-z])\w{8,}\b"), rb"..."),
    (re.compile(rb"(?<![\w.#])(?<!said: )\d+(?![\w.-])"), rb"N"),
    (re.compile(rb"\b(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}\b"), rb"(host)"),
    (re.compile(rb"\s+"), rb" "),
)


class Attempt(NamedTuple):
    """One delivery under way."""

    began: float | None
    message: int
    channel: bytes
    domain: bytes


@dataclass
class Hour:
    """What happened in one hour."""

    messages: int = 0
    size: int = 0
    success: int = 0
    deferral: int = 0
    failure: int = 0


@dataclass
class Tally:
    """All that is counted. Times are seconds since the epoch; keys are as in the log."""

    first: float | None = None
    last: float | None = None
    lines: int = 0
    messages: int = 0
    size: int = 0
    ended: int = 0
    bounces: int = 0
    attempts: dict[tuple[bytes, bytes], int] = field(
        default_factory=lambda: {(channel, outcome): 0 for channel in CHANNELS for outcome in OUTCOMES}
    )
    senders: TopCounts[bytes] = field(default_factory=TopCounts)
    sizes: TopCounts[bytes] = field(default_factory=TopCounts)
    domains: TopCounts[tuple[bytes, bytes]] = field(default_factory=TopCounts)
    domain_attempts: TopCounts[bytes] = field(default_factory=TopCounts)
    deferrals: TopCounts[bytes] = field(default_factory=TopCounts)
    failures: TopCounts[bytes] = field(default_factory=TopCounts)
    troubles: TopCounts[bytes] = field(default_factory=TopCounts)
    delays: dict[bytes, Durations] = field(default_factory=lambda: {channel: Durations() for channel in CHANNELS})
    durations: dict[bytes, Durations] = field(default_factory=lambda: {channel: Durations() for channel in CHANNELS})
    lifetimes: Durations = field(default_factory=Durations)
    hours: dict[int, Hour] = field(default_factory=dict)


class Counter:
    """Reads lines into a tally. Lines from before `since` or after `until` do not count."""

    def __init__(self, since: float | None = None, until: float | None = None) -> None:
        self.tally = Tally()
        self._since = since
        self._until = until
        self._born: Recent[float] = Recent()
        self._under_way: Recent[Attempt] = Recent()
        self._hour = Hour()
        self._hour_number = -1
        self._takers = {
            "new": self._new,
            "info": self._info,
            "start": self._start,
            "delivery": self._delivery,
            "end": self._end,
            "bounce": self._bounce,
            "warning": self._trouble,
            "alert": self._trouble,
        }

    def read(self, lines: Iterable[bytes]) -> None:
        """Count lines of one file."""
        tally, takers, bounded = self.tally, self._takers, self._since is not None or self._until is not None
        for when, event in events(lines):
            if bounded and not self._counts(when):
                continue
            tally.lines += 1
            if when is not None:
                if tally.first is None or when < tally.first:
                    tally.first = when
                if tally.last is None or when > tally.last:
                    tally.last = when
                if int(when) // HOUR != self._hour_number:
                    self._hour_number = int(when) // HOUR
                    self._hour = tally.hours.setdefault(self._hour_number * HOUR, Hour())
            takers[event[0]](event, when)

    def _counts(self, when: float | None) -> bool:
        if when is None:
            return False
        return (self._since is None or when >= self._since) and (self._until is None or when < self._until)

    def _new(self, event: Event, when: float | None) -> None:
        self.tally.messages += 1
        self._hour.messages += 1
        if when is not None:
            self._born.put(event[1], when)
        else:
            self._born.take(event[1])

    def _info(self, event: Event, _when: float | None) -> None:
        _name, _number, size, sender, _qp, _uid = event
        tally = self.tally
        tally.size += size
        self._hour.size += size
        tally.senders.add(sender)
        tally.sizes.add(sender, size)

    def _start(self, event: Event, when: float | None) -> None:
        _name, number, message, channel, recipient = event
        domain = recipient.rpartition(b"@")[2].lower()
        self._under_way.put(number, Attempt(when, message, channel, domain))

    def _delivery(self, event: Event, when: float | None) -> None:
        _name, number, outcome, report = event
        attempt = self._under_way.take(number)
        channel = attempt.channel if attempt is not None and attempt.channel in CHANNELS else b"remote"
        tally, hour = self.tally, self._hour
        tally.attempts[channel, outcome] += 1
        if outcome == b"success":
            hour.success += 1
        elif outcome == b"deferral":
            hour.deferral += 1
            tally.deferrals.add(reason(report))
        else:
            hour.failure += 1
            tally.failures.add(reason(report))
        if attempt is None:
            return
        tally.domains.add((attempt.domain, outcome))
        tally.domain_attempts.add(attempt.domain)
        if when is None or attempt.began is None:
            return
        tally.durations[channel].add(max(0.0, when - attempt.began))
        born = self._born.get(attempt.message)
        if outcome == b"success" and born is not None:
            tally.delays[channel].add(max(0.0, when - born))

    def _end(self, event: Event, when: float | None) -> None:
        self.tally.ended += 1
        born = self._born.take(event[1])
        if born is not None and when is not None:
            self.tally.lifetimes.add(max(0.0, when - born))

    def _bounce(self, _event: Event, _when: float | None) -> None:
        self.tally.bounces += 1

    def _trouble(self, event: Event, _when: float | None) -> None:
        self.tally.troubles.add(event[0].encode() + b": " + _alike(event[1]))


@lru_cache(4096)
def reason(report: bytes) -> bytes:
    """Return what a report says without what is about this one delivery: addresses, hosts, numbers."""
    return _alike(report.replace(b"_", b" ").replace(b"./", b". ").strip(b" /"))


def _alike(text: bytes) -> bytes:
    text = text[: 4 * REASON_BYTES]
    for pattern, instead in VARIABLE:
        text = pattern.sub(instead, text)
    return text.strip()[:REASON_BYTES]
