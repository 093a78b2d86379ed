"""surbl: lists in DNS of the sites that spam leads to, asked about the links of a message at the end of DATA.

    http://www.spam.example/x  ->  spam.example.multi.surbl.org A?  ->  127.0.0.8: 554 message contains an URL listed in SURBL ...

Looked at are the first `bytes` of a message from a client that may not relay, and the first `lookups` domains in it; so no message costs more
than that, whoever wrote it. An answer outside of 127/8, or the 127.0.0.1 and 127.255.255.x by which lists say that they do not answer us, lists
nothing. A list that cannot be asked lets mail through, unless the site fails closed. No domain of a message is resolved itself.

links      which hosts the text leads to, and what of their names was registered

Source: surblfilter of indimail-mta and of the combined patches; SURBL's guidelines for implementers.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pluq import Defer, Message, Plugin, Reject, Session, Transaction, Verdict, hook, setting
from pluq.dns import Budget, NoRecords
from pluq.errors import PermanentFailure, TemporaryFailure
from pluq_surbl.links import hosts, question, registered

CANNOT_ASK = Defer(451, "4.4.3", "unable to look up the links of this message")
SECONDS = 20.0
BITS_THAT_LIST = 0xFE


def is_on(text: str) -> bool:
    """SURBL=1 switches on, SURBL=0 and an empty SURBL off."""
    return text.strip() not in ("", "0")


@dataclass(frozen=True)
class Settings:
    enabled: bool = setting(True, env="SURBL", parse_env=is_on, help="Look at the mail of this connection.")
    zone: str = setting("multi.surbl.org", control="surbldomain", help="The list that is asked.")
    white: tuple[str, ...] = setting((), control="surbldomainwhite", help="Domains that are never looked up.")
    recipients: tuple[str, ...] = setting(
        (),
        control="surblrcpt",
        help="Addresses and @domains that want all mail; a message only for them is not looked at.",
    )
    level2: tuple[str, ...] = setting(
        (), control="level2-tlds", help="Domains like co.uk, below which a name has three parts."
    )
    level3: tuple[str, ...] = setting(
        (), control="level3-tlds", help="Domains like demon.co.uk, below which a name has four parts."
    )
    bytes: int = setting(262_144, unit="bytes", help="How much of a message is looked at.")
    lookups: int = setting(20, unit="domains", help="How many domains of one message are looked up.")
    relay: bool = setting(False, help="Look at mail from clients that may relay as well.")
    fail_closed: bool = setting(False, help="Defer a message when the list cannot be asked.")


class Surbl(Plugin[Settings]):
    """Refuse messages with links to sites that lists in DNS name."""

    name = "surbl"
    budget = SECONDS + 10.0
    white: frozenset[str]
    level2: frozenset[str]
    level3: frozenset[str]

    @hook
    def check(self) -> Sequence[str]:
        return [] if "." in self.settings.zone.strip(".") else [f"zone: {self.settings.zone!r} is no domain"]

    @hook
    def start(self) -> None:
        settings = self.settings
        self.white, self.level2, self.level3 = map(lowered, (settings.white, settings.level2, settings.level3))

    @hook
    async def message_decide(self, session: Session, transaction: Transaction, message: Message) -> Verdict | None:
        settings = self.settings_for(session)
        if not settings.enabled or (session.may_relay and not settings.relay) or self.is_unwanted(transaction):
            return None
        domains = [registered(host, self.level2, self.level3) for host in hosts(beginning(message, settings.bytes))]
        domains = [domain for domain in dict.fromkeys(domains) if domain not in self.white][: settings.lookups]
        if not domains:
            return None
        budget = transaction.dns_budget.part(settings.lookups, SECONDS)
        answers = await asyncio.gather(*(self.is_listed(domain, budget) for domain in domains))
        listed = [domain for domain, answer in zip(domains, answers, strict=True) if answer]
        if listed:
            self.log(f"{session.remote_ip}: {', '.join(listed)} listed in {settings.zone}")
            return Reject(554, None, f"message contains an URL listed in SURBL blocklist [{listed[0]}] (#5.7.1)")
        if None in answers:
            self.log(f"{settings.zone} could not be asked about {answers.count(None)} of {len(domains)} domains")
            return CANNOT_ASK if settings.fail_closed else None
        return None

    def is_unwanted(self, transaction: Transaction) -> bool:
        """Say whether all recipients want their mail as it is."""
        wanted = lowered(self.settings.recipients)
        if not wanted or not transaction.recipients:
            return False
        addresses = [one.address.decode("utf-8", "replace").lower() for one in transaction.recipients]
        return all(address in wanted or f"@{address.rpartition('@')[2]}" in wanted for address in addresses)

    async def is_listed(self, domain: str, budget: Budget) -> bool | None:
        """Say whether a domain or address is on the list; None where that cannot be known now."""
        try:
            answers = await self.context.resolver().a(question(domain, self.settings.zone), budget)
        except NoRecords:
            return False
        except TemporaryFailure:
            return None
        except PermanentFailure:
            return False  # a name that DNS cannot hold
        return any(lists(answer) for answer in answers)


def lists(answer: str) -> bool:
    """Say whether an answer means that a name is on the list, and not that the list is closed to us or DNS is redirected."""
    packed = ipaddress.IPv4Address(answer).packed
    return packed[0] == 127 and packed[1] != 255 and bool(packed[3] & BITS_THAT_LIST)


def lowered(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.strip().rstrip(".").lower() for name in names)


def beginning(message: Message, size: int) -> bytes:
    """Return the first bytes of a message, header and all: a link may stand in Subject."""
    pieces, left = [], size
    for piece in message.chunks():
        pieces.append(piece[:left])
        left -= len(piece)
        if left <= 0:
            break
    return b"".join(pieces)
