"""The processes of a resident server on listening sockets that somebody else has bound.

    run(home, listeners, role, make_gate)     blocks until TERM; forks more workers where a profile asks for them

A worker is one event loop (uvloop where it is installed) that serves each listener by the Gate of its protocol.

TERM   no new connections; sessions between messages are ended, the others end their message; out within DRAIN_SECONDS
QUIT   others listen in our place: the ports are let go, and each session comes to its own end
HUP    plugins, rules and control files are read anew; what cannot be used is logged and the old goes on. Sessions keep theirs

Control files and rules are also read anew when they change. There are no look-ups of names: rules of the form =host do not match,
and Received says "from unknown", as with tcpserver -H.

Source: tcpserver(1).
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pluq import pulse
from pluq.config.home import Home
from pluq.config.site import STOCK, Site, read_site
from pluq.errors import ConfigError
from pluq.listen import connlog
from pluq.listen.gate import Connection, Gate, start_plan, stop_plan
from pluq.metrics import take
from pluq.plan import Plan
from pluq.queue.submit import PluginSubmitter, ProgramSubmitter, open_by_plugin

if TYPE_CHECKING:
    from pluq.queue.lease_client import LeaseSubmitter
    from pluq.queue.submit import Submitter

# The supervisor kills after 8 seconds.
DRAIN_SECONDS = 7.0
# How often the sessions' time limits are looked at, at least and at most.
SWEEP_SECONDS = (0.25, 5.0)
# New objects before the collector looks at them.
GC_THRESHOLD = 10_000


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket and the profile of control/pluq.toml that it serves. A home without that file has only `stock`."""

    sock: socket.socket
    profile: str = STOCK


MakeGate = Callable[["Worker", str], Gate[Any, Any]]
"""Makes the gate of a profile, by its name."""


