"""The resident SMTP server: workers on listening sockets that somebody else has bound.

    run(home, listeners)     blocks until TERM; forks more workers where the profile asks for them

Each listener has a profile: its plugins, rules and limits. A worker is one event loop (uvloop where it is installed). A session
costs about 4 KiB while it is idle.

TERM   no new connections; sessions between messages hear 421, the others end their message; out within DRAIN_SECONDS
HUP    plugins, rules and control files are read anew; what cannot be used is logged and the old goes on. Sessions keep theirs

Control files and rules are also read anew when they change. There are no look-ups of names: rules of the form =host do not match,
and Received says "from unknown", as with tcpserver -H.

Source: tcpserver(1), qmail-smtpd(8).
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import socket
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pluq.config.home import Home
from pluq.config.site import Profile, Site, read_site
from pluq.errors import ConfigError
from pluq.hookspecs.context import Session
from pluq.plan import EMPTY, Plan
from pluq.queue.submit import ProgramSubmitter
from pluq.smtpd import connlog, replies
from pluq.smtpd.engine import Engine
from pluq.smtpd.fresh import Fresh
from pluq.smtpd.policy import FILES, read_policy
from pluq.smtpd.rules import DEFAULT_CONCURRENCY, DEFAULT_PER_ADDRESS, Places, Rules, rules_path
from pluq.smtpd.session import Service

if TYPE_CHECKING:
    from pluq.queue.lease_client import LeaseSubmitter
    from pluq.queue.submit import Submitter

STOCK = "stock"
BACKLOG = 1024
# The supervisor kills after 8 seconds.
DRAIN_SECONDS = 7.0
# How often the sessions' time limits are looked at, at least and at most.
SWEEP_SECONDS = (0.25, 5.0)
# New objects before the collector looks at them.
GC_THRESHOLD = 10_000
# Accepting begins again when so much of the limit is free.
FREE_SHARE = 16


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket and the profile of control/pluq.toml that it serves. A home without that file has only `stock`."""

    sock: socket.socket
    profile: str = STOCK


