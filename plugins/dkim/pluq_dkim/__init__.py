"""dkim: who answers for this message? Verify the signatures of what comes in, sign what goes out.

Verify: in a profile, for clients that may neither relay nor have logged in. The results stand in Authentication-Results and in the
transaction, for DMARC. Nothing is refused unless the site says so: `fail`, or the letters of qmail-dkim in `letters` (DKIMVERIFY).

Sign: in a profile, what clients send that may relay or have logged in; in [remote], at delivery, what is written by this site. A message
that only passes through (it went through a mailbox here, or a profile found its client to be a stranger) never gets the signature of the domain
that its From claims: that would turn forgeries into proofs.

verify     the whole of verifying            judge      what is refused
options    DKIMSIGNOPTIONS and key lists     sign       making signatures
signing    who signs                         settings   the settings
commands   keygen, check

Signatures, keys and canonical forms are in pluq.signatures.

Source: RFC 6376, RFC 8301, RFC 8463; qmail-dkim(8).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pluq import AuthResult, Delivery, Message, Plugin, Session, Transaction, Verdict, hook
from pluq.errors import ConfigError
from pluq.hookspecs.plugin import Command, DnsRecord
from pluq_dkim.settings import Settings

if TYPE_CHECKING:
    from pluq.signatures.finding import Finding
    from pluq.signatures.keys import KeyRing


class Dkim(Plugin[Settings]):
    """Verify DKIM signatures of incoming mail, sign outgoing mail (RFC 6376)."""

    name = "dkim"
    budget = 30.0
    clock: Callable[[], float] = staticmethod(time.time)
    _ring: KeyRing | None = None

    @classmethod
    def cli_commands(cls) -> Mapping[str, Command]:
        from pluq_dkim.commands import check, keygen

        return {"keygen": keygen, "check": check}

    def dns_records(self, domain: str) -> Sequence[DnsRecord]:
        if self.settings.sign == "none":
            return ()
        from pluq_dkim.commands import published_keys

        return published_keys(domain, self.resolved, self.ring, self.context.home)

    @hook
    def check(self) -> Sequence[str]:
        from pluq_dkim.signing import faults

        return faults(self.settings, self.context.home, self.ring)

    # -- verifying

    @hook
    async def message_verify(
        self, session: Session, transaction: Transaction, message: Message
    ) -> Sequence[AuthResult] | None:
        settings = self.settings_for(session)
        if not settings.verify or session.may_relay or session.login is not None:
            return None
        from pluq_dkim.judge import as_result
        from pluq_dkim.verify import Policy, verify_message

        policy = Policy(settings.max_signatures, settings.honor_body_length, not settings.unsigned_subject)
        findings = await verify_message(message, self.context.resolver(), policy, self.clock(), transaction.dns_budget)
        transaction.notes[self.name] = findings
        return [as_result(one) for one in findings] or [AuthResult("dkim", "none")]

    @hook
    def message_decide(self, session: Session, transaction: Transaction, message: Message) -> Verdict | None:
        findings: list[Finding] | None = transaction.notes.get(self.name)
        if findings is None:
            return None
        from pluq_dkim.judge import verdict

        return verdict(findings, message.fields, self.settings_for(session))

    @hook
    def message_edit(self, session: Session, transaction: Transaction, message: Message) -> None:
        """Write DKIM-Status as qmail-dkim does, where filters of the site look for it."""
        findings: list[Finding] | None = transaction.notes.get(self.name)
        if findings is None or not self.settings.status_field:
            return
        from pluq_dkim.judge import status_field

        message.remove(lambda field: field.name == b"dkim-status")
        message.prepend(status_field(findings, message.fields))

    # -- signing

    @hook
    async def message_sign(self, session: Session, transaction: Transaction, message: Message) -> None:
        settings = self.settings_for(session)
        trusted = session.may_relay or session.login is not None
        if settings.sign == "none" or (settings.sign == "relay" and not trusted):
            return
        from pluq_dkim.signing import own_domains

        await self.sign(message, own_domains(message, transaction.sender, settings), session.environment)

    @hook
    async def remote_message(self, delivery: Delivery, message: Message) -> None:
        if self.settings.sign == "none":
            return
        from pluq_dkim.signing import domains_of_delivery, filter_variables

        environment: dict[str, str] = dict(os.environ)
        variables = filter_variables(self.settings.filterargs, delivery)
        if variables is None:
            return
        environment.update(variables)
        settings = self.resolved.overlay(environment)[0]
        domains = domains_of_delivery(message, delivery.sender, settings, self.context.authserv_id)
        await self.sign(message, domains, environment)

    async def sign(self, message: Message, domains: Sequence[str], environment: Mapping[str, str]) -> None:
        """Put the signatures of the first of these domains that has a key on top of the message."""
        from pluq_dkim.signing import find_signers, signatures

        try:
            signers = find_signers(domains, environment, self.resolved, self.ring, self.context.home)
            for field in await signatures(message, signers, int(self.clock())):
                message.prepend(field)
        except ConfigError as error:
            if self.settings.unusable_key == "defer":
                raise
            self.log(f"not signed: {error}")

    @property
    def ring(self) -> KeyRing:
        if self._ring is None:
            from pluq.signatures.keys import KeyRing

            self._ring = KeyRing(self.context.read_file)
        return self._ring
