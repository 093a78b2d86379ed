"""eai: addresses and header fields in any script (SMTPUTF8).

In: EHLO announces SMTPUTF8. With it in MAIL, addresses may be UTF-8; without it they are refused. Domains become A-labels, as DNS has them,
before other plugins look, unless this host's control files list the domain as it is written; see `domains`.

Out: mail that needs SMTPUTF8 goes only to hosts that offer it, else back to the sender. What needs it is read off the message each time it
is tried, so that the queue has no place to remember it, and no crash and no other qmail can lose it:

    a local part of the envelope is not ASCII          a domain alone does not count: it has A-labels
    the header is not ASCII, and a Received field      what came without SMTPUTF8 goes on as it always did,
    says that the message came by SMTPUTF8             unless the site is `strict`

Source: RFC 6530, RFC 6531, RFC 6532; the SMTPUTF8 patch of qmail.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from pluq import Delivery, Envelope, Plugin, Recipient, Reject, Session, Transaction, Verdict, hook, setting
from pluq.listen.fresh import Fresh
from pluq_eai.address import is_international, with_ascii_domain
from pluq_eai.domains import Domains, misspelt
from pluq_eai.needs import Need, need_of

SENDER_NEEDS_IT = Reject(550, "5.6.7", "sorry, that sender address needs SMTPUTF8")
RECIPIENT_NEEDS_IT = Reject(553, "5.6.7", "sorry, that recipient address needs SMTPUTF8")
BAD_SENDER = Reject(553, "5.1.7", "sorry, that sender address is not proper UTF-8, or its domain cannot be")
BAD_RECIPIENT = Reject(553, "5.1.3", "sorry, that recipient address is not proper UTF-8, or its domain cannot be")
NO_VALUE = Reject(501, "5.5.4", "SMTPUTF8 takes no value")


def is_on(text: str) -> bool:
    """Any value of the variable switches on, but those that say no."""
    return text.lower() not in ("0", "false", "no", "off")


@dataclass(frozen=True)
class Settings:
    offered: bool = setting(
        True,
        env="SMTPUTF8",
        parse_env=is_on,
        help="Offer SMTPUTF8 to this client; else nothing of the plugin is for it.",
    )
    strict: bool = setting(
        False, help="Mail with UTF-8 in its header needs SMTPUTF8 to go on, also where it came without."
    )


class Eai(Plugin[Settings]):
    """Take, deliver and relay mail with UTF-8 addresses and header fields (SMTPUTF8)."""

    name = "eai"
    # A recipient whose domain rcpthosts lists in its other form is allowed.
    permissions = frozenset({"relay"})
    # They look at addresses, and are to see one form of each.
    before = ("badmail", "dnsbl", "greylist", "ratelimit", "rcptcheck", "spf", "spp", "srs", "tarpit")

    def __init__(self) -> None:
        self.domains: Fresh[Domains] | None = None

    @hook
    def check(self) -> Sequence[str]:
        if find_spec("idna") is None:
            return ["the package idna is missing: install pluq[eai], or python3-idna"]
        return list(misspelt(self.context.home))

    @property
    def ours(self) -> Domains:
        """The domains of this host as the control files stand now. Raises ConfigError."""
        if self.domains is None:
            home = self.context.home
            self.domains = Fresh(Domains.files(home), lambda: Domains.read(home), self.log)
        return self.domains.get(time.monotonic())

    # -- in

    @hook
    def smtp_capabilities(self, session: Session) -> Sequence[bytes]:
        return [b"SMTPUTF8"] if self.settings_for(session).offered else []

    @hook
    def smtp_mail(self, session: Session, transaction: Transaction) -> Verdict | None:
        if not self.settings_for(session).offered:
            return None
        if transaction.parameters.get(b"SMTPUTF8") is not None:
            return NO_VALUE
        transaction.is_utf8 = b"SMTPUTF8" in transaction.parameters
        if transaction.sender.isascii():
            return None
        if not transaction.is_utf8:
            return SENDER_NEEDS_IT
        sender = with_ascii_domain(transaction.sender)
        if sender is None:
            return BAD_SENDER
        transaction.sender = sender
        return None

    @hook
    def smtp_rcpt(self, session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
        """Check the address, and give it the form that the control files know."""
        if not self.settings_for(session).offered or not is_international(recipient.address):
            return None
        if not recipient.address.isascii() and b"SMTPUTF8" not in transaction.parameters:
            return RECIPIENT_NEEDS_IT
        address = with_ascii_domain(recipient.address)
        if address is None:
            return BAD_RECIPIENT
        recipient.allowed = recipient.allowed or self.ours.allows(address)
        recipient.address = self.ours.as_listed(address)
        return None

    @hook
    def queue_envelope(self, envelope: Envelope) -> None:
        """Do the same for mail that came another way: from programs of this host, forwarded, bounced."""
        envelope.recipients = [self.known_form(one) if is_international(one) else one for one in envelope.recipients]

    def known_form(self, address: bytes) -> bytes:
        ascii_form = with_ascii_domain(address)
        return address if ascii_form is None else self.ours.as_listed(ascii_form)

    # -- out

    @hook
    def remote_envelope(self, delivery: Delivery) -> None:
        """Give all that look hosts up A-labels."""
        delivery.sender = with_ascii_domain(delivery.sender) or delivery.sender
        delivery.recipients = [with_ascii_domain(one) or one for one in delivery.recipients]
        delivery.host = (with_ascii_domain(b"@" + delivery.host) or b"@" + delivery.host)[1:]

    @hook
    def remote_mail(self, delivery: Delivery, connection: Any) -> Verdict | None:
        need = delivery.notes[self.name] = need_of(delivery, self.settings.strict)
        if need is None or b"SMTPUTF8" in connection.capabilities:
            return None
        text = f"Connected to {connection.address} but it does not offer SMTPUTF8, which the {need.what} of this message need."
        return Reject(553, need.code, text)

    @hook
    def remote_params(self, delivery: Delivery, connection: Any) -> Sequence[bytes]:
        need: Need | None = delivery.notes.get(self.name)
        if need is None:
            return []
        return [b"BODY=8BITMIME", b"SMTPUTF8"] if b"8BITMIME" in connection.capabilities else [b"SMTPUTF8"]

    @hook
    def remote_explain(self, delivery: Delivery, host: bytes) -> Sequence[str]:
        need = need_of(delivery, self.settings.strict)
        return [] if need is None else [f"SMTPUTF8 or nothing: the {need.what} need it (#{need.code})"]