class Worker:
    """One event loop that serves all listeners, until TERM."""

    def __init__(
        self,
        home: Home,
        listeners: Sequence[Listener],
        role: str,
        make_gate: MakeGate,
        index: int = 0,
        count: int = 1,
        lifeline: int | None = None,
    ) -> None:
        """`lifeline` is a descriptor that ends with the parent, of which there are `count` workers."""
        self.home = home
        self.role = role
        self._make_gate = make_gate
        self.count = count
        self.is_leaving = False
        self._listeners = listeners
        self._index = index
        self._lifeline = lifeline
        self._connections = 0
        self._lease: LeaseSubmitter | None = None
        self._queue_has_plugins = False
        self._is_program_named = "QMAILQUEUE" in os.environ
        self._gates: dict[str, Gate[Any, Any]] = {}
        self._retired: list[Plan] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def next_number(self) -> int:
        self._connections += 1
        return self._connections * self.count + self._index

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def submitter(self, environment: Mapping[str, str]) -> Submitter:
        """Return the way to the queue: the program that QMAILQUEUE names, else the daemon."""
        begun = open_by_plugin(self.home, {**os.environ, **environment}) if self._queue_has_plugins else None
        if begun is not None:
            return PluginSubmitter(begun)
        if self._is_program_named or "QMAILQUEUE" in environment:
            return ProgramSubmitter(self.home, {**os.environ, **environment})
        if self._lease is None:
            from pluq.queue.lease_client import LeaseSubmitter

            self._lease = LeaseSubmitter(self.home)
        if not self._queue_has_plugins:
            return self._lease
        from pluq.queue.plugins import EditedSubmitter

        return EditedSubmitter(self._lease, self.home, {**os.environ, **environment})

    async def serve(self) -> None:
        """Serve until TERM, then drain."""
        self.loop = asyncio.get_running_loop()
        self._queue_has_plugins = bool(read_site(self.home).role("queue").plugins)
        take(self._index)
        self.log = connlog.LineLog(self.loop, self.role)
        leave, self._empty = asyncio.Event(), asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(signum, leave.set)
        if self._lifeline is not None:
            self.loop.add_reader(self._lifeline, leave.set)
        self.loop.add_signal_handler(signal.SIGQUIT, self._let_go, leave)
        self.loop.add_signal_handler(signal.SIGHUP, lambda: self.spawn(self._renew()))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # the supervisor had it wait for this
        for listener in self._listeners:
            gate = self._gates.get(listener.profile) or self._make_gate(self, listener.profile)
            self._gates[listener.profile] = gate
            gate.sockets.append(listener.sock)
        for gate in self._gates.values():
            await start_plan(gate.plan)
            await gate.accept()
        pulse.keep(self.loop)
        sweeper = self.loop.create_task(self._sweep())
        await leave.wait()
        sweeper.cancel()
        if self._lifeline is not None:
            self.loop.remove_reader(self._lifeline)
        await self._leave()

    def _let_go(self, leave: asyncio.Event) -> None:
        """QUIT: listen no more, and leave when the last session has ended."""
        self.is_leaving = True
        for gate in self._gates.values():
            gate.let_go()
        self.spawn(self._leave_when_empty(leave))
        # Not at once: a connection may just have been accepted.
        self.loop.call_soon(self.check_empty)

    async def _leave_when_empty(self, leave: asyncio.Event) -> None:
        await self._empty.wait()
        leave.set()

    async def _renew(self) -> None:
        """HUP: read the site, and all that it names."""
        try:
            site = read_site(self.home)
        except ConfigError as error:
            self.log.remark(f"{error}; what was read before stays in force")
            return
        self._queue_has_plugins = bool(site.role("queue").plugins)
        for gate in self._gates.values():
            await gate.renew(site)

    def retire(self, plan: Plan) -> None:
        """Stop a plan's plugins when its last session has ended."""
        self._retired.append(plan)

    def check_empty(self) -> None:
        """While the worker leaves: note that the last session has ended."""
        if self.is_leaving and not self._sessions():
            self._empty.set()

    def _sessions(self) -> list[Connection]:
        return [connection for gate in self._gates.values() for connection in gate.sessions]

    async def _sweep(self) -> None:
        """Look at the sessions' time limits, and at plans that nobody uses any more."""
        soonest, latest = SWEEP_SECONDS
        while True:
            left = min((connection.check_time() for connection in self._sessions()), default=math.inf)
            if self._retired:
                await self._stop_retired()
            await asyncio.sleep(min(max(left, soonest), latest))

    async def _stop_retired(self) -> None:
        used = {id(connection.plan) for connection in self._sessions()}
        for plan in [plan for plan in self._retired if id(plan) not in used]:
            self._retired.remove(plan)
            await stop_plan(plan)

    async def _leave(self) -> None:
        """End: no new clients, a last word to the idle ones, patience with the others."""
        self.is_leaving = True
        for gate in self._gates.values():
            gate.pause()
        for connection in self._sessions():
            connection.go_down()
        self.check_empty()
        try:
            await asyncio.wait_for(self._empty.wait(), DRAIN_SECONDS)
        except TimeoutError:
            self.log.remark(f"{len(self._sessions())} sessions did not end in time")
        for connection in self._sessions():
            if connection.transport is not None:
                connection.transport.abort()
        for plan in [*self._retired, *(gate.plan for gate in self._gates.values())]:
            await stop_plan(plan)
        self.log.flush()


# -- processes


def worker_count(site: Site, profiles: Iterable[str]) -> int:
    """Return how many workers serve these profiles: what one of them asks for, else one for two processors (the queue needs the others)."""
    wanted = [site.profiles[name].workers for name in profiles if name in site.profiles]
    return max([count for count in wanted if count], default=max(1, (os.cpu_count() or 1) // 2))


def run(home: Home, listeners: Sequence[Listener], role: str, make_gate: MakeGate) -> int:
    """Serve until TERM. Raises ConfigError for what keeps it from beginning."""
    site = read_site(home)
    count = worker_count(site, [one.profile for one in listeners])

    def serve(index: int, lifeline: int | None = None) -> None:
        serve_worker(Worker(home, listeners, role, make_gate, index, count, lifeline))

    if count == 1:
        serve(0)
    else:
        from pluq.listen.workers import Workers

        def let_go() -> None:
            for listener in listeners:
                listener.sock.close()

        Workers([partial(serve, index) for index in range(count)], let_go, role, site.core.memory_bytes).run()
    return 0


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
