"""Counting the queue: a role that walks through it, as qmails, and hears nobody.

What it finds is a JSON text in the board's memory: numbers, domains, and addresses only where the site wants them shown. A walk costs
some 50 microseconds a message, so the pause after it is ten times as long as it took, and never less than PAUSE_SECONDS. Messages come and go
while it walks; each is counted as it was seen.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pluq.errors import ProtocolError
from pluq.queue.layout import QueueLayout
from pluq.queue.reader import HELD_TIME, numbers, read_channel, read_info, read_todo, split_numbers, todo_numbers
from pluq.queue.records import Recipient

if TYPE_CHECKING:
    from pluq.config import Home
    from pluq.config.watching import Status
    from pluq.metrics import Board

PAUSE_SECONDS = 5.0
SHARE = 10
"""The walk takes one part in so many of the time."""
NICE = 10
AGES = (("1m", 60), ("5m", 300), ("1h", 3600), ("6h", 21600), ("1d", 86400), ("4d", 345600))
OLDER = "older"
DESTINATIONS_MAX = 20_000
"""Domains that are told apart; each costs some 200 bytes."""
SHOWN_DESTINATIONS = 25
SHOWN_MESSAGES = 15
SHOWN_RECIPIENTS = 3


@dataclass
class Destination:
    """A domain that mail waits for. `oldest` is the birth of the oldest message, in seconds since the epoch."""

    messages: int = 0
    recipients: int = 0
    oldest: float = field(default=float("inf"))


@dataclass
class Message:
    """One message as it was seen."""

    number: int
    state: str
    birth: float
    sender: bytes
    waiting: Mapping[str, list[bytes]]


class Census:
    """What was counted. `now` is the time of the count, in seconds since the epoch."""

    def __init__(self, now: float, shows_addresses: bool) -> None:
        self.now = now
        self._shows_addresses = shows_addresses
        self.states = {"todo": 0, "queued": 0, "held": 0, "bouncing": 0}
        self.ages = {name: 0 for name, _seconds in AGES} | {OLDER: 0}
        self.recipients = {"local": 0, "remote": 0, "unknown": 0}
        self.oldest: dict[str, float] = {}
        self._destinations: dict[tuple[str, str], Destination] = {}
        self._messages: list[tuple[float, int, Message]] = []

    def add(self, message: Message) -> None:
        age = max(0.0, self.now - message.birth)
        self.states[message.state] += 1
        self.ages[next((name for name, seconds in AGES if age < seconds), OLDER)] += 1
        kinds = ("all", "todo") if message.state == "todo" else ("all",)
        for kind in kinds:
            self.oldest[kind] = max(age, self.oldest.get(kind, 0.0))
        for channel, addresses in message.waiting.items():
            self._wait(channel, addresses, message.birth)
        if self._shows_addresses:
            self._messages.append((message.birth, message.number, message))
            if len(self._messages) > 20 * SHOWN_MESSAGES:
                self._messages = sorted(self._messages)[:SHOWN_MESSAGES]

    def _wait(self, channel: str, addresses: list[bytes], birth: float) -> None:
        self.recipients[channel] += len(addresses)
        by_domain: dict[str, int] = {}
        for address in addresses:
            domain = text(address.rpartition(b"@")[2]).lower()[:255]
            by_domain[domain] = by_domain.get(domain, 0) + 1
        for domain, count in by_domain.items():
            key = (channel, domain)
            if key not in self._destinations and len(self._destinations) >= DESTINATIONS_MAX:
                key = (channel, "")
            found = self._destinations.setdefault(key, Destination())
            found.messages += 1
            found.recipients += count
            found.oldest = min(found.oldest, birth)

    def report(self, seconds: float) -> dict[str, Any]:
        """Return everything as JSON has it; `seconds` is how long the walk took."""
        largest = sorted(self._destinations.items(), key=lambda item: (-item[1].recipients, item[0]))
        return {
            "time": self.now,
            "seconds": seconds,
            "states": self.states,
            "ages": self.ages,
            "recipients": self.recipients,
            "oldest": self.oldest,
            "destinations": [
                {
                    "channel": channel,
                    "domain": domain,
                    "messages": found.messages,
                    "recipients": found.recipients,
                    "age": max(0.0, self.now - found.oldest),
                }
                for (channel, domain), found in largest[:SHOWN_DESTINATIONS]
            ],
            "more_destinations": max(0, len(largest) - SHOWN_DESTINATIONS),
            "messages": [
                self._described(message) for _birth, _number, message in sorted(self._messages)[:SHOWN_MESSAGES]
            ],
        }

    def _described(self, message: Message) -> dict[str, Any]:
        addresses = [address for found in message.waiting.values() for address in found]
        return {
            "number": message.number,
            "state": message.state,
            "age": max(0.0, self.now - message.birth),
            "sender": text(message.sender)[:320],
            "recipients": [text(address)[:320] for address in addresses[:SHOWN_RECIPIENTS]],
            "more": max(0, len(addresses) - SHOWN_RECIPIENTS),
        }


def text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def count(layout: QueueLayout, now: float, shows_addresses: bool) -> Census:
    """Walk through the queue. Raises OSError for a folder that cannot be read."""
    census = Census(now, shows_addresses)
    bouncing = set(numbers(f"{layout.path}/bounce"))
    in_todo = set(todo_numbers(layout))
    for number in in_todo:
        message = _unseen(layout, number)
        if message is not None:
            census.add(message)
    for number in split_numbers(layout, "info"):
        message = None if number in in_todo else _seen(layout, number, number in bouncing)
        if message is not None:
            census.add(message)
    return census


def _unseen(layout: QueueLayout, number: int) -> Message | None:
    """Return a message that the scheduler has not preprocessed; it is not known yet where its recipients are."""
    try:
        birth = os.stat(layout.todo(number)).st_mtime
        todo = read_todo(layout, number)
    except (OSError, ProtocolError):
        return None
    return Message(number, "todo", birth, todo.sender, {"unknown": list(todo.recipients)})


def _seen(layout: QueueLayout, number: int, is_bouncing: bool) -> Message | None:
    try:
        info = read_info(layout, number)
        paths = {"local": layout.local(number), "remote": layout.remote(number)}
        waiting = {channel: _waiting(read_channel(path)) for channel, path in paths.items()}
        is_held = any(_is_held(path) for path in paths.values())
    except (OSError, ProtocolError):
        return None
    state = "held" if is_held else "bouncing" if is_bouncing else "queued"
    return Message(number, state, info.birth, info.sender, waiting)


def _is_held(path: str) -> bool:
    try:
        return int(os.stat(path).st_mtime) == HELD_TIME
    except FileNotFoundError:
        return False


def _waiting(recipients: list[Recipient]) -> list[bytes]:
    return [recipient.address for recipient in recipients if not recipient.done]


def run(home: Home, board: Board, settings: Status) -> int:
    """Count again and again, until TERM."""
    with suppress(OSError):  # a service manager may forbid it; the pauses are long enough without
        os.nice(NICE)
    layout = QueueLayout(home.queue)
    while True:
        began = time.monotonic()
        try:
            found = count(layout, time.time(), settings.addresses).report(0.0)
        except OSError:
            found = {}  # the page says that the census is old, and health that nobody counts
        seconds = time.monotonic() - began
        if found:
            board.census.write(json.dumps({**found, "seconds": seconds}).encode("ascii"))
        time.sleep(max(PAUSE_SECONDS, seconds * SHARE))
