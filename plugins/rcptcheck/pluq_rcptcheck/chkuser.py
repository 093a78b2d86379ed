"""chkuser: the checks and the words of the chkuser patch, for sites whose rules switch it on.

    CHKUSER_START               ALWAYS; DOMAIN: only domains whose .qmail-default says bounce-no-mailbox; NONE, or unset: off
    CHKUSER_DISABLE_VARIABLE    the name of a variable that switches everything off where it is there (RELAYCLIENT)
    CHKUSER_SENDER_NOCHECK_VARIABLE     the same for the checks of the sender
    CHKUSER_RCPTLIMIT           recipients of one session          CHKUSER_WRONGRCPTLIMIT      of them that may be wrong
    CHKUSER_MUSTAUTH            only who may relay or has logged in may send
    CHKUSER_SENDER_FORMAT_NOCHECK CHKUSER_SENDER_MX_NOCHECK CHKUSER_RCPT_FORMAT_NOCHECK CHKUSER_RCPT_MX_NOCHECK
    CHKUSER_DOUBLEBOUNCE        the sender #@[] is taken

At MAIL the sender's form and domain; at RCPT who may send, the limits, the form; after rcpthosts whether there is such a mailbox. A wrong
recipient costs a second, and 300 ms more each time. DNS and accounts in trouble are temporary.

Not done: CHKUSER_MBXQUOTA (a full mailbox is the quota's answer), CHKUSER_IDENTIFY (the log names the profile).

Source: chkuser 2.0.9.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pluq import Defer, Recipient, Reject, Session, Transaction, Verdict
from pluq.dns import Budget, Resolver, Status
from pluq.errors import TemporaryFailure
from pluq_rcptcheck.existence import Existence, Found

BAD_SENDER = Reject(553, None, "5.1.7 sorry, sender syntax not allowed (chkuser)")
NO_SENDER_MX = Reject(550, None, "5.1.8 sorry, can't find a valid MX for sender domain (chkuser)")
BAD_RECIPIENT = Reject(553, None, "5.1.3 sorry, rcpt syntax not allowed (chkuser)")
NO_RECIPIENT_MX = Reject(550, None, "5.1.2 sorry, can't find a valid MX for rcpt domain (chkuser)")
NO_DOMAIN = Reject(550, None, "5.1.2 sorry, you must specify a domain (chkuser)")
NO_MAILBOX = Reject(550, None, "5.1.1 sorry, no mailbox here by that name (chkuser)")
NOT_OURS = Reject(553, None, "5.7.1 sorry, that domain isn't in my list of allowed rcpthosts (chkuser)")
MUST_LOG_IN = Reject(530, None, "5.7.0 Authentication required (chkuser)")
TOO_MANY = Reject(550, None, "5.5.3 sorry, reached maximum number of recipients allowed in one session (chkuser)")
TOO_MANY_WRONG = Reject(550, None, "5.5.3 sorry, you are violating our security policies (chkuser)")
NO_DNS = Defer(451, None, "4.4.0 DNS temporary failure (chkuser)")
NOT_NOW = Defer(451, None, "4.3.0 system temporary unavailable, try again later (chkuser)")

DOUBLE_BOUNCE = b"#@[]"
DELAY, MORE_DELAY, MOST_DELAY = 1.0, 0.3, 30.0

_LOCAL_PART = re.compile(rb"[A-Za-z0-9$%?*^~&/\xa3#+_.=-]+")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_DOMAIN = re.compile(rb"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)+")

Log = Callable[[str], None]


@dataclass
class Count:
    """What one session did so far."""

    recipients: int = 0
    wrong: int = 0


class Chkuser:
    """The checks. `existence` finds mailboxes; `wait` makes a client wait for so many seconds."""

    def __init__(
        self,
        existence: Existence | None,
        resolver: Callable[[], Resolver],
        log: Log,
        wait: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self.existence = existence
        self.resolver = resolver
        self.log = log
        self.wait = wait

    def is_on(self, session: Session) -> bool:
        environment = session.environment
        started = environment.get("CHKUSER_START", "NONE").strip().upper() not in ("", "NONE")
        return started and environment.get("CHKUSER_DISABLE_VARIABLE", "RELAYCLIENT") not in environment

    # -- MAIL

    async def sender(self, session: Session, transaction: Transaction) -> Verdict | None:
        """Judge the sender."""
        environment, address = session.environment, transaction.sender
        unchecked = environment.get("CHKUSER_SENDER_NOCHECK_VARIABLE", "RELAYCLIENT")
        if not address or unchecked in environment or transaction.is_sender_vouched:
            return None
        if address == DOUBLE_BOUNCE and "CHKUSER_DOUBLEBOUNCE" in environment:
            return None
        if "CHKUSER_SENDER_FORMAT_NOCHECK" not in environment and not is_well_formed(address, transaction.is_utf8):
            return self.refused(session, transaction, None, BAD_SENDER)
        if "CHKUSER_SENDER_MX_NOCHECK" in environment:
            return None
        verdict = await self.exchangers(address, transaction.dns_budget, NO_SENDER_MX)
        return None if verdict is None else self.refused(session, transaction, None, verdict)

    # -- RCPT

    async def recipient(self, session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
        """Judge a recipient before rcpthosts."""
        count = self.count(session)
        count.recipients += 1
        verdict = self.limits(session, count) or await self.form(session, transaction, recipient)
        if verdict is None and not recipient.allowed and recipient.address.rpartition(b"@")[1]:
            verdict = NOT_OURS
        return None if verdict is None else await self.wrong(session, transaction, recipient, verdict)

    def limits(self, session: Session, count: Count) -> Verdict | None:
        environment = session.environment
        if "CHKUSER_MUSTAUTH" in environment and not session.may_relay and session.login is None:
            return MUST_LOG_IN
        limit, wrong = number(environment.get("CHKUSER_RCPTLIMIT")), number(environment.get("CHKUSER_WRONGRCPTLIMIT"))
        if limit and count.recipients > limit:
            return TOO_MANY
        return TOO_MANY_WRONG if wrong and count.wrong >= wrong else None

    async def form(self, session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
        environment, address = session.environment, recipient.address
        if not address.rpartition(b"@")[1]:
            return NO_DOMAIN
        if "CHKUSER_RCPT_FORMAT_NOCHECK" not in environment and not is_well_formed(address, transaction.is_utf8):
            return BAD_RECIPIENT
        # Who delivers to us need not prove by DNS that we are there.
        if recipient.allowed or "CHKUSER_RCPT_MX_NOCHECK" in environment:
            return None
        return await self.exchangers(address, transaction.dns_budget, NO_RECIPIENT_MX)

    # -- after rcpthosts

    async def mailbox(self, session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
        """Refuse a recipient for whom there is no mailbox."""
        if self.existence is None:
            return None
        try:
            found = await self.existence.find(recipient.address)
            only_asked = session.environment["CHKUSER_START"].strip().upper() == "DOMAIN"
            if found is Found.MISSING and only_asked:
                found = await asyncio.to_thread(self.asked, recipient.address)
        except TemporaryFailure as failure:
            self.log(f"{recipient.address!r}: {failure.text}")
            return NOT_NOW
        return await self.wrong(session, transaction, recipient, NO_MAILBOX) if found is Found.MISSING else None

    def asked(self, address: bytes) -> Found:
        """Return MISSING only where the domain's .qmail-default says bounce-no-mailbox."""
        assert self.existence is not None
        return Found.MISSING if self.existence.bounces_unknown(address) else Found.UNSEEN

    # -- answers

    async def exchangers(self, address: bytes, budget: Budget, refusal: Reject) -> Verdict | None:
        """Return the refusal of a domain that has neither MX nor address; NO_DNS where nobody can say."""
        domain = address.rpartition(b"@")[2]
        try:
            mx = await self.resolver().lookup(domain, "MX", budget)
            if mx.status is Status.FOUND:
                return None if any(record.host for record in mx.records) else refusal
            if mx.status is Status.NO_DATA:
                for rdtype in ("A", "AAAA"):
                    if (await self.resolver().lookup(domain, rdtype, budget)).status is Status.FOUND:
                        return None
        except TemporaryFailure:
            return NO_DNS
        return refusal

    async def wrong(
        self, session: Session, transaction: Transaction, recipient: Recipient, verdict: Verdict
    ) -> Verdict:
        """Count a wrong recipient, and make the client wait for the answer."""
        count = self.count(session)
        await self.wait(min(DELAY + MORE_DELAY * count.wrong, MOST_DELAY))
        if isinstance(verdict, Reject):
            count.wrong += 1
        return self.refused(session, transaction, recipient, verdict)

    def refused(
        self, session: Session, transaction: Transaction, recipient: Recipient | None, verdict: Verdict
    ) -> Verdict:
        what, who = ("sender", b"") if recipient is None else ("rcpt", recipient.address)
        login = b"" if session.login is None else session.login.user
        told = {
            "from": f"{shown(transaction.sender)}|{session.remote_info or ''}:{shown(login)}|",
            "remote": f"helo:{shown(session.helo or b'')}|{session.remote_host}:{session.remote_ip}",
            "rcpt": shown(who),
        }
        words = " ".join(f"{name} <{value}>" for name, value in told.items())
        text = str(verdict.text) if isinstance(verdict, Reject | Defer) else ""
        self.log(f"CHKUSER rejected {what}: {words} : {text}")
        return verdict

    def count(self, session: Session) -> Count:
        found = session.notes.setdefault("rcptcheck.chkuser", Count())
        assert isinstance(found, Count)
        return found


def number(text: str | None) -> int:
    """Return a limit; 0, none, where there is no number."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else 0


def shown(value: bytes) -> str:
    return value.decode("utf-8", "replace")


def is_well_formed(address: bytes, is_utf8: bool = False) -> bool:
    """Return whether an address has the characters that chkuser allows (after SMTPUTF8 also letters of any script), and a domain with a dot."""
    local, _, domain = (_BEYOND_ASCII.sub(b"x", address) if is_utf8 else address).rpartition(b"@")
    return _LOCAL_PART.fullmatch(local) is not None and len(domain) < 256 and _DOMAIN.fullmatch(domain) is not None
