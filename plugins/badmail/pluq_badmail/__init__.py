"""badmail: who is refused by the name they give, the sender they claim, the recipient they ask for.

Six lists in control: badhelo, badmailfrom, badrcptto (or badmailto), and the same with "norelay", which do not concern clients that
may relay. Verdicts are taken when the name or address comes and all answered at RCPT, where a mail server has a recipient to put
in its log; among them the relay test comes first, then HELO, sender, and the recipient where rcpthosts lets it in.

The lists are read when the profile starts and again at a reload. With mfcheck the sender's domain must exist too: answered at MAIL,
for clients that may not relay; what DNS cannot tell now is temporary.

Source: the qregex patch, the mfcheck patch, the wildcard patch of badmailfrom; reference replies of patched qmail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pluq import Defer, Disconnect, Plugin, Recipient, Reject, Session, Transaction, Verdict, hook, setting
from pluq.config.settings import switch
from pluq.dns import Budget, Resolver, Status
from pluq.errors import TemporaryFailure
from pluq.store.control import read_lines
from pluq_badmail.patterns import PlainList, Rules

BAD_HELO = Reject(553, "5.7.1", "sorry, your HELO host name has been denied")
BAD_SENDER = Reject(553, "5.7.1", "sorry, your envelope sender has been denied")
BAD_RECIPIENT = Reject(553, "5.7.1", "sorry, your envelope recipient has been denied")
NO_RELAY = Reject(553, "5.7.1", "we don't relay")
NO_NULL_SENDER = Disconnect(Defer(421, "4.3.0", "null senders temporarily denied"))

NO_SUCH_DOMAIN = Reject(553, "5.7.1", "sorry, your envelope sender domain must exist")
NO_DNS = Defer(451, "4.3.0", "DNS temporary failure")
# Of mfcheck: from which value on domains that fail, and those that pass, are logged.
LOG_FAILURES, LOG_ALL = 2, 3

HELO_LISTS = ("badhelo",)
SENDER_LISTS = ("badmailfrom",)
RECIPIENT_LISTS = ("badrcptto", "badmailto")
NAMES = {
    "badhelo": "badhelonorelay",
    "badmailfrom": "badmailfromnorelay",
    "badrcptto": "badrcpttonorelay",
    "badmailto": "badmailtonorelay",
}

Matcher = Rules | PlainList


def is_set(text: str) -> bool:
    """A variable that is there switches on, whatever it holds."""
    return True


@dataclass(frozen=True)
class Settings:
    match: Literal["regex", "plain"] = setting(
        "regex",
        help="How lines are read: regular expressions (the qregex patch), or plain entries as stock qmail reads badmailfrom.",
    )
    rejectrelaytest: bool = switch(
        False, control="rejectrelaytest", env="RELAYREJ", help="Refuse recipients whose local part holds @, % or !."
    )
    rejectnullsenders: bool = switch(
        False,
        control="rejectnullsenders",
        env="REJECTNULLSENDERS",
        help="Turn away, for now, every message without a sender.",
    )
    ignore_senders: bool = setting(
        False, env="DISABLE_BADMAILFROM", parse_env=is_set, help="Do not look at the lists of senders."
    )
    mfcheck: int = setting(
        0,
        control="mfcheck",
        env="MFCHECK",
        help="Refuse senders whose domain has neither MX nor address; 2: and log them, 3: and log those that have.",
    )


class BadMail(Plugin[Settings]):
    """Refuse by HELO name, sender or recipient: exact, wildcard, or regular expressions with `!`."""

    name = "badmail"

    def __init__(self) -> None:
        self.lists: dict[str, Matcher] = {}

    @hook
    def check(self) -> Sequence[str]:
        """Name every line that is no regular expression."""
        return [
            f"{self.context.home.control(name)}: {rule.line.decode('utf-8', 'replace')!r}: {rule.fault}"
            for name, rules in self.load().items()
            if isinstance(rules, Rules)
            for rule in rules.rules
            if rule.fault
        ]

    @hook
    def start(self) -> None:
        self.lists = self.load()

    def load(self) -> dict[str, Matcher]:
        """Return every list; an absent file is an empty one. Raises ConfigError for one that cannot be read."""
        make: Callable[[list[bytes]], Matcher] = Rules.of if self.settings.match == "regex" else PlainList.of
        names = [name for pair in NAMES.items() for name in pair]
        return {name: make(read_lines(self.context.home.control(name)) or []) for name in names}

    @hook
    async def smtp_mail(self, session: Session, transaction: Transaction) -> Verdict | None:
        settings = self.settings_for(session)
        # Else qmail's own reading of badmailfrom stands.
        transaction.is_sender_judged = settings.match == "regex" and not self.is_shadow
        if not transaction.sender:
            return NO_NULL_SENDER if settings.rejectnullsenders else None
        if settings.mfcheck and not session.may_relay and not transaction.is_sender_vouched:
            _, at, domain = transaction.sender.rpartition(b"@")
            return await self.check_domain(domain, settings.mfcheck, transaction.dns_budget) if at else None
        return None

    async def check_domain(self, domain: bytes, level: int, budget: Budget) -> Verdict | None:
        """Refuse a sender's domain that takes no mail."""
        if not domain or domain.startswith(b"["):
            return None
        try:
            found = await takes_mail(self.context.resolver(), domain, budget)
        except TemporaryFailure as failure:
            self.log(f"mfcheck: {domain!r}: {failure}")
            return NO_DNS
        if level >= (LOG_ALL if found else LOG_FAILURES):
            self.log(f"mfcheck: {domain!r} {'exists' if found else 'does not exist'}")
        return None if found else NO_SUCH_DOMAIN

    @hook
    def smtp_rcpt(self, session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
        if self.settings_for(session).rejectrelaytest and is_relay_test(recipient.address):
            return NO_RELAY
        if not session.is_helo_vouched and session.helo is not None and self.refused(session, HELO_LISTS, session.helo):
            return BAD_HELO
        is_exempt = transaction.is_sender_vouched or self.settings_for(session).ignore_senders
        sender = b"" if is_exempt else transaction.sender
        if sender and self.refused(session, SENDER_LISTS, sender):
            return BAD_SENDER
        return None

    @hook
    def smtp_rcpt_allowed(self, session: Session, recipient: Recipient) -> Verdict | None:
        if recipient.is_vouched:
            return None
        if self.refused(session, RECIPIENT_LISTS, recipient.address + (session.relay_suffix or b"")):
            session.bad_recipients += 1
            return BAD_RECIPIENT
        return None

    def refused(self, session: Session, names: Sequence[str], text: bytes) -> bool:
        """Return whether a list refuses `text`, and log which line did."""
        for name in names:
            for one in (name,) if session.may_relay else (name, NAMES[name]):
                line = self.lists[one].refusing(text)
                if line is not None:
                    self.log(f"{one}: {text!r} from {session.remote_ip} matches {line!r}")
                    return True
        return False


def is_relay_test(address: bytes) -> bool:
    """Return whether the local part, or an address that is nothing else, asks to be sent on: joe%elsewhere, elsewhere!joe, "joe@elsewhere"."""
    local, at, rest = address.rpartition(b"@")
    return any(mark in (local if at else rest) for mark in (b"@", b"%", b"!"))


async def takes_mail(resolver: Resolver, domain: bytes, budget: Budget) -> bool:
    """Return whether a domain names hosts for its mail, or is one (RFC 5321 section 5.1). Raises TemporaryFailure."""
    mx = await resolver.lookup(domain, "MX", budget)
    if mx.status is Status.FOUND:
        # A null MX says that there is no mail (RFC 7505).
        return any(record.host for record in mx.records)
    if mx.status is Status.NO_DATA:
        for rdtype in ("A", "AAAA"):
            if (await resolver.lookup(domain, rdtype, budget)).status is Status.FOUND:
                return True
    return False