class Gate:
    """One profile in one worker: what its connections are served with, and which may come in."""

    def __init__(self, worker: Worker, name: str) -> None:
        self.name = name
        self.sockets: list[socket.socket] = []
        self.sessions: set[Engine] = set()
        self._worker = worker
        self._log = worker.log
        self._servers: list[asyncio.Server] = []
        self._is_open = False
        self.plan: Plan = EMPTY
        self.configure(worker.site())
        self._service = Fresh([worker.home.control(file) for file in FILES], self._make_service, self._log.remark)

    def configure(self, site: Site) -> None:
        """Take limits, rules and plugins from the site. Raises ConfigError before anything is changed."""
        home = self._worker.home
        profile = site.profile(self.name) if self.name in site.profiles else Profile(self.name)
        if self.name != STOCK and self.name not in site.profiles:
            site.profile(self.name)  # says which name is nearest
        plan = compile_profile(home, site, self.name, self._log)
        limit = profile.concurrency or home.controls.number("concurrencyincoming", DEFAULT_CONCURRENCY)
        self.rules = Rules(rules_path(home, profile.rules), self._log.remark)
        self.limit = max(1, limit // self._worker.count)
        self.places = Places(DEFAULT_PER_ADDRESS if profile.per_address is None else profile.per_address)
        self.plan = plan

    def _make_service(self) -> Service:
        home, worker = self._worker.home, self._worker
        return Service(read_policy(home), self.plan, worker.submitter, self._log.remark, self.name)

    async def renew(self, site: Site) -> None:
        """Read everything anew; keep what is old, and say why, where that fails."""
        old = self.plan
        try:
            self.configure(site)
        except ConfigError as error:
            self._log.remark(f"{error}; profile {self.name} goes on as it was")
            return
        self._service.renew()
        await started(self.plan)
        if old is not EMPTY:
            self._worker.retire(old)

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
            found = self.rules.find(now, session.remote_ip)
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
        return None if self.places.take(session.remote_ip, environment) else replies.TOO_MANY_CONNECTIONS

    def ended(self, engine: Engine) -> None:
        assert engine.smtp is not None
        self.places.give_back(engine.ip)
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

    def pause(self) -> None:
        """Let new clients wait in the kernel's queue."""
        self._is_open = False
        for server in self._servers:
            server.close()
        self._servers.clear()


class Worker:
    """One event loop that serves all listeners, until TERM."""

    def __init__(
        self, home: Home, listeners: Sequence[Listener], index: int = 0, count: int = 1, lifeline: int | None = None
    ) -> None:
        """`lifeline` is a descriptor that ends with the parent, of which there are `count` workers."""
        self.home = home
        self.count = count
        self.is_leaving = False
        self._listeners = listeners
        self._index = index
        self._lifeline = lifeline
        self._connections = 0
        self._lease: LeaseSubmitter | None = None
        self._gates: dict[str, Gate] = {}
        self._retired: list[Plan] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def site(self) -> Site:
        return read_site(self.home)

    def next_number(self) -> int:
        self._connections += 1
        return self._connections * self.count + self._index

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def submitter(self, environment: Mapping[str, str]) -> Submitter:
        """Return the way to the queue: the program that QMAILQUEUE names, else the daemon."""
        if "QMAILQUEUE" in environment or "QMAILQUEUE" in os.environ:
            return ProgramSubmitter(self.home, {**os.environ, **environment})
        if self._lease is None:
            from pluq.queue.lease_client import LeaseSubmitter

            self._lease = LeaseSubmitter(self.home)
        return self._lease

    async def serve(self) -> None:
        """Serve until TERM, then drain."""
        self.loop = asyncio.get_running_loop()
        self.log = connlog.LineLog(self.loop)
        leave, self._empty = asyncio.Event(), asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(signum, leave.set)
        if self._lifeline is not None:
            self.loop.add_reader(self._lifeline, leave.set)
        self.loop.add_signal_handler(signal.SIGHUP, lambda: self.spawn(self._renew()))
        for listener in self._listeners:
            gate = self._gates.get(listener.profile) or Gate(self, listener.profile)
            self._gates[listener.profile] = gate
            gate.sockets.append(listener.sock)
        for gate in self._gates.values():
            await started(gate.plan)
            await gate.accept()
        sweeper = self.loop.create_task(self._sweep())
        await leave.wait()
        sweeper.cancel()
        if self._lifeline is not None:
            self.loop.remove_reader(self._lifeline)
        await self._leave()

    async def _renew(self) -> None:
        """HUP: read the site, and all that it names."""
        try:
            site = self.site()
        except ConfigError as error:
            self.log.remark(f"{error}; what was read before stays in force")
            return
        for gate in self._gates.values():
            await gate.renew(site)

    def retire(self, plan: Plan) -> None:
        """Stop a plan's plugins when its last session has ended."""
        self._retired.append(plan)

    def check_empty(self) -> None:
        """While the worker leaves: note that the last session has ended."""
        if self.is_leaving and not self._sessions():
            self._empty.set()

    def _sessions(self) -> list[Engine]:
        return [engine for gate in self._gates.values() for engine in gate.sessions]

    async def _sweep(self) -> None:
        """Look at the sessions' time limits, and at plans that nobody uses any more."""
        soonest, latest = SWEEP_SECONDS
        while True:
            left = min((engine.check_time() for engine in self._sessions()), default=math.inf)
            if self._retired:
                await self._stop_retired()
            await asyncio.sleep(min(max(left, soonest), latest))

    async def _stop_retired(self) -> None:
        used = {id(engine.smtp.service.plan) for engine in self._sessions() if engine.smtp is not None}
        for plan in [plan for plan in self._retired if id(plan) not in used]:
            self._retired.remove(plan)
            await stopped(plan)

    async def _leave(self) -> None:
        """End: no new clients, a last word to the idle ones, patience with the others."""
        self.is_leaving = True
        for gate in self._gates.values():
            gate.pause()
        for engine in self._sessions():
            if engine.smtp is not None:
                engine.smtp.go_down()
        self.check_empty()
        try:
            await asyncio.wait_for(self._empty.wait(), DRAIN_SECONDS)
        except TimeoutError:
            self.log.remark(f"{len(self._sessions())} sessions did not end in time")
        for engine in self._sessions():
            if engine.transport is not None:
                engine.transport.abort()
        for plan in [*self._retired, *(gate.plan for gate in self._gates.values())]:
            await stopped(plan)
        self.log.flush()


def compile_profile(home: Home, site: Site, name: str, log: connlog.LineLog) -> Plan:
    """Return the plan of a profile. Raises ConfigError."""
    if name not in site.profiles:
        return EMPTY
    from pluq.plan.compile import compile_plan

    return compile_plan(home, site, name, log=log.remark)


async def started(plan: Plan) -> None:
    if plan.start is not None:
        await plan.start()


async def stopped(plan: Plan) -> None:
    if plan.stop is not None:
        await plan.stop()


# -- processes


def worker_count(site: Site, listeners: Sequence[Listener]) -> int:
    """Return how many workers there are: what a profile asks for, else one for two processors (the queue needs the others)."""
    wanted = [site.profiles[one.profile].workers for one in listeners if one.profile in site.profiles]
    return max([count for count in wanted if count], default=max(1, (os.cpu_count() or 1) // 2))


def run(home: Home, listeners: Sequence[Listener]) -> int:
    """Serve until TERM. Raises ConfigError for what keeps it from beginning."""
    count = worker_count(read_site(home), listeners)
    if count == 1:
        serve(home, listeners)
    else:
        from pluq.smtpd.workers import run_workers

        run_workers([partial(serve, home, listeners, index, count) for index in range(count)])
    return 0


def serve(
    home: Home, listeners: Sequence[Listener], index: int = 0, count: int = 1, lifeline: int | None = None
) -> None:
    """Be one worker."""
    serve_worker(Worker(home, listeners, index, count, lifeline))


def serve_worker(worker: Worker) -> None:
    """Run a worker's event loop until TERM."""
    # Sessions leave no cycles behind: the collector has little to find, and need not walk through what was imported.
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 100)
    try:
        import uvloop
    except ImportError:
        asyncio.run(worker.serve())
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(worker.serve())
