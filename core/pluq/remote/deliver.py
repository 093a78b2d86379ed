"""One remote delivery, from an address to a report.

    envelope -> route -> addresses -> for each: (tcpto, policy, source) connect, greet, log in -> message -> report

`Deliverer` serves qmail-remote (`pool` None: one connection, HELO, QUIT, byte for byte qmail's) and the resident deliverer
(with a pool: connections are kept while a destination is busy). Every place where plugins have a say is guarded by one
attribute of the plan; with a plan, EHLO is said.

One host is enough: as soon as a connection stands, what that host says is the report, as in qmail. A connection that was kept
from an earlier message proves nothing about the host, so one that dies, or says 421, before the message was sent is replaced
by a fresh one. A message whose final dot was sent is never sent again here.

Source: qmail-remote(8), qmail-remote.c; docs/hooks.md.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from dataclasses import dataclass

from pluq.config.ipme import adjusted, my_addresses
from pluq.errors import ConfigError, TemporaryFailure
from pluq.hookspecs.context import Delivery
from pluq.hookspecs.message import Message
from pluq.hookspecs.verdicts import PLUGIN_FAILED, Accept, Defer, Disconnect, Reject, Verdict
from pluq.metrics import page
from pluq.plan import EMPTY, Plan
from pluq.remote import report
from pluq.remote.client import STEPS, Dialogue, State, is_unsafe, judge
from pluq.remote.connection import Connection, PeerLost
from pluq.remote.figures import Figures
from pluq.remote.letter import WHOLE_BYTES, Letter, wire_form
from pluq.remote.pool import Destination, Pool
from pluq.remote.route import Candidate, Lookup, Route, Undeliverable, find_candidates, without_ourselves
from pluq.remote.settings import RemoteSettings
from pluq.remote.tcpto import TcpTo
from pluq.wire.smtp import stuff_chunks

# Signs that this machine, not the other one, cannot open a connection now.
OUR_SHORTAGE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

# Interfaces seldom change, and the delivery after next will know.
OURSELVES_SECONDS = 10.0


class NextHost(Exception):
    """This host will not do; `record` is the report if there is no other."""

    def __init__(self, record: bytes) -> None:
        super().__init__(record)
        self.record = record


def heed(verdict: Verdict | None) -> bytes | None:
    """Return the record that a plugin's verdict ends the delivery with, None to go on.

    Reject, and Disconnect with a reply, end it; Defer, and Disconnect without one, raise NextHost. Texts may have several
    lines: they are for the bounce, not for the wire.
    """
    match verdict:
        case None | Accept():
            return None
        case Disconnect(reply=None):
            raise NextHost(report.NO_CONNECTION)
        case Reject() | Disconnect(reply=Reject()):
            return verdict_record(b"D", verdict)
        case Disconnect(reply=Defer()):
            return verdict_record(b"Z", verdict)
        case _:
            raise NextHost(verdict_record(b"Z", verdict))


def verdict_record(letter: bytes, verdict: Verdict) -> bytes:
    """Return a verdict in the form of a record: its text, then its enhanced code in qmail's form."""
    said = verdict.reply if isinstance(verdict, Disconnect) else verdict
    if not isinstance(said, (Reject, Defer)):
        return letter + b"A plugin gave a verdict that has no meaning here. (#4.3.5)\n"
    text = said.text.encode("utf-8", "surrogateescape") if isinstance(said.text, str) else said.text
    code = b"" if said.enhanced is None else b" (#%b)" % said.enhanced.encode("ascii", "replace")
    return letter + text.replace(b"\0", b"?").removesuffix(b"\n") + code + b"\n"


@dataclass(slots=True)
class Job:
    """One attempt: what is delivered, to whom, and where the pieces are. `host` is the domain that is looked up."""

    number: int
    sender: bytes
    recipients: list[bytes]
    host: bytes
    letter: Letter


Finish = Callable[[list[bytes]], None]


