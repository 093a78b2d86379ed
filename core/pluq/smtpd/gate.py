"""The profiles of the resident SMTP server: what listen.gate needs to know of SMTP."""

from __future__ import annotations

import asyncio
from functools import cached_property

from pluq.hookspecs.context import Session
from pluq.listen.gate import Gate
from pluq.smtpd import replies
from pluq.smtpd.engine import Engine
from pluq.smtpd.policy import FILES, read_policy
from pluq.smtpd.session import Service
from pluq.smtpd.watch import Watch


class SmtpGate(Gate[Service, Engine]):
    """One SMTP profile in one worker."""

    role = "smtpd"
    files = FILES
    too_many = replies.TOO_MANY_CONNECTIONS
    trouble = replies.NO_CONTROLS

    def make_service(self) -> Service:
        worker = self.worker
        policy = read_policy(worker.home)
        return Service(policy, self.plan, worker.submitter, self.log.remark, self.name, watch=self._watch)

    @cached_property
    def _watch(self) -> Watch | None:
        return Watch.of(self.name, self.log.write)

    def host(self, service: Service) -> bytes | None:
        return service.policy.me

    def connection(self) -> Engine:
        return Engine(self.worker.loop, self)

    def admit(self, engine: Engine, transport: asyncio.Transport) -> tuple[Service, Session] | None:
        service = self.service()
        session = self.arrive(engine, service, transport)
        return None if session is None else (service, session)

    def ended(self, engine: Engine) -> None:
        assert engine.smtp is not None
        self.leave(engine, 0 if engine.smtp.ended == "quit" else 1)
