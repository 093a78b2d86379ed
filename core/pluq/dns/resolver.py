"""The resolver: which servers, how often, for how long; and what is remembered.

Every server is asked in turn, `attempts` times round; a try ends after `timeout` seconds, all of them after LIFETIME. The same
question asked by many at once goes out once. Answers are kept for their time to live within the codec's bounds; failures are
not kept.

Source: resolv.conf(5).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pluq.dns.codec import (
    FORMERR,
    NOTIMP,
    Answer,
    Mx,
    ServerRefuses,
    Status,
    Tlsa,
    decode_answer,
    encode_question,
    is_truncated,
    normal_name,
    printable,
)
from pluq.dns.transport import Server, UdpChannel, ask_tcp
from pluq.errors import ProtocolError, TemporaryFailure

RESOLV_CONF = "/etc/resolv.conf"

# resolv.conf(5) has the same defaults and looks at no more than three servers.
TIMEOUT = 5.0
ATTEMPTS = 2
MAX_SERVERS = 3

# One lookup as a whole: a delivery has several, and a sender's session waits for some.
LIFETIME = 30.0

# An answer takes about a kilobyte: 4 MB.
CACHE_SIZE = 4096


# What all plugins together may ask for one message. RFC 7208 section 4.6.4 wants at least 20 seconds for SPF alone; a client that is
# kept waiting for longer tries again while we still work.
MESSAGE_QUERIES = 60
MESSAGE_SECONDS = 20.0


class Budget:
    """What one caller may cost in all: a number of queries, and the time spent waiting for them.

    Strangers' records are looked up with it: SPF, DKIM, DMARC. Answers from the cache count as well, so that nobody makes us work for
    ever. Time that nobody waits does not count: a client may be slow. A `part` is bounded by itself and by what it is part of.
    """

    def __init__(
        self,
        queries: int,
        seconds: float,
        clock: Callable[[], float] | None = None,
        whole: Budget | None = None,
    ) -> None:
        self.queries = queries
        self.seconds = seconds
        self._clock = clock or time.monotonic
        self._whole = whole
        self._waiting = 0
        self._since = 0.0

    @classmethod
    def of_message(cls) -> Budget:
        """Return what one message may cost."""
        return cls(MESSAGE_QUERIES, MESSAGE_SECONDS)

    def part(self, queries: int, seconds: float) -> Budget:
        """Return a budget of its own that is spent from this one as well."""
        return Budget(queries, seconds, self._clock, self)

    @property
    def left(self) -> float:
        """How many seconds may still be waited."""
        own = self.seconds - (self._clock() - self._since if self._waiting else 0.0)
        return own if self._whole is None else min(own, self._whole.left)

    def spend(self) -> None:
        """Count one query. Raises TemporaryFailure when there is nothing left."""
        if self._whole is not None:
            self._whole.spend()
        self.queries -= 1
        if self.queries < 0 or self.left <= 0:
            raise TemporaryFailure("too many or too slow DNS lookups", "4.4.3")

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """Let the time run; gives the seconds that are left. Those who wait at the same time share it."""
        left = self.left
        self._begin()
        try:
            yield left
        finally:
            self._end()

    def _begin(self) -> None:
        if self._whole is not None:
            self._whole._begin()
        if not self._waiting:
            self._since = self._clock()
        self._waiting += 1

    def _end(self) -> None:
        if self._whole is not None:
            self._whole._end()
        self._waiting -= 1
        if not self._waiting:
            self.seconds -= self._clock() - self._since


@dataclass(frozen=True)
class SystemSettings:
    """What resolv.conf says, as far as it concerns absolute names."""

    servers: tuple[Server, ...]
    timeout: float = TIMEOUT
    attempts: int = ATTEMPTS


def parse_server(text: str) -> Server:
    """Return (address, port) of "127.0.0.1", "127.0.0.1:5353", "::1" or "[::1]:5353"."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, int(port.lstrip(":") or 53)
    host, colon, port = text.partition(":")
    return (host, int(port)) if colon and ":" not in port else (text, 53)


