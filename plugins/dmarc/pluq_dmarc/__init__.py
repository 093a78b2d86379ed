"""dmarc: does the author's domain stand behind this message, and what does it want done if not?

The plugins spf and dkim must be in the same profile: DMARC only compares what they found with the domains in From. The outcome is in
Authentication-Results; by default that is all. `on_reject`, `on_quarantine` and `on_none` say what is done with mail that fails where the
domain's policy is that word:

    note         nothing       quarantine   add X-DMARC-Quarantine       reject   550 at the end of the message

Clients that may relay or have logged in are not looked at. A failing DNS never refuses for good: where a fail would have been refused,
the client is asked to come back. Without results of both SPF and DKIM nothing can fail.

author     the domains in From            record     policy records
discover   policies, organizations        evaluate   alignment
forwarders who is trusted                 commands   check

Source: RFC 9989 (which replaces RFC 7489 and 9091).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pluq import AuthResult, Defer, Message, Plugin, Reject, Session, Transaction, Verdict, hook, setting
from pluq.hookspecs.plugin import Command

if TYPE_CHECKING:
    from pluq_dmarc.evaluate import Finding

QUARANTINE = b"x-dmarc-quarantine"
METHODS = {"spf", "dkim"}
PROOFS = METHODS | {"arc"}

SEVERITY = ("note", "quarantine", "reject")


@dataclass(frozen=True)
class Settings:
    on_reject: Literal["note", "quarantine", "reject"] = setting(
        "note", help="What to do with mail that fails where the policy is p=reject."
    )
    on_quarantine: Literal["note", "quarantine", "reject"] = setting(
        "note", help="What to do with mail that fails where the policy is p=quarantine."
    )
    on_none: Literal["note", "quarantine", "reject"] = setting(
        "note", help="What to do with mail that fails where the policy is p=none."
    )
    trusted_forwarders: tuple[str, ...] = setting(
        (),
        help="Addresses, networks, and domains (proved by SPF, DKIM or ARC) whose mail is noted and never refused.",
    )

    def action(self, policy: str) -> str:
        """Return what to do with a failure. Where the policy is not known the strictest is assumed."""
        actions = {"none": self.on_none, "quarantine": self.on_quarantine, "reject": self.on_reject}
        return actions.get(policy, self.on_reject)


class Dmarc(Plugin[Settings]):
    """Compare the author's domain with what SPF and DKIM found, and follow its policy (RFC 9989)."""

    name = "dmarc"
    budget = 30.0
    _is_incomplete_logged = False

    @classmethod
    def cli_commands(cls) -> Mapping[str, Command]:
        from pluq_dmarc.commands import check

        return {"check": check}

    @hook
    def check(self) -> Sequence[str]:
        from pluq_dmarc.forwarders import parse

        _, _, wrong = parse(self.settings.trusted_forwarders)
        return [f"dmarc.trusted_forwarders: {entry!r} is no address, network or domain" for entry in wrong]

    @hook
    async def message_decide(self, session: Session, transaction: Transaction, message: Message) -> Verdict | None:
        """Judge here and not in message_verify: only now the results of the other plugins are complete."""
        if session.may_relay or session.login is not None or not transaction.results:
            return None
        findings = await self.judge(transaction, message)
        if not METHODS.issubset(one.method for one in transaction.results):
            self.note_incomplete()
            findings = [one for one in findings if one.result in ("pass", "none")]
        settings = self.settings_for(session)
        if self.is_trusted(session, transaction.results, settings):
            transaction.results += [one.excused() for one in findings]
            return None
        transaction.results += [one.as_result() for one in findings]
        return self.verdict(findings, transaction, settings)

    async def judge(self, transaction: Transaction, message: Message) -> list[Finding]:
        """Return a finding for each author, and one for an author that cannot be read, or may stand where we do not look."""
        from pluq.hookspecs.message import MAX_HEADER_BYTES
        from pluq_dmarc.author import authors
        from pluq_dmarc.discover import Finder
        from pluq_dmarc.evaluate import Finding, evaluate, identifiers

        found = authors(message.open().read(message.header_size))
        finder = Finder(self.context.resolver(), transaction.dns_budget)
        known = identifiers(transaction.results)
        findings = [await evaluate(author, known, finder) for author in found.domains]
        if not found.is_clear or message.header_size >= MAX_HEADER_BYTES:
            findings.append(Finding("", "permerror", reason="an author whose domain cannot be read"))
        return findings or [Finding("", "none", reason="no author with a domain")]

    def verdict(self, findings: Sequence[Finding], transaction: Transaction, settings: Settings) -> Verdict | None:
        """Return the refusal that the strictest of the findings leads to."""
        failed = [one for one in findings if one.result in ("fail", "permerror")]
        worst = max(failed, key=lambda one: SEVERITY.index(settings.action(one.policy)), default=None)
        if worst is not None and settings.action(worst.policy) == "reject":
            return Reject(550, "5.7.1", refusal_text(worst))
        if any(one.result == "temperror" and settings.action(one.policy) == "reject" for one in findings):
            return Defer(451, "4.7.0", "DMARC lookup failure, try again later")
        if worst is not None and settings.action(worst.policy) == "quarantine":
            transaction.notes[self.name] = worst.domain or "unknown"
        return None

    @hook
    def message_edit(self, session: Session, transaction: Transaction, message: Message) -> None:
        """Mark what is suspicious, for filters of the site; nobody else may."""
        message.remove(lambda field: field.name == QUARANTINE)
        domain: str | None = transaction.notes.get(self.name)
        if domain is not None:
            message.prepend(b"X-DMARC-Quarantine: " + domain.encode("ascii"))

    def is_trusted(self, session: Session, results: Sequence[AuthResult], settings: Settings) -> bool:
        if not settings.trusted_forwarders:
            return False
        from pluq_dmarc.forwarders import is_trusted

        # arc=pass: the domain has sealed an unbroken chain. Whether its word counts is what the setting says.
        passed = [one.domain.lower() for one in results if one.method in PROOFS and one.result == "pass"]
        return is_trusted(settings.trusted_forwarders, session.remote_ip, passed)

    def note_incomplete(self) -> None:
        if not self._is_incomplete_logged:
            self._is_incomplete_logged = True
            self.log("nothing can fail: the profile needs results of spf (spf.behavior of 1 or more) and of dkim")


def refusal_text(finding: Finding) -> str:
    if not finding.domain:
        return "the From field has an author whose domain cannot be read"
    return f"rejected by the DMARC policy of {finding.domain}: neither SPF nor DKIM speak for it"
