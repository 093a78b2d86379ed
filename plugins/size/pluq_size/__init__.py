"""size: the ESMTP SIZE extension, in and out.

In: EHLO announces the limit (0: none), MAIL with a larger SIZE= is refused before the message is sent. The limit itself is
qmail's own databytes, which the core enforces on what really comes, whatever the client declared.

Out: a host that announces SIZE is told how large the message is; one whose limit is smaller refuses at MAIL.

Source: RFC 1870; qmail-control(5) databytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pluq import Delivery, Plugin, Reject, Session, Transaction, Verdict, hook, setting

TOO_BIG = Reject(552, "5.3.4", "sorry, that message size exceeds my databytes limit")


def leading_number(text: str) -> int:
    """The digits that the text begins with, 0 without any: how qmail reads DATABYTES."""
    digits = len(text) - len(text.lstrip("0123456789"))
    return int(text[:digits] or 0)


@dataclass(frozen=True)
class Settings:
    databytes: int = setting(
        0,
        unit="bytes",
        control="databytes",
        env="DATABYTES",
        parse_env=leading_number,
        help="Largest message taken; 0 for no limit.",
    )


class Size(Plugin[Settings]):
    """Announce the largest message, refuse larger ones early, and declare sizes to other hosts."""

    name = "size"

    @hook
    def smtp_connect(self, session: Session) -> None:
        """Hand a limit from pluq.toml to the core, which counts the bytes."""
        limit = self.settings_for(session).databytes
        if limit:
            session.environment["DATABYTES"] = str(limit)

    @hook
    def smtp_capabilities(self, session: Session) -> Sequence[bytes]:
        return [b"SIZE %d" % self.settings_for(session).databytes]

    @hook
    def smtp_mail(self, session: Session, transaction: Transaction) -> Verdict | None:
        declared = transaction.parameters.get(b"SIZE")
        limit = self.settings_for(session).databytes
        if declared and limit and leading_number(declared.decode("latin-1")) > limit:
            return TOO_BIG
        return None

    @hook
    def remote_params(self, delivery: Delivery, connection: Any) -> Sequence[bytes]:
        if b"SIZE" not in connection.capabilities or delivery.message is None:
            return []
        return [b"SIZE=%d" % delivery.message.wire_size()]
