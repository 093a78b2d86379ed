"""dnsbl: block lists and allow lists in DNS, asked at the first recipient that we would take.

Clients that may relay or have logged in are not looked up. The variable RBLSMTPD decides alone where tcprules set it, as for the
program rblsmtpd. A client told to come back (451) is hung up on; one refused for good hears it for each recipient.

A list that cannot be asked is skipped, unless the site fails closed. After such a gap nobody is refused for good by a list whose
entry comes later than one that would only have delayed: in doubt, temporary.

Source: the DNSBL patch of qmail, rblsmtpd.
"""

from __future__ import annotations

from dataclasses import dataclass

from pluq import Defer, Disconnect, Plugin, Recipient, Reject, Session, Transaction, Verdict, hook, setting
from pluq.dns import Budget, NoRecords
from pluq.errors import TemporaryFailure
from pluq.store.control import read_lines
from pluq_dnsbl.entries import Action, Entry, environment_verdict, parse_entry, query_name

LOOKUP_FAILED = "temporary RBL lookup error"


def is_set(text: str) -> bool:
    """A variable that is there switches on, whatever it holds."""
    return True


@dataclass(frozen=True)
class Settings:
    lists: tuple[str, ...] = setting(
        (), control="dnsbllist", help="Zones to ask, in order: [+|-|=]zone[:[-]text]; see the plugin's page."
    )
    file: str = setting("", env="DNSBLLIST", help="Another file to read the list from, relative to the qmail home.")
    skip: bool = setting(False, env="DNSBLSKIP", parse_env=is_set, help="Ask nothing for this connection.")
    fail_closed: bool = setting(
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
        if session.may_relay or session.login is not None or not recipient.allowed:
            return None
        finding = session.notes.get(self.name)
        if finding is None:
            finding = session.notes[self.name] = await self.look_up(session, transaction.dns_budget)
            self.log(f"ip={session.remote_ip} result={finding.action.value} message={finding.text!r}")
        transaction.queue_environment["RBLRESULT"] = finding.action.value
        return verdict_of(finding)

    async def look_up(self, session: Session, budget: Budget) -> Finding:
        """Return what RBLSMTPD or the lists say of this client."""
        settings = self.settings_for(session)
        if settings.rblsmtpd is not None:
            action, text = environment_verdict(settings.rblsmtpd)
            return Finding(action, text.replace("%IP%", session.remote_ip))
        if settings.skip:
            return Finding(Action.PASS)
        return await self.ask(session.remote_ip, self.entries(settings), settings.fail_closed, budget)

    def entries(self, settings: Settings) -> list[Entry]:
        lines = settings.lists
        if settings.file:
            path = f"{self.context.home.path}/{settings.file}"
            lines = tuple(line.decode("utf-8", "replace") for line in read_lines(path) or [])
        return [parse_entry(line) for line in lines]

    async def ask(self, address: str, entries: list[Entry], fail_closed: bool, budget: Budget) -> Finding:
        """Return the first listing of an address; a pass where no list has it."""
        is_unsure = False
        for entry in entries:
            try:
                text = await self.listing(address, entry, budget)
            except TemporaryFailure:
                if fail_closed:
                    return Finding(Action.DELAY, LOOKUP_FAILED)
                is_unsure = is_unsure or entry.action is Action.DELAY
                continue
            if text is not None:
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
    if finding.action is Action.REJECT:
        return Reject(553, None, finding.text)
    if finding.action is Action.DELAY:
        return Disconnect(Defer(451, None, finding.text))
    return None
