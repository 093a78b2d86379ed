"""What is told, and counted, of SMTP sessions beyond the lines of qmail and tcpserver: messages taken, and what was refused.

A service has a watch only where the site wants objects in its log, or figures. Told are addresses and replies; never a password, nor
anything of a message but its size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pluq import log
from pluq.log.objects import text
from pluq.metrics import Histogram, Page, page, series
from pluq.smtpd import replies

if TYPE_CHECKING:
    from pluq.smtpd.session import SmtpSession

SHOWN_RECIPIENTS = 50
"""The scheduler tells of each recipient; a list of thousands would be a line of a megabyte."""

REASONS: Mapping[bytes, str] = {
    replies.BAD_SENDER: "badmailfrom",
    replies.NO_GATEWAY: "rcpthosts",
    replies.SYNTAX: "syntax",
    replies.LINE_TOO_LONG: "syntax",
    replies.TOO_MANY_RECIPIENTS: "recipients",
    replies.TOO_MUCH_JUNK: "junk",
    replies.TOO_MANY_HOPS: "loop",
    replies.TOO_LARGE: "size",
    replies.STRAY_NEWLINE: "newline",
    replies.TIMEOUT: "timeout",
    replies.QUEUE_FAILURE: "queue",
}
"""Why a reply of ours refuses; the reply of a plugin's verdict is "plugin", of a queue program "queue", of a fault of ours "trouble"."""


class Watch:
    """Hears of the sessions of a profile in this process. `write` takes whole lines."""

    def __init__(self, profile: str, write: Callable[[str], None], mine: Page | None) -> None:
        self._profile = profile
        self._write = write
        self._figures = None if mine is None else Figures(mine, profile)

    @classmethod
    def of(cls, profile: str, write: Callable[[str], None]) -> Watch | None:
        """Return a watch, None where nobody wants to know more than qmail tells."""
        mine = page()
        return cls(profile, write, mine) if mine is not None or log.with_objects else None

    def accepted(self, smtp: SmtpSession, qp: int) -> None:
        """A message is safe; the reply has not been sent yet."""
        incoming = smtp.incoming
        if incoming is None:
            return
        seconds = time.monotonic() - smtp.last_input
        size = incoming.body.size
        if self._figures is not None:
            self._figures.accepted(smtp, size, seconds)
        if log.with_objects:
            transaction = incoming.transaction
            self._tell(
                "accepted",
                smtp,
                sender=text(transaction.sender),
                recipients=[text(recipient.address) for recipient in transaction.recipients[:SHOWN_RECIPIENTS]],
                more=max(0, len(transaction.recipients) - SHOWN_RECIPIENTS),
                bytes=size,
                qp=qp,
                seconds=round(seconds, 6),
            )

    def refused(self, smtp: SmtpSession, reply: bytes, reason: str, recipient: bytes) -> None:
        """A command, a recipient or a message was refused."""
        reason = reason or REASONS.get(reply, "trouble")
        if self._figures is not None:
            self._figures.refused(reason)
        if log.with_objects:
            transaction = smtp.transaction or (smtp.incoming.transaction if smtp.incoming is not None else None)
            self._tell(
                "refused",
                smtp,
                sender=None if transaction is None else text(transaction.sender),
                recipient=text(recipient) if recipient else None,
                reason=reason,
                reply=text(reply.rstrip(b"\r\n")),
            )

    def ended(self, smtp: SmtpSession) -> None:
        """A session is over."""
        if self._figures is not None:
            self._figures.ended(smtp)

    def _tell(self, event: str, smtp: SmtpSession, **fields: Any) -> None:
        session = smtp.session
        record = {
            "connection": getattr(smtp.driver, "number", 0),
            "profile": self._profile,
            "client_ip": session.remote_ip,
            "helo": None if session.helo is None else text(session.helo),
            "tls": None if session.tls is None else session.tls.version,
            "user": None if session.login is None else text(session.login.user),
            **fields,
        }
        self._write(log.event(event, record).decode("ascii"))


class Figures:
    """The counters of a profile's sessions."""

    def __init__(self, mine: Page, profile: str) -> None:
        self._page = mine
        self._values = mine.values
        self._profile = profile
        self._bytes = mine.slot(series("pluq_accepted_bytes_total", profile=profile))
        self._seconds = Histogram(mine, "pluq_acceptance_seconds", profile=profile)
        self._accepted: dict[tuple[str, str], int] = {}
        self._sessions: dict[tuple[str, str], int] = {}

    def accepted(self, smtp: SmtpSession, size: int, seconds: float) -> None:
        values = self._values
        values[self._slot(self._accepted, "pluq_accepted_total", smtp)] += 1.0
        values[self._bytes] += size
        self._seconds.observe(seconds)

    def refused(self, reason: str) -> None:
        self._page.add(series("pluq_refused_total", profile=self._profile, reason=reason))

    def ended(self, smtp: SmtpSession) -> None:
        self._values[self._slot(self._sessions, "pluq_sessions_total", smtp)] += 1.0

    def _slot(self, slots: dict[tuple[str, str], int], name: str, smtp: SmtpSession) -> int:
        """Return the slot for sessions that are encrypted and logged in like this one."""
        session = smtp.session
        key = (
            "no" if session.tls is None else session.tls.version,
            "no" if session.login is None else session.login.mechanism,
        )
        slot = slots.get(key)
        if slot is None:
            named = series(name, profile=self._profile, tls=key[0], login=key[1])
            slot = slots[key] = self._page.slot(named)
        return slot
