"""One profile of a resident server: which connections come in, and what they are served with.

A connection is looked up in the rules first. A client that is denied is dropped without a word, as by tcpserver; one that has too
many connections hears so in the words of the protocol. Beyond the limit of all connections nobody is accepted: clients wait in the
kernel's queue.

A protocol is a subclass: what its connections share (a service, made from control files and made anew when one changes), and how a
connection is made.

Source: tcpserver(1).
"""

from __future__ import annotations

import asyncio
import os
import socket
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from pluq.config.home import Home
from pluq.config.site import STOCK, Profile, Site, read_site
from pluq.errors import ConfigError, TemporaryFailure
from pluq.hookspecs.context import Session
from pluq.listen.arrivals import Arrivals
from pluq.listen.fresh import Fresh
from pluq.listen.rules import DEFAULT_CONCURRENCY, Places, Rules, no_rules, nobody
from pluq.plan import EMPTY, Plan
from pluq.store.tcprules import Instructions

if TYPE_CHECKING:
    from pluq.listen.worker import Worker

BACKLOG = 1024
# Accepting begins again when such a part of the limit is free.
FREE_SHARE = 16

S = TypeVar("S")
C = TypeVar("C", bound="Connection")


class Connection(Protocol):
    """What a gate and its worker need of a connection. `number` is that in the log, `ip` where it came from."""

    number: int
    ip: str
    transport: asyncio.Transport | None

    @property
    def plan(self) -> Plan | None:
        """The plan that its session began with."""

    def go_down(self) -> None:
        """The worker leaves: end now if nothing is under way, else soon."""

    def check_time(self) -> float:
        """End the session if its client took too long; return the seconds that it may still take."""


@dataclass(frozen=True)
class Setup:
    """What a profile's configuration says. `limit` is the most connections of this worker."""

    plan: Plan
    rules: Rules
    limit: int
    per_address: int


def new_session(profile: str, host: bytes | None, ip: str, port: int, local_ip: str, local_port: int) -> Session:
    """Return the session of a connection from `ip`, with the variables of tcpserver; `host` is our name, if we know it."""
    local = local_ip if host is None else _text(host)
    environment = {
        "PROTO": "TCP6" if ":" in ip else "TCP",
        "TCPREMOTEIP": ip,
        "TCPREMOTEPORT": str(port),
        "TCPLOCALIP": local_ip,
        "TCPLOCALPORT": str(local_port),
        "TCPLOCALHOST": local,
    }
    # By position: keywords cost a third more, for each connection.
    return Session(profile, ip, port, "unknown", None, local_ip, local_port, local, environment)


_text = lru_cache(16)(os.fsdecode)


def take_variables(session: Session, found: Instructions) -> None:
    """Give a session the variables of its rule."""
    environment = session.environment
    environment.update(found.environment)
    session.local_host = environment["TCPLOCALHOST"]
    session.remote_host = environment.get("TCPREMOTEHOST", session.remote_host)
    session.remote_info = environment.get("TCPREMOTEINFO")


async def start_plan(plan: Plan) -> None:
    if plan.start is not None:
        await plan.start()


async def stop_plan(plan: Plan) -> None:
    if plan.stop is not None:
        await plan.stop()


