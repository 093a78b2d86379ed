"""dnsbl: block lists and allow lists in DNS, asked at the first recipient that we would take.

Clients that may relay or have logged in are not looked up. The variable RBLSMTPD decides alone, for everybody, where tcprules set it,
as for the program rblsmtpd. A client told to come back (451) is hung up on; one refused for good hears it for each recipient.

A list that cannot be asked is skipped, and then nobody is refused for good: in doubt, temporary. Where the site fails closed it
counts as a listing, of which a refusal is temporary. RBLRESULT is set for the queue program where the lists were asked.

Source: the DNSBL patch of qmail, rblsmtpd.
"""

from __future__ import annotations

from dataclasses import dataclass

from pluq import Defer, Disconnect, Plugin, Recipient, Reject, Session, Transaction, Verdict, hook, setting
from pluq.config.settings import switch
from pluq.dns import Budget, NoRecords
from pluq.errors import TemporaryFailure
from pluq.store.control import read_lines
from pluq_dnsbl.entries import Action, Entry, environment_verdict, parse_entry, query_name

LOOKUP_FAILED = "temporary RBL lookup error"
# What the patch shows of a text. Others' DNS writes it: what is not printable becomes a question mark.
MAX_TEXT = 500


def is_set(text: str) -> bool:
    """A variable that is there switches on, whatever it holds."""
    return True


@dataclass(frozen=True)
class Settings:
    lists: tuple[str, ...] = setting(
        (), control="dnsbllist", help="Zones to ask, in order: [+|-|=]zone[:[-]text]; see the plugin's page."
    )
    file: str | None = setting(
        None, env="DNSBLLIST", help="Another file to read the list from, relative to the qmail home; empty: no list."
    )
    skip: bool = setting(False, env="DNSBLSKIP", parse_env=is_set, help="Ask nothing for this connection.")
    fail_closed: bool = switch(
        False, control="dnsblfailclosed", env="DNSBLFAILCLOSED", help="Defer clients when a list cannot be asked."
    )
    rblsmtpd: str | None = setting(
        None, env="RBLSMTPD", help="Decided already: empty to accept, -text to refuse, text to defer."
    )


@dataclass(frozen=True)
class Finding:
    """What the lists say of a client, and the text for it."""

    action: Action
    text: str = ""


class Dnsbl(Plugin[Settings]):
    """Refuse or defer clients that block lists in DNS name, and welcome those that allow lists name."""

    name = "dnsbl"
    budget = 30.0

    @hook
    async def smtp_rcpt(self, session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
        if not recipient.allowed:
            return None
        finding = await self.find(session, transaction.dns_budget)
        is_asked = finding is not None and not self.is_exempt(session)
        transaction.queue_environment["RBLRESULT"] = finding.action.value if finding and is_asked else None
        return None if finding is None else verdict_of(finding)

    def is_exempt(self, session: Session) -> bool:
        return session.may_relay or session.login is not None or self.settings_for(session).skip

    async def find(self, session: Session, budget: Budget) -> Finding | None:
        """Return what RBLSMTPD or the lists say of this client; None where neither is asked."""
        settings = self.settings_for(session)
        if settings.rblsmtpd is not None:
            action, text = environment_verdict(settings.rblsmtpd)
            return Finding(action, text.replace("%IP%", session.remote_ip))
        entries = [] if self.is_exempt(session) else self.entries(settings)
        if not entries:
            return None
        known: Finding | None = session.notes.get(self.name)
        if known is None:
            known = session.notes[self.name] = await self.ask(session.remote_ip, entries, settings.fail_closed, budget)
            self.log(f"ip={session.remote_ip} result={known.action.value} message={known.text!r}")
        return known

    def entries(self, settings: Settings) -> list[Entry]:
        lines = settings.lists
        if settings.file is not None:
            path = f"{self.context.home.path}/{settings.file}"
            lines = tuple(line.decode("utf-8", "replace") for line in read_lines(path) or []) if settings.file else ()
        return [parse_entry(line) for line in lines]

    async def ask(self, address: str, entries: list[Entry], fail_closed: bool, budget: Budget) -> Finding:
        """Return the first listing of an address; a pass where no list has it."""
        is_unsure = False
        for entry in entries:
            try:
                text = await self.listing(address, entry, budget)
            except TemporaryFailure:
                if fail_closed:
                    is_refusal = entry.action in (Action.DELAY, Action.REJECT)
                    return Finding(Action.DELAY if is_refusal else entry.action, LOOKUP_FAILED)
                is_unsure = True
                continue
            if text:
                softer = is_unsure and entry.action is Action.REJECT
                return Finding(Action.DELAY if softer else entry.action, text)
        return Finding(Action.PASS)

    async def listing(self, address: str, entry: Entry, budget: Budget) -> str | None:
        """Return the text of the listing of an address in one zone, None where it is not listed."""
        name = query_name(address, entry.zone)
        if name is None:
            return None
        try:
            if entry.text is not None:
                await self.context.resolver().a(name, budget)
                return entry.text.replace("%IP%", address)
            records = await self.context.resolver().txt(name, budget)
        except NoRecords:
            return None
        return records[0].decode("utf-8", "replace")


def verdict_of(finding: Finding) -> Verdict | None:
    text = "".join(char if " " <= char <= "~" else "?" for char in finding.text[:MAX_TEXT])
    if finding.action is Action.REJECT:
        return Reject(553, None, text)
    if finding.action is Action.DELAY:
        return Disconnect(Defer(451, None, text))
    return None
