"""srs: the Sender Rewriting Scheme, so that forwarded mail passes SPF and its bounces find their way back.

Rewritten is the sender of mail that is sent on from a .qmail file (`&address`, forward, condredirect, dot-forward, fastforward;
qmail-inject where it is run from one), in [local]; and of mail that leaves for another host, in [remote], for sites whose mail is
forwarded by other means. The empty sender, a mailing list's own, and senders in rcpthosts stay as they are.

Bounces to a rewritten address are brought back at RCPT, in the profile that takes them; when our own scheduler makes one, in
[send]; and by the program srsfilter, from the .qmail file that gets the domain's mail, as with patched qmail.

Source: https://www.libsrs2.org/srs/srs.pdf; the qmail-srs patch by Marcelo Coelho.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pluq import (
    Defer,
    Delivery,
    Disconnect,
    Draft,
    Plugin,
    Recipient,
    Reject,
    Session,
    Transaction,
    Verdict,
    hook,
    setting,
)
from pluq.config.settings import switch
from pluq.errors import TemporaryFailure

if TYPE_CHECKING:
    from pluq.smtpd.policy import RcptHosts
    from pluq_srs.rewriter import Rewriter, SrsError

BOUNCES_ONLY = Reject(550, "5.7.1", "this address takes bounces only")
# Four letters can be guessed by trying: one session gets few wrong ones.
MAX_WRONG = 3
GUESSING = Disconnect(Defer(421, "4.7.0", "too many wrong SRS addresses"))
# A sender that stands for a bounce of a bounce, and the end of one that qmail-send makes into one for each recipient.
SPECIAL_DOMAIN = b"[]"
VERP_END = b"-@[]"


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Settings:
    domain: str = setting(
        "",
        control="srs_domain",
        help="Domain of rewritten addresses, one that nothing else uses; none: nothing is rewritten.",
    )
    secrets: tuple[str, ...] = setting(
        (), control="srs_secrets", secret=True, help="Secrets of the hash: the first signs, all are good for bounces."
    )
    maxage: int = setting(21, control="srs_maxage", unit="days", help="How long bounces find their way back.")
    hashlength: int = setting(4, control="srs_hashlength", unit="letters", help="Length of the hash in an address.")
    hashmin: int = setting(
        4, control="srs_hashmin", unit="letters", help="Shortest hash that counts, at most hashlength."
    )
    separator: str = setting(
        "=", control="srs_separator", help="What follows SRS0 or SRS1: `=`, `-` or `+`; anything else means `=`."
    )
    alwaysrewrite: bool = switch(
        False, control="srs_alwaysrewrite", help="Rewrite senders whose domain is in rcpthosts or our own as well."
    )


class Srs(Plugin[Settings]):
    """Rewrite the sender of forwarded mail, and bring its bounces back."""

    name = "srs"

    @cached_property
    def rewriter(self) -> Rewriter:
        from pluq_srs.rewriter import Rewriter

        settings = self.settings
        return Rewriter(
            encode(settings.domain),
            [encode(secret) for secret in settings.secrets],
            maxage=settings.maxage,
            hashlength=settings.hashlength,
            hashmin=settings.hashmin,
            separator=settings.separator,
        )

    @property
    def rcpthosts(self) -> RcptHosts:
        from pluq.smtpd.policy import read_rcpthosts

        return read_rcpthosts(self.context.home)

    @hook
    def check(self) -> Sequence[str]:
        if not self.settings.domain:
            return []
        faults = [] if self.settings.secrets else ["srs: no secrets: control/srs_secrets needs a line"]
        if self.context.role == "smtpd" and not self.rcpthosts.allows(b"x@" + self.rewriter.domain):
            faults.append(f"srs: {self.settings.domain} is not in rcpthosts, so its bounces are refused")
        return faults

    # -- rewriting

    @hook
    def forward_envelope(self, delivery: Delivery, environment: Mapping[str, str]) -> Verdict | None:
        if delivery.channel == "inject" and not is_resent(environment):
            return None
        from pluq_srs.rewriter import SrsError

        try:
            delivery.sender = self.rewrite(delivery.sender)
        except SrsError as error:
            return Defer(451, "4.3.0", f"SRS: {error.text}")
        return None

    @hook
    def remote_envelope(self, delivery: Delivery) -> None:
        from pluq_srs.rewriter import SrsError

        try:
            delivery.sender = self.rewrite(delivery.sender)
        except SrsError as error:
            raise TemporaryFailure(f"SRS: {error.text}") from error

    def rewrite(self, sender: bytes) -> bytes:
        """Return the sender to use when the message goes on. Raises SrsError, ConfigError."""
        if not self.settings.domain or not self.needs_rewriting(sender):
            return sender
        return self.rewriter.forward(sender)

    def needs_rewriting(self, sender: bytes) -> bool:
        _, at, domain = sender.rpartition(b"@")
        if not at or domain == SPECIAL_DOMAIN or sender.endswith(VERP_END):
            return False
        if self.settings.alwaysrewrite:
            return True
        return domain.lower() != self.rewriter.domain.lower() and not self.rcpthosts.allows(sender)

    # -- bringing back

    @hook
    def smtp_rcpt(self, session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
        if not self.settings.domain or not recipient.allowed or not self.rewriter.is_ours(recipient.address):
            return None
        if transaction.sender:
            return BOUNCES_ONLY
        from pluq_srs.rewriter import SrsError

        try:
            recipient.address = self.rewriter.reverse(recipient.address)
        except SrsError as error:
            return self.refuse(session, error)
        return None

    def refuse(self, session: Session, error: SrsError) -> Verdict:
        text = f"SRS: {error.text}"
        if not error.permanent:
            return Defer(451, "4.3.0", text)
        wrong = session.notes["srs"] = session.notes.get("srs", 0) + 1
        return Reject(550, "5.1.1", text) if wrong < MAX_WRONG else GUESSING

    @hook
    def send_bounce(self, draft: Draft) -> Verdict | None:
        if not self.settings.domain or not self.rewriter.is_ours(draft.sender):
            return None
        from pluq_srs.rewriter import SrsError

        try:
            draft.sender = self.rewriter.reverse(draft.sender)
        except SrsError as error:
            self.log(f"SRS: {error.text}")
            if not error.permanent:
                return Defer(text=f"SRS: {error.text}")
        return None


def is_resent(environment: Mapping[str, str]) -> bool:
    """Say whether qmail-inject sends somebody else's mail on: it runs from a .qmail file, or was told so."""
    if "QMAILINJECT_SKIP_SRS" in environment:
        return False
    return "QMAILINJECT_FORCE_SRS" in environment or ("EXT" in environment and "HOST" in environment)
