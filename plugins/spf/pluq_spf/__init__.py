"""spf: is this client allowed to send for this domain?

The sender's domain is checked at MAIL, the HELO name where there is no sender. The verdict is given at RCPT, a failing lookup at MAIL.
Clients that may relay or have logged in are not checked. `behavior` says how far it goes, as in patched qmail:

    0 off   1 note it   2 defer when DNS fails   3 refuse fail   4 and softfail   5 and neutral   6 and none and permerror

What is found stands in Received-SPF below our own Received field, in Authentication-Results, and for the queue program in SPFRESULT.

Source: RFC 7208; the SPF patch of qmail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pluq import AuthResult, Defer, Plugin, Recipient, Reject, Session, Transaction, Verdict, hook, setting
from pluq.config.settings import number_or_zero
from pluq.hookspecs import clean_text

if TYPE_CHECKING:
    from pluq.dns import Budget
    from pluq_spf.evaluate import Client, Outcome

DEFAULT_EXPLANATION = (
    "SPF failure. Validate your SPF configuration here https://mxtoolbox.com/SuperTool.aspx?action=spf"
)
LOOKUP_FAILED = Defer(451, "4.3.0", "SPF lookup failure")

# From which behavior on a result is refused.
REFUSED_FROM = {"fail": 3, "softfail": 4, "neutral": 5, "none": 6, "permerror": 6}

# What SPFRESULT says for each result.
EXPORTED = {"permerror": "unknown", "temperror": "error"}

TEXTS = {
    "pass": "{source} designates {ip} as permitted sender",
    "fail": "{source} does not designate {ip} as permitted sender",
    "softfail": "transitioning {source} does not designate {ip} as permitted sender",
    "neutral": "{ip} is neither permitted nor denied by {source}",
    "none": "domain at {domain} does not designate permitted sender hosts",
    "permerror": "error in processing during lookup of {domain}: {reason}",
    "temperror": "error in processing during lookup of {domain}: DNS problem",
}

# What `explanation` may hold besides the macros of RFC 7208: our name, what decided, the error. A capital asks for the form of a URL.
OWN_MACRO = re.compile(r"(?<!%)%\{x([rseRSE])\}")


@dataclass(frozen=True)
class Settings:
    behavior: int = setting(
        0,
        control="spfbehavior",
        env="SPFBEHAVIOR",
        parse_env=number_or_zero,
        help="How far SPF goes, from 0 (off) and 1 (note it) over 3 (refuse fail) to 6 (refuse what is not a pass).",
    )
    rules: str = setting(
        "",
        control="spfrules",
        env="SPFRULES",
        help="Mechanisms of this site, looked at before a domain's policy fails.",
    )
    guess: str = setting("", control="spfguess", env="SPFGUESS", help="The policy of domains that have none.")
    explanation: str = setting(
        DEFAULT_EXPLANATION, control="spfexp", env="SPFEXP", help="What a refusal says; SPF macros are expanded."
    )
    helo: bool = setting(
        False, help="Check the HELO name as well when there is a sender; a fail there is refused like its own."
    )


class Spf(Plugin[Settings]):
    """Check the sender's domain and refuse, defer or note what its policy says (RFC 7208)."""

    name = "spf"
    budget = 30.0

    @hook
    async def smtp_mail(self, session: Session, transaction: Transaction) -> Verdict | None:
        settings = self.settings_for(session)
        if not settings.behavior or session.may_relay or session.login is not None:
            if "SPFRESULT" in session.environment:
                transaction.queue_environment["SPFRESULT"] = None  # nobody found that out here
            return None
        from pluq_spf.evaluate import budget_of  # here: pyspf and its DNS are slow to import and seldom needed

        client, budget = client_of(session, transaction.sender), budget_of(transaction)
        outcome = await self.look(client, settings, budget)
        self.keep(session, transaction, client, outcome)
        if outcome.result == "temperror" and settings.behavior >= 2:
            return LOOKUP_FAILED
        if settings.helo and client.sender and session.helo and not is_refused(outcome, settings):
            outcome = await self.look_at_helo(session, client, settings, budget) or outcome
        if is_refused(outcome, settings):
            transaction.notes[self.name] = await self.refusal(client, outcome, settings, budget)
        return None

    @hook
    def smtp_rcpt(self, session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
        refusal: Verdict | None = None if transaction.is_sender_vouched else transaction.notes.get(self.name)
        return refusal

    async def look(self, client: Client, settings: Settings, budget: Budget) -> Outcome:
        from pluq_spf.evaluate import evaluate

        return await evaluate(client, self.context.resolver(), budget, settings.rules, settings.guess)

    async def look_at_helo(
        self, session: Session, client: Client, settings: Settings, budget: Budget
    ) -> Outcome | None:
        """Return the outcome of the HELO name if it is a fail: other results of that name say nothing of the sender."""
        from dataclasses import replace

        outcome = await self.look(replace(client, sender=""), settings, budget)
        session.results.append(AuthResult("spf", outcome.result, client.helo, (("smtp", "helo", client.helo),)))
        return outcome if outcome.result == "fail" else None

    def keep(self, session: Session, transaction: Transaction, client: Client, outcome: Outcome) -> None:
        """Put the result into the message, the results and the environment of the queue program."""
        transaction.received_fields.append(received_spf(session, client, outcome))
        identity = ("smtp", "mailfrom", client.sender) if client.sender else ("smtp", "helo", client.helo)
        # What this site guesses is not the domain's word: it must not count for DMARC.
        speaks_for = "" if outcome.local else outcome.domain
        transaction.results.append(AuthResult("spf", outcome.result, speaks_for, (identity,), outcome.reason))
        transaction.queue_environment["SPFRESULT"] = EXPORTED.get(outcome.result, outcome.result)

    async def refusal(self, client: Client, outcome: Outcome, settings: Settings, budget: Budget) -> Reject:
        from pluq_spf.evaluate import expand

        text = outcome.explanation
        if not text:
            own = with_own_macros(settings.explanation, client, outcome)
            text = await expand(client, own, self.context.resolver(), budget)
        return Reject(550, "5.7.1", text)


def is_refused(outcome: Outcome, settings: Settings) -> bool:
    return outcome.result in REFUSED_FROM and settings.behavior >= REFUSED_FROM[outcome.result]


def client_of(session: Session, sender: bytes) -> Client:
    """Return who is asked about. A sender without a domain speaks for nobody: the HELO name is asked instead.

    A client that has not greeted goes by the name that tcpserver found, as in our Received field.
    """
    from ipaddress import ip_address

    from pluq_spf.evaluate import NO_ADDRESS, Client

    try:
        ip_address(session.remote_ip)
        ip = session.remote_ip
    except ValueError:
        ip = NO_ADDRESS
    address = sender.decode("utf-8", "replace") if b"@" in sender else ""
    helo = session.remote_host if session.helo is None else session.helo.decode("utf-8", "replace")
    return Client(ip, address, helo, session.local_host, is_ours=ip == session.local_ip)


def source_of(outcome: Outcome) -> str:
    return "local policy" if outcome.local else f"SPF record at {outcome.source or outcome.domain}"


def with_own_macros(text: str, client: Client, outcome: Outcome) -> str:
    """Return the text with OWN_MACRO replaced, in a form in which the macros of RFC 7208 can be."""
    from urllib.parse import quote

    said = {"r": client.receiver, "s": source_of(outcome), "e": outcome.reason}

    def value(macro: re.Match[str]) -> str:
        found = said[macro[1].lower()]
        return (quote(found, safe="~") if macro[1].isupper() else found).replace("%", "%%")

    return OWN_MACRO.sub(value, text)


def received_spf(session: Session, client: Client, outcome: Outcome) -> bytes:
    """Return the Received-SPF field (RFC 7208 section 9.1, in the patch's words)."""
    domain = outcome.source or outcome.domain
    text = TEXTS[outcome.result].format(source=source_of(outcome), ip=client.ip, domain=domain, reason=outcome.reason)
    identity = f"envelope-from={client.sender}" if client.sender else f"helo={client.helo}"
    line = f"Received-SPF: {outcome.result} ({session.local_host}: {text}) client-ip={client.ip}; {identity};"
    return clean_text(line) + b"\n"
