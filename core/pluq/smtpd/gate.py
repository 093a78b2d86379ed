"""One profile of the resident server: which connections come in, and what they are served with.

A connection is looked up in the rules first. A client that is denied is dropped without a word, as by tcpserver; one that has too
many connections hears 421. Beyond the limit of all connections nobody is accepted: clients wait in the kernel's queue.

Source: tcpserver(1).
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pluq.config.home import Home
from pluq.config.site import Profile, Site, read_site
from pluq.errors import ConfigError, TemporaryFailure
from pluq.hookspecs.context import Session
from pluq.plan import EMPTY, Plan
from pluq.smtpd import connlog, replies
from pluq.smtpd.engine import Engine
from pluq.smtpd.fresh import Fresh
from pluq.smtpd.policy import FILES, read_policy
from pluq.smtpd.rules import DEFAULT_CONCURRENCY, DEFAULT_PER_ADDRESS, Places, Rules, rules_path
from pluq.smtpd.session import Service

if TYPE_CHECKING:
    from pluq.smtpd.server import Worker

# The profile of a home without control/pluq.toml.
STOCK = "stock"
BACKLOG = 1024
# Accepting begins again when such a part of the limit is free.
FREE_SHARE = 16


@dataclass(frozen=True)
class Setup:
    """What a profile's configuration says. `concurrency` counts all workers."""

    plan: Plan
    rules: Rules
    concurrency: int
    per_address: int


def read_setup(home: Home, site: Site, name: str, log: connlog.LineLog) -> Setup:
    """Return the setup of a profile. Raises ConfigError; nothing is started."""
    profile = Profile(name) if name == STOCK and name not in site.profiles else site.profile(name)
    plan = EMPTY
    if profile.plugins:
        from pluq.plan.compile import compile_plan

        plan = compile_plan(home, site, name, log=log.remark)
    return Setup(
        plan,
        Rules(rules_path(home, profile.rules), log.remark),
        profile.concurrency or home.controls.number("concurrencyincoming", DEFAULT_CONCURRENCY),
        DEFAULT_PER_ADDRESS if profile.per_address is None else profile.per_address,
    )


async def start_plan(plan: Plan) -> None:
    if plan.start is not None:
        await plan.start()


async def stop_plan(plan: Plan) -> None:
    if plan.stop is not None:
        await plan.stop()