class Deliverer:
    """Delivers jobs. `settings` gives the control files as they stand; `resolver` is made when it is first needed."""

    def __init__(
        self,
        settings: Callable[[], RemoteSettings],
        resolver: Callable[[], Lookup],
        tcpto: TcpTo,
        plan: Plan = EMPTY,
        pool: Pool | None = None,
    ) -> None:
        self.settings = settings
        self.resolver = resolver
        self.tcpto = tcpto
        self.plan = plan
        self.pool = pool
        self._ourselves: tuple[float, frozenset[str]] = (-OURSELVES_SECONDS, frozenset())
        self._tasks: set[asyncio.Task[list[bytes]]] = set()
        mine = page()
        self._figures = None if mine is None else Figures(mine)

    def start(self, job: Job, finish: Finish) -> None:
        """Deliver without waiting for it; `finish` gets the records, once, and the letter is closed before."""
        if self.plan is not EMPTY or not self._start_on_kept(job, finish):
            self._start_task(job, finish)

    def _start_on_kept(self, job: Job, finish: Finish) -> bool:
        """The short way, without a task: give the job to a connection that waits. Return whether there was one."""
        if self.pool is None or is_unsafe(job.sender, *job.recipients):
            return False
        try:
            destination = self.pool.find(self.settings().routes.route(job.host))
        except ConfigError:
            return False
        connection = None if destination is None else self.pool.take(destination)
        if destination is None or connection is None:
            return False
        destination.begin(connection.now())

        def done(dialogue: Dialogue) -> None:
            self._release(connection, destination, dialogue)
            if dialogue.may_try_again:
                self._start_task(job, finish)
            else:
                job.letter.close()
                finish(dialogue.records)

        self._run(connection, job, job.letter.wire(), (), done)
        return True

    def _start_task(self, job: Job, finish: Finish) -> None:
        def ended(task: asyncio.Task[list[bytes]]) -> None:
            self._tasks.discard(task)
            job.letter.close()
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if error is None:
                finish(task.result())
                return
            # A fault of ours: it is logged with its traceback, and the message is kept.
            task.get_loop().call_exception_handler({"message": "a delivery failed", "exception": error})
            finish([report.OS_ERROR])

        task = asyncio.get_running_loop().create_task(self.deliver(job))
        self._tasks.add(task)
        task.add_done_callback(ended)

    async def deliver(self, job: Job) -> list[bytes]:
        """Return the records of one attempt, as qmail-remote would write them."""
        delivery = Delivery("remote", job.number, job.sender, job.recipients, job.host)
        if self.plan is not EMPTY:
            delivery.message = job.letter.message()
        try:
            records = await self._attempt(delivery, job)
        except Undeliverable as error:
            records = [error.record]
        except ConfigError:
            records = [report.BAD_CONTROLS]
        except TemporaryFailure as error:
            records = [verdict_record(b"Z", Defer(enhanced=error.enhanced, text=error.text))]
        return records if self.plan is EMPTY else await self._tell(delivery, records)

    async def _attempt(self, delivery: Delivery, job: Job) -> list[bytes]:
        settings = self.settings()
        envelope, edit = self.plan.remote_envelope, self.plan.remote_message
        if envelope is not None:
            await envelope(delivery=delivery)
            job.sender, job.recipients = delivery.sender, delivery.recipients
        if is_unsafe(job.sender, *job.recipients):
            return [report.BROKEN_ADDRESS]
        if edit is not None and delivery.message is not None:
            await edit(delivery=delivery, message=delivery.message)
        route = await self.route(delivery, settings)
        destination = None if self.pool is None else self.pool.begin(self._key(route, delivery))
        kept = await self._through_kept(destination, delivery, job)
        if kept is not None:
            return kept
        refusal = report.NO_CONNECTION
        for candidate in await self.candidates(route, delivery):
            try:
                connection = await self._connect(candidate, route, delivery, settings, destination)
            except NextHost as error:
                refusal = error.record
                continue
            if isinstance(connection, list):
                return connection
            refused = await self._refused(connection, destination, delivery)
            if refused is not None:
                return refused
            return (await self._send(connection, destination, delivery, job)).records
        return [refusal]

    async def route(self, delivery: Delivery, settings: RemoteSettings) -> Route:
        """Return where to look for hosts: what a plugin says, else smtproutes, else the domain."""
        chain = self.plan.remote_route
        if chain is not None:
            chosen = await chain(delivery=delivery)
            if isinstance(chosen, Route):
                return chosen
        return settings.routes.route(delivery.host)

    def _key(self, route: Route, delivery: Delivery) -> Hashable:
        """Return what a connection must have been made for, to carry this delivery."""
        if self.plan is EMPTY:
            return route
        # Plugins may have chosen source, login and TLS by the sender or by the domain.
        return route, delivery.host, delivery.sender

    async def candidates(self, route: Route, delivery: Delivery) -> list[Candidate]:
        """Return the addresses to try, in order, without what leads back here. Raises Undeliverable."""
        chain = self.plan.remote_addresses
        if chain is None:
            found = await find_candidates(route, self.resolver())
        else:

            async def more(host: bytes, addresses: list[str]) -> list[str]:
                return list(await chain(delivery=delivery, host=host, addresses=addresses))

            found = await find_candidates(route, self.resolver(), more)
        return found if route.relay else without_ourselves(found, self._my_addresses())

    def _my_addresses(self) -> Container[str]:
        now = time.monotonic()
        if now - self._ourselves[0] >= OURSELVES_SECONDS:
            try:
                self._ourselves = now, my_addresses()
            except OSError:
                raise Undeliverable(report.OS_ERROR) from None
        return adjusted(self._ourselves[1], self.settings().adjustments)

    # -- connecting

    async def _connect(
        self,
        candidate: Candidate,
        route: Route,
        delivery: Delivery,
        settings: RemoteSettings,
        destination: Destination | None,
    ) -> Connection | list[bytes]:
        """Return a connection that is ready for MAIL, or the records that end the delivery. Raises NextHost."""
        if self.tcpto.is_dead(candidate.address, time.time()):
            raise NextHost(report.NO_CONNECTION)
        policy, sources = self.plan.remote_policy, self.plan.remote_source
        if policy is not None:
            verdict = await policy(delivery=delivery, host=candidate.host, address=candidate.address)
            if (record := heed(verdict)) is not None:
                return [record]
        source: tuple[str, bytes | None] | None = None
        if sources is not None:
            source = await sources(delivery=delivery, address=candidate.address)
        records = await self._by_other_means(candidate, route, delivery, source[0] if source else None)
        if records is not None:
            return records
        connection = await self._open(candidate, route, settings, source[0] if source else None)
        helo = (source[1] if source else None) or settings.helohost
        busy = destination is not None and destination.is_busy(asyncio.get_running_loop().time())
        try:
            told = await self._introduce(connection, helo, delivery, extended=busy or self.plan is not EMPTY)
        except PeerLost:
            return [report.connection_died(connection.partner, critical=False)]
        except BaseException:
            connection.quit()
            raise
        if self._figures is not None:
            self._figures.opened(connection)
        return [told] if isinstance(told, bytes) else told

    async def _by_other_means(
        self, candidate: Candidate, route: Route, delivery: Delivery, source: str | None
    ) -> list[bytes] | None:
        """Return the records of a plugin that delivered by another protocol, None to go on with SMTP. Raises NextHost.

        Where plugins want a say in each session (TLS, logins), only a route that the administrator wrote goes round them.
        """
        chain, is_written = self.plan.remote_transport, route.protocol != "smtp"
        taken = None
        if chain is not None and (is_written or self.plan.remote_session is None):
            taken = await chain(delivery=delivery, route=route, candidate=candidate, source=source)
        if isinstance(taken, list):
            return taken
        if is_written or taken is not None:
            raise NextHost(report.NO_CONNECTION)
        return None

    async def _open(
        self, candidate: Candidate, route: Route, settings: RemoteSettings, source: str | None
    ) -> Connection:
        """Return an open connection and remember how the attempt ended. Raises NextHost, Undeliverable."""
        address = candidate.address
        try:
            connection = await Connection.open(
                address, candidate.host, route, source, settings.timeout_connect, settings.timeout_remote
            )
        except OSError as error:
            if error.errno in OUR_SHORTAGE:
                raise Undeliverable(report.OS_ERROR) from error
            self.tcpto.note(address, timed_out=isinstance(error, TimeoutError), now=time.time())
            raise NextHost(report.NO_CONNECTION) from error
        self.tcpto.note(address, timed_out=False, now=time.time())
        return connection

    async def _introduce(
        self, connection: Connection, helo: bytes, delivery: Delivery, extended: bool
    ) -> Connection | bytes:
        """Wait for the greeting and say hello; plugins may start TLS and log in. Raises NextHost, PeerLost."""
        record = judge(STEPS[State.GREETING], connection.partner, await connection.greet())
        if record is None:
            record = judge(STEPS[State.HELO], connection.partner, await connection.hello(helo, extended))
        chain = self.plan.remote_session
        if record is None and chain is not None:
            verdict = await chain(delivery=delivery, connection=connection)
            if connection.is_closed and verdict in (None, PLUGIN_FAILED):  # it could not know better
                raise PeerLost
            record = heed(verdict)
        if record is None:
            return connection
        connection.quit()
        return record

    # -- the message

    async def _through_kept(self, destination: Destination | None, delivery: Delivery, job: Job) -> list[bytes] | None:
        """Return the records of sending through a connection that waited; None if there was no good one."""
        if self.pool is None or destination is None:
            return None
        connection = self.pool.take(destination)
        if connection is None:
            return None
        refused = await self._refused(connection, destination, delivery)
        if refused is not None:
            return refused
        dialogue = await self._send(connection, destination, delivery, job)
        return None if dialogue.may_try_again else dialogue.records

    async def _refused(
        self, connection: Connection, destination: Destination | None, delivery: Delivery
    ) -> list[bytes] | None:
        """Ask whether a connection will do for this message; return the records that end the delivery, None to go on."""
        chain = self.plan.remote_mail
        if chain is None:
            return None
        try:
            record = heed(await chain(delivery=delivery, connection=connection))
        except NextHost as error:
            record = error.record
        if record is None:
            return None
        self._part(connection, destination)
        return [record]

    async def _send(
        self, connection: Connection, destination: Destination | None, delivery: Delivery, job: Job
    ) -> Dialogue:
        """Send the message through a connection that is ready for it, and return the dialogue at its end."""
        asked = self.plan.remote_params
        parameters: Sequence[bytes] = ()
        if asked is not None:
            parameters = await asked(delivery=delivery, connection=connection)
        body = job.letter.wire()
        if self.plan.remote_message is not None and delivery.message is not None:
            body = edited_body(delivery.message)
        ended: asyncio.Future[Dialogue] = asyncio.get_running_loop().create_future()

        def done(dialogue: Dialogue) -> None:
            self._release(connection, destination, dialogue)
            if not ended.cancelled():
                ended.set_result(dialogue)

        self._run(connection, job, body, parameters, done)
        return await ended

    def _run(
        self,
        connection: Connection,
        job: Job,
        body: bytes | Iterator[bytes],
        parameters: Sequence[bytes],
        done: Callable[[Dialogue], None],
    ) -> None:
        dialogue = Dialogue(
            connection.partner,
            job.sender,
            job.recipients,
            body,
            parameters=parameters,
            pipelining=connection.pipelining and self.pool is not None,
            reset=connection.reset_needed,
        )
        connection.run(dialogue, done, job.letter.size)

    def _release(self, connection: Connection, destination: Destination | None, dialogue: Dialogue) -> None:
        """Keep the connection or part from it."""
        if dialogue.in_message:
            connection.abort()
        else:
            self._part(connection, destination if dialogue.usable else None)

    def _part(self, connection: Connection, destination: Destination | None) -> None:
        """Keep a connection for other messages of its destination; without one, or without a pool, say goodbye."""
        if self.pool is not None and destination is not None:
            self.pool.give_back(destination, connection)
        else:
            connection.quit()

    async def _tell(self, delivery: Delivery, records: list[bytes]) -> list[bytes]:
        """Show the outcome to the plugins, who may change it; return the records as they are then."""
        fold, observe = self.plan.remote_outcome, self.plan.observe
        outcome, text = records[-1][:1].decode("ascii"), records[-1][1:]
        if fold is not None:
            try:
                outcome, text = await fold(delivery=delivery, outcome=outcome, text=text)
            except TemporaryFailure as error:
                outcome, text = "Z", error.text.encode() + b"\n"
        if observe is not None:
            observe(event={"event": "remote_delivery", "delivery": delivery, "outcome": outcome, "text": text})
        return [*records[:-1], outcome.encode("ascii") + text.replace(b"\0", b"?")]


def edited_body(message: Message) -> bytes | Iterator[bytes]:
    """Return the wire form of a message that plugins may have changed."""
    if message.size <= WHOLE_BYTES:
        return wire_form(message.as_bytes())
    return stuff_chunks(message.chunks())
