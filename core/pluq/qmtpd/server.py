"""The resident QMTP and QMQP servers (ports 209 and 628), as profiles with `protocol = "qmtp"` or `"qmqp"`.

    run(home, listeners)     blocks until TERM

Sessions are those of qmail-qmtpd and qmail-qmqpd, and have an hour like those. Rules (control/tcp.qmtp, control/tcp.qmqp), limits and
log lines are as for SMTP; see pluq.listen. A client that has too many connections is dropped without a word: there is none in
these protocols. A QMQP client may send anything to anybody, so without rules nobody may connect.

Source: qmail-qmtpd(8), qmail-qmqpd(8).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pluq.config.home import Home
from pluq.config.site import read_site
from pluq.errors import ClientGone
from pluq.hookspecs.context import Session
from pluq.listen import worker
from pluq.listen.gate import Gate
from pluq.listen.stream import GONE, Stream
from pluq.listen.worker import Listener, Worker
from pluq.qmtpd import qmqp
from pluq.qmtpd.blocking import SESSION_SECONDS
from pluq.qmtpd.intake import Client
from pluq.qmtpd.qmtp import Controls, QmtpSession, read_controls
from pluq.qmtpd.reader import EndOfInput

__all__ = ["Listener", "run"]

ROLE = "qmtpd"


@dataclass(frozen=True)
class Service:
    """What the connections of a profile share."""

    me: bytes | None
    controls: Controls
    local_dates: bool


class QmtpConnection(Stream):
    """A client that sends packages."""

    service: Service
    _session: QmtpSession | None = None

    @property
    def is_idle(self) -> bool:
        return self._session is None or not self._session.is_busy

    async def converse(self, session: Session) -> int:
        self.deadline = self.loop.time() + SESSION_SECONDS
        policy = self.service.controls.of(session.environment)
        submitter = self.gate.worker.submitter(session.environment)
        self._session = QmtpSession(policy, client_of(session, self.service), submitter, self.read, self.write, now)
        try:
            await self._session.serve()
        except EndOfInput as error:
            raise ClientGone(str(error)) from error
        return GONE

    def go_down(self) -> None:
        if self._session is not None:
            self._session.is_leaving = True
        super().go_down()


class QmqpConnection(Stream):
    """A client that hands in one message."""

    service: Service

    @property
    def is_idle(self) -> bool:
        return not self.has_received

    async def converse(self, session: Session) -> int:
        self.deadline = self.loop.time() + SESSION_SECONDS
        submitter = self.gate.worker.submitter(session.environment)
        try:
            answer = await qmqp.serve(client_of(session, self.service), submitter, self.read, now)
        except EndOfInput as error:
            raise ClientGone(str(error)) from error
        await self.write(answer)
        return GONE


def client_of(session: Session, service: Service) -> Client:
    environment = {os.fsencode(name): os.fsencode(value) for name, value in session.environment.items()}
    return Client(environment, service.local_dates)


def now() -> int:
    return int(time.time())


class QmtpGate(Gate[Service, Stream]):
    """One QMTP profile in one worker."""

    role = ROLE
    files = ("me", "rcpthosts", "morercpthosts.cdb", "databytes")

    def make_service(self) -> Service:
        home = self.worker.home
        return Service(home.controls.me(), read_controls(home), home.local_dates)

    def host(self, service: Service) -> bytes | None:
        return service.me

    def connection(self) -> Stream:
        return QmtpConnection(self)


class QmqpGate(QmtpGate):
    """One QMQP profile in one worker."""

    trusts = True

    def connection(self) -> Stream:
        return QmqpConnection(self)


def run(home: Home, listeners: Sequence[Listener]) -> int:
    """Serve until TERM. Raises ConfigError for what keeps it from beginning."""
    profiles = read_site(home).profiles
    gates = {"qmtp": QmtpGate, "qmqp": QmqpGate}

    def make_gate(one: Worker, name: str) -> QmtpGate:
        return gates[profiles[name].protocol](one, name)

    return worker.run(home, listeners, ROLE, make_gate)