def parse_resolv_conf(text: str) -> SystemSettings:
    """Return the settings in a resolv.conf; domain and search are ignored, names are absolute."""
    servers: list[Server] = []
    options: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            servers.append((words[1], 53))
        elif words and words[0] == "options":
            options.update((name, value) for name, _, value in (word.partition(":") for word in words[1:]))
    timeout, attempts = options.get("timeout", ""), options.get("attempts", "")
    return SystemSettings(
        tuple(servers[:MAX_SERVERS]) or (("127.0.0.1", 53),),
        float(timeout) if timeout.isdecimal() and int(timeout) > 0 else TIMEOUT,
        int(attempts) if attempts.isdecimal() and int(attempts) > 0 else ATTEMPTS,
    )


class Resolver:
    """Lookups of absolute names. Belongs to one event loop; `close` it there."""

    def __init__(
        self,
        servers: Sequence[Server],
        timeout: float = TIMEOUT,
        attempts: int = ATTEMPTS,
        lifetime: float = LIFETIME,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.servers = tuple(servers)
        self.timeout = timeout
        self.attempts = attempts
        self.lifetime = lifetime
        self.clock = clock or time.monotonic
        self.queries_sent = 0
        self._cache: dict[tuple[bytes, str], tuple[float, Answer]] = {}
        self._flying: dict[tuple[bytes, str], asyncio.Task[Answer]] = {}
        self._channels: dict[Server, UdpChannel] = {}
        self._without_edns: set[Server] = set()

    @classmethod
    def from_system(cls, environment: Mapping[str, str] = os.environ, path: str = RESOLV_CONF) -> Resolver:
        """Return a resolver for PLUQ_DNS_SERVER or resolv.conf. A missing file means a server on this host."""
        if chosen := environment.get("PLUQ_DNS_SERVER"):
            return cls([parse_server(one.strip()) for one in chosen.split(",")])
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                settings = parse_resolv_conf(file.read())
        except FileNotFoundError:
            settings = parse_resolv_conf("")
        return cls(settings.servers, settings.timeout, settings.attempts)

    async def lookup(self, name: bytes | str, rdtype: str, budget: Budget | None = None) -> Answer:
        """Return what is known about an absolute name. Raises TemporaryFailure when nobody could tell.

        A name that cannot exist (an empty or too long label) does not.
        """
        if budget is not None:
            budget.spend()
        key = (normal_name(name), rdtype)
        kept = self._cache.get(key)
        if kept is not None and kept[0] > self.clock():
            return kept[1]
        task = self._flying.get(key)
        if task is None:
            task = self._flying[key] = asyncio.get_running_loop().create_task(self._find(key, budget))
            task.add_done_callback(self._landed)
        # Others may wait for the same answer, so the task goes on. `asyncio.timeout` would need a task of the caller, and a
        # session is stepped outside of any.
        if budget is None:
            done, _ = await asyncio.wait((task,))
        else:
            with budget.waiting() as seconds:
                done, _ = await asyncio.wait((task,), timeout=seconds)
        if not done:
            raise TemporaryFailure(f"no DNS answer in time for {printable(key[0])} {rdtype}", "4.4.3")
        return task.result()

    async def mx(self, name: bytes | str, budget: Budget | None = None) -> tuple[Mx, ...]:
        """Return the mail exchangers, in no order. Raises NoRecords or TemporaryFailure, as all that follow."""
        return (await self.lookup(name, "MX", budget)).require()

    async def a(self, name: bytes | str, budget: Budget | None = None) -> tuple[str, ...]:
        """Return IPv4 addresses."""
        return (await self.lookup(name, "A", budget)).require()

    async def aaaa(self, name: bytes | str, budget: Budget | None = None) -> tuple[str, ...]:
        """Return IPv6 addresses."""
        return (await self.lookup(name, "AAAA", budget)).require()

    async def txt(self, name: bytes | str, budget: Budget | None = None) -> tuple[bytes, ...]:
        """Return TXT records, the strings of each joined without a separator (RFC 7208 section 3.3)."""
        return (await self.lookup(name, "TXT", budget)).require()

    async def ptr(self, address: str, budget: Budget | None = None) -> tuple[bytes, ...]:
        """Return the names of an IPv4 or IPv6 address."""
        return (await self.lookup(ip_address(address).reverse_pointer, "PTR", budget)).require()

    async def tlsa(self, name: bytes | str, budget: Budget | None = None) -> tuple[Tlsa, ...]:
        """Return TLSA records of a name such as _25._tcp.mx.example.org."""
        return (await self.lookup(name, "TLSA", budget)).require()

    async def close(self) -> None:
        """Give up what is in flight and close the sockets."""
        flying = list(self._flying.values())
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)
        for channel in self._channels.values():
            channel.retire()
        self._channels.clear()
        await asyncio.sleep(0)  # the loop closes a socket at its next turn

    def _landed(self, task: asyncio.Task[Answer]) -> None:
        if not task.cancelled():
            task.exception()  # looked at: whoever waited has it, and perhaps nobody waits any more

    async def _find(self, key: tuple[bytes, str], budget: Budget | None) -> Answer:
        name, rdtype = key
        try:
            try:
                question = encode_question(name, rdtype)
            except ProtocolError:
                return Answer(name, rdtype, Status.NO_NAME, canonical=name)
            async with asyncio.timeout(self.lifetime):
                answer = await self._ask_servers(name, rdtype, question, budget)
        except TimeoutError:
            raise TemporaryFailure(f"no DNS answer for {printable(name)} {rdtype}", "4.4.3") from None
        finally:
            self._flying.pop(key, None)
        self._remember(key, answer)
        return answer

    def _remember(self, key: tuple[bytes, str], answer: Answer) -> None:
        if answer.ttl <= 0:
            return
        self._cache.pop(key, None)
        if len(self._cache) >= CACHE_SIZE:
            del self._cache[next(iter(self._cache))]  # the oldest
        self._cache[key] = (self.clock() + answer.ttl, answer)

    async def _ask_servers(self, name: bytes, rdtype: str, question: bytes, budget: Budget | None) -> Answer:
        """Ask the servers in turn. Each further query is spent from the budget of whoever asked first."""
        failure = TemporaryFailure(f"no DNS answer for {printable(name)} {rdtype}", "4.4.3")
        for number, server in enumerate(self.servers * self.attempts):
            if number and budget is not None:
                budget.spend()
            try:
                async with asyncio.timeout(self.timeout):
                    return await self._ask_server(server, name, rdtype, question, budget)
            except ServerRefuses as refusal:
                failure = refusal
            except (TimeoutError, OSError, EOFError, ProtocolError):
                continue
        raise failure

    async def _ask_server(
        self, server: Server, name: bytes, rdtype: str, question: bytes, budget: Budget | None
    ) -> Answer:
        edns = server not in self._without_edns
        channel = await self._channel(server)
        self.queries_sent += 1
        wire = await channel.ask(question, edns)
        if edns and wire[3] & 15 in (FORMERR, NOTIMP):
            self._without_edns.add(server)  # RFC 6891 section 7: a server that predates EDNS
            if budget is not None:
                budget.spend()
            wire = await channel.ask(question, edns=False)
        if is_truncated(wire):
            if budget is not None:
                budget.spend()
            wire = await ask_tcp(server, question, edns)
        return decode_answer(wire, name, rdtype)

    async def _channel(self, server: Server) -> UdpChannel:
        channel = self._channels.get(server)
        if channel is not None and not channel.is_worn():
            return channel
        fresh = await UdpChannel.open(server)
        worn = self._channels.get(server)
        self._channels[server] = fresh
        if worn is not None:
            worn.retire()
        return fresh


def lookup_now(name: bytes | str, rdtype: str) -> Answer:
    """Look one name up and wait, in a program that has no event loop."""

    async def look() -> Any:
        resolver = Resolver.from_system()
        try:
            return await resolver.lookup(name, rdtype)
        finally:
            await resolver.close()

    answer: Answer = asyncio.run(look())
    return answer