class Gate:
    """One profile in one worker. Raises ConfigError where its configuration cannot be used."""

    def __init__(self, worker: Worker, name: str) -> None:
        self.name = name
        self.sockets: list[socket.socket] = []
        self.sessions: set[Engine] = set()
        self._worker = worker
        self._log = worker.log
        self._servers: list[asyncio.Server] = []
        self._is_open = False
        self._setup = read_setup(worker.home, read_site(worker.home), name, worker.log)
        self._places = Places()
        self._service = Fresh([worker.home.control(file) for file in FILES], self._make_service, self._log.remark)

    @property
    def plan(self) -> Plan:
        return self._setup.plan

    @property
    def limit(self) -> int:
        """The most connections of this worker."""
        return max(1, self._setup.concurrency // self._worker.count)

    def _make_service(self) -> Service:
        worker = self._worker
        return Service(read_policy(worker.home), self.plan, worker.submitter, self._log.remark, self.name)

    async def renew(self, site: Site) -> None:
        """Read everything anew; keep what is old, and say why, where that fails."""
        old = self._setup
        try:
            new = read_setup(self._worker.home, site, self.name, self._log)
            await start_plan(new.plan)
            self._setup = new
            self._service.renew()
        except (ConfigError, TemporaryFailure) as error:
            self._log.remark(f"{error}; profile {self.name} goes on as it was")
            return
        if self._service.get(self._worker.loop.time()).plan is old.plan:  # a control file is broken
            self._setup = old
        elif old.plan is not EMPTY:
            self._worker.retire(old.plan)

    # -- connections

    def admit(self, engine: Engine, transport: asyncio.Transport) -> tuple[Service, Session] | None:
        now = self._worker.loop.time()
        service = self._service.get(now)
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer or not own:  # gone before it was accepted
            transport.abort()
            return None
        session = self._session(service, str(peer[0]), int(peer[1]), str(own[0]), int(own[1]))
        engine.number, engine.ip = self._worker.next_number(), session.remote_ip
        self.sessions.add(engine)
        complaint = self._complaint(now, session)
        self._log_arrival(engine.number, session, "ok" if complaint is None else "deny")
        if complaint is None:
            if len(self.sessions) >= self.limit:
                self.pause()
            return service, session
        if complaint:
            transport.write(complaint)
        transport.close()
        self._gone(engine, 0 if not complaint else 1)
        return None

    def _session(self, service: Service, ip: str, port: int, local_ip: str, local_port: int) -> Session:
        me = service.policy.me
        local = local_ip if me is None else os.fsdecode(me)
        environment = {
            "PROTO": "TCP6" if ":" in ip else "TCP",
            "TCPREMOTEIP": ip,
            "TCPREMOTEPORT": str(port),
            "TCPLOCALIP": local_ip,
            "TCPLOCALPORT": str(local_port),
            "TCPLOCALHOST": local,
        }
        return Session(
            self.name,
            remote_ip=ip,
            remote_port=port,
            local_ip=local_ip,
            local_port=local_port,
            local_host=local,
            environment=environment,
        )

    def _complaint(self, now: float, session: Session) -> bytes | None:
        """Return what a client hears that may not come in (nothing where a rule denies it), None for one that may."""
        try:
            found = self._setup.rules.find(now, session.remote_ip)
        except ConfigError as error:
            self._log.remark(f"{error}; dropping connection")
            return replies.NO_CONTROLS
        if found.deny:
            return b""
        environment = session.environment
        environment.update(found.environment)
        session.local_host = environment["TCPLOCALHOST"]
        session.remote_host = environment.get("TCPREMOTEHOST", session.remote_host)
        session.remote_info = environment.get("TCPREMOTEINFO")
        return (
            None
            if self._places.take(session.remote_ip, environment, self._setup.per_address)
            else replies.TOO_MANY_CONNECTIONS
        )

    def ended(self, engine: Engine) -> None:
        assert engine.smtp is not None
        self._places.give_back(engine.ip)
        self._gone(engine, 0 if engine.smtp.ended == "quit" else 1)
        if not self._is_open and len(self.sessions) + self.limit // FREE_SHARE < self.limit:
            self._worker.spawn(self.accept())

    def _log_arrival(self, number: int, session: Session, verdict: str) -> None:
        ip = session.remote_ip
        local = f"{connlog.safe(session.local_host)}:{session.local_ip}:{session.local_port}"
        came = connlog.came(number, ip, len(self.sessions), self.limit)
        self._log.write(came + connlog.judged(verdict, number, local, f":{ip}::{session.remote_port}"))

    def _gone(self, engine: Engine, code: int) -> None:
        self.sessions.discard(engine)
        self._worker.check_empty()
        self._log.write(connlog.ended(engine.number, code, len(self.sessions), self.limit))

    # -- listening

    async def accept(self) -> None:
        """Accept connections on all sockets of the profile."""
        if self._is_open or self._worker.is_leaving:
            return
        self._is_open = True
        loop = self._worker.loop
        for sock in self.sockets:
            # A copy: closing the server closes it, and the kernel goes on to queue connections for the original.
            server = await loop.create_server(partial(Engine, loop, self), sock=sock.dup(), backlog=BACKLOG)
            self._servers.append(server)
        if not self._is_open:  # the limit was reached meanwhile
            self.pause()

    def pause(self) -> None:
        """Let new clients wait in the kernel's queue."""
        self._is_open = False
        for server in self._servers:
            server.close()
        self._servers.clear()
