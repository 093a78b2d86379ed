"""tarpit: slow down those who cannot wait.

A greeting that comes late costs a mail server nothing and a spammer much; who talks before it breaks the protocol (RFC 5321 section
4.3.1) and can be turned away. Many recipients, and many that are refused, cost time as well. Clients that may relay are never slowed.

Source: the greet delay and tarpit patches of qmail.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from pluq import Disconnect, Plugin, Recipient, Reject, Session, Transaction, Verdict, hook, setting
from pluq.config.settings import switch

EARLY_TALKER = Disconnect(Reject(554, None, "SMTP protocol violation"))

# RFC 5321 section 4.5.3.2: a client gives up after five minutes.
LONGEST_DELAY = 240


def signed(text: str) -> int:
    """Return the number at the beginning, which may be below zero. Raises ValueError."""
    found = re.match(r"\s*(-?[0-9]{1,9})", text)
    if found is None:
        raise ValueError("expected a number")
    return int(found[1])


def signed_line(data: bytes) -> int:
    return signed(data.partition(b"\n")[0].decode("ascii", "replace"))


@dataclass(frozen=True)
class Settings:
    greet_delay: int = setting(
        0,
        unit="seconds",
        control="greetdelay",
        env="SMTPD_GREETDELAY",
        parse_control=signed_line,
        parse_env=signed,
        help="How long a client waits for the greeting; below zero, as in control/greetdelay: and who talks meanwhile is turned away.",
    )
    drop_early_talkers: bool = switch(
        False, env="DROP_PRE_GREET", help="Turn away who talks before the greeting; works only with a delay."
    )
    count: int = setting(
        0,
        unit="recipients",
        control="tarpitcount",
        env="TARPITCOUNT",
        help="From this recipient on each one costs `delay`; 0: never.",
    )
    delay: int = setting(
        5, unit="seconds", control="tarpitdelay", env="TARPITDELAY", help="What each recipient beyond `count` costs."
    )


class Tarpit(Plugin[Settings]):
    """Greet late, turn away early talkers, and slow down many recipients."""

    name = "tarpit"
    budget = LONGEST_DELAY + 10.0

    @hook
    async def smtp_connect(self, session: Session, connection: Any) -> Verdict | None:
        settings = self.settings_for(session)
        if not settings.greet_delay or session.may_relay:
            return None
        await self.wait(abs(settings.greet_delay))
        if (settings.drop_early_talkers or settings.greet_delay < 0) and connection.has_input:
            self.log(f"{session.remote_ip} talked before the greeting")
            return EARLY_TALKER
        return None

    @hook
    async def smtp_rcpt(self, session: Session, transaction: Transaction, recipient: Recipient) -> None:
        settings = self.settings_for(session)
        if session.may_relay or not settings.count:
            return
        asked = session.notes[self.name] = session.notes.get(self.name, 0) + 1
        if asked > settings.count:
            await self.wait(settings.delay)

    async def wait(self, seconds: int) -> None:
        if not self.is_shadow:
            await asyncio.sleep(min(seconds, LONGEST_DELAY))
