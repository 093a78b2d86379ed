"""popauth: who has just fetched mail by POP or IMAP from an address may relay from it for a while. For clients that cannot log in to SMTP.

    FOLDER/192.0.2.7      touched at each login; may relay while it is younger than `seconds`
    FOLDER/2001:db8::7

That is relay-ctrl's folder: relay-ctrl-allow behind a checkpassword program touches the files, as does `pluq popauth allow`, and
relay-ctrl-age removes old ones. What is in a file does not matter. A folder or file that cannot be looked at lets nobody relay.

Everybody behind the same address may relay as well, and logins that are not encrypted can be overheard: AUTH is better.

Source: relay-ctrl(8), relay-ctrl-check(8), relay-ctrl-allow(8).
"""

from __future__ import annotations

import ipaddress
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluq import Plugin, Session, Verdict, hook, setting

FOLDER = "/var/spool/relay-ctrl/allow"
# Clocks of file servers differ; a time far ahead would let an address relay for ever.
AHEAD = 300


@dataclass(frozen=True)
class Settings:
    folder: str = setting(FOLDER, env="RELAY_CTRL_DIR", help="Where the files of addresses that logged in are.")
    seconds: int = setting(
        900, unit="seconds", env="RELAY_CTRL_EXPIRY", help="How long an address may relay after its last login."
    )
    relayclient: str = setting(
        "", env="RELAY_CTRL_RELAYCLIENT", help="What RELAYCLIENT is set to; it is appended to recipients."
    )


class PopAuth(Plugin[Settings]):
    """Let addresses relay from which somebody has just logged in by POP or IMAP."""

    name = "popauth"
    before = ("spp", "tarpit")  # which act before the first command too

    @hook
    def check(self) -> Sequence[str]:
        folder = self.settings.folder
        return [] if folder.startswith("/") else [f"folder: {folder!r} does not begin with /"]

    @hook
    def start(self) -> None:
        if not os.path.isdir(self.settings.folder):
            self.log(f"{self.settings.folder} is not there: nobody may relay by a login until it is")

    @hook
    def smtp_connect(self, session: Session, connection: Any) -> Verdict | None:
        if session.may_relay or self.is_shadow:
            return None
        settings = self.settings_for(session)
        if is_fresh(settings.folder, session.remote_ip, settings.seconds, time.time()):
            session.environment["RELAYCLIENT"] = settings.relayclient
            self.log(f"{session.remote_ip} may relay by its last login")
        return None

    @classmethod
    def cli_commands(cls) -> Mapping[str, Callable[[Sequence[str]], int]]:
        from pluq_popauth.allow import allow

        return {"allow": allow}


def is_fresh(folder: str, address: str, seconds: int, now: float) -> bool:
    """Say whether an address has logged in within so many seconds."""
    try:
        name = str(ipaddress.ip_address(address))
        found = os.lstat(f"{folder}/{name}")
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(found.st_mode) and -AHEAD <= now - found.st_mtime < seconds