class Gate(ABC, Generic[S, C]):
    """One profile in one worker. Raises ConfigError where its configuration cannot be used."""

    role: ClassVar[str]
    """What plugins are compiled for, and the log calls us."""
    files: ClassVar[tuple[str, ...]]
    """The control files that the service is made of."""
    concurrency_file: ClassVar[str | None] = "concurrencyincoming"
    default_concurrency: ClassVar[int] = DEFAULT_CONCURRENCY
    trusts: ClassVar[bool] = False
    """Whoever comes may send anything: where there are no rules, nobody may come."""
    too_many: ClassVar[bytes] = b""
    """What a client hears that has too many connections."""
    trouble: ClassVar[bytes] = b""
    """What a client hears when the rules are broken."""

    def __init__(self, worker: Worker, name: str) -> None:
        self.name = name
        self.sockets: list[socket.socket] = []
        self.sessions: set[C] = set()
        self.worker = worker
        self.log = worker.log
        self._arrivals = Arrivals(name, worker.log)
        self._servers: list[asyncio.Server] = []
        self._is_open = False
        self._setup = self._read_setup(worker.home, read_site(worker.home))
        self._places = Places()
        self._service = Fresh([worker.home.control(file) for file in self.files], self.make_service, self.log.remark)

    # -- what a protocol says

    @abstractmethod
    def make_service(self) -> S:
        """Return what the connections share. Raises ConfigError."""

    @abstractmethod
    def host(self, service: S) -> bytes | None:
        """Return our name in that service, if it has one."""

    @abstractmethod
    def connection(self) -> asyncio.BaseProtocol:
        """Return what serves a new connection; it calls `arrive` and, if it was admitted, `leave`."""

    # -- configuration

    @property
    def plan(self) -> Plan:
        return self._setup.plan

    def service(self) -> S:
        """Return the service of a connection that comes now."""
        return self._service.get(self.worker.loop.time())

    def _read_setup(self, home: Home, site: Site) -> Setup:
        """Return the setup of the profile. Raises ConfigError; nothing is started."""
        name, log = self.name, self.log.remark
        profile = Profile(name) if name == STOCK and name not in site.profiles else site.profile(name)
        plan = EMPTY
        if profile.plugins:
            from pluq.plan.compile import compile_plan

            plan = compile_plan(home, site, name, role=self.role, log=log)
        most = self.default_concurrency
        if self.concurrency_file is not None:
            most = home.controls.number(self.concurrency_file, most)
        return Setup(
            plan,
            Rules(profile.rules_path(home), log, nobody if self.trusts else no_rules),
            max(1, (profile.concurrency or most) // self.worker.count),
            profile.per_address,
        )

    async def renew(self, site: Site) -> None:
        """Read everything anew; keep what is old, and say why, where that fails."""
        old, old_service = self._setup, self.service()
        try:
            new = self._read_setup(self.worker.home, site)
            await start_plan(new.plan)
            self._setup = new
            self._service.renew()
        except (ConfigError, TemporaryFailure) as error:
            self.log.remark(f"{error}; profile {self.name} goes on as it was")
            return
        if self.service() is old_service:  # a control file is broken
            self._setup = old
        elif old.plan is not EMPTY:
            self.worker.retire(old.plan)

    # -- connections

    def arrive(self, connection: C, service: S, transport: asyncio.Transport) -> Session | None:
        """Return the session of a new connection; None: it was sent away."""
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer or not own:  # gone before it was accepted
            transport.abort()
            return None
        session = new_session(self.name, self.host(service), peer[0], peer[1], own[0], own[1])
        connection.number, connection.ip = self.worker.next_number(), session.remote_ip
        self.sessions.add(connection)
        count, limit = len(self.sessions), self._setup.limit
        complaint = self._complaint(session)
        if complaint is None:
            self._arrivals.came(connection.number, session, "ok", count, limit)
            if count >= limit:
                self.pause()
            return session
        code, text = complaint
        self._arrivals.came(connection.number, session, "limit" if text is self.too_many else "deny", count, limit)
        if text:
            transport.write(text)
        transport.close()
        self._gone(connection, code)
        return None

    def _complaint(self, session: Session) -> tuple[int, bytes] | None:
        """Return exit code and last words for a client that may not come in, None for one that may."""
        try:
            found = self._setup.rules.find(self.worker.loop.time(), session.remote_ip)
        except ConfigError as error:
            self.log.remark(f"{error}; dropping connection")
            return 1, self.trouble
        if found.deny:
            return 0, b""
        if found.environment:
            take_variables(session, found)
        fits = self._places.take(session.remote_ip, session.environment, self._setup.per_address)
        return None if fits else (1, self.too_many)

    def leave(self, connection: C, code: int) -> None:
        """An admitted connection has ended, with what would be its program's exit code."""
        self._places.give_back(connection.ip)
        self._gone(connection, code)
        if not self._is_open:
            limit = self._setup.limit
            if len(self.sessions) + limit // FREE_SHARE < limit:
                self.worker.spawn(self.accept())

    def _gone(self, connection: C, code: int) -> None:
        self.sessions.discard(connection)
        self.worker.check_empty()
        self._arrivals.gone(connection.number, connection.ip, code, len(self.sessions), self._setup.limit)

    # -- listening

    async def accept(self) -> None:
        """Accept connections on all sockets of the profile."""
        if self._is_open or self.worker.is_leaving:
            return
        self._is_open = True
        for sock in self.sockets:
            # A copy: closing the server closes it, and the kernel goes on to queue connections for the original.
            server = await self.worker.loop.create_server(self.connection, sock=sock.dup(), backlog=BACKLOG)
            self._servers.append(server)
        if not self._is_open:  # the limit was reached meanwhile
            self.pause()

    def let_go(self) -> None:
        """Listen no more, for good; what came in stays."""
        self.pause()
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()

    def pause(self) -> None:
        """Let new clients wait in the kernel's queue."""
        self._is_open = False
        for server in self._servers:
            server.close()
        self._servers.clear()
