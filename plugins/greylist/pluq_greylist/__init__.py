"""greylist: who has never sent here before is asked to come back; a mail server does, most spam does not.

Asked at RCPT, about recipients that rcpthosts lets in, for clients that may not relay. What counts is the client's network, the sender
and the recipient together. The first attempt is answered 450; one after `delay` and within `window` is let in, and for `keep` days
the three need not wait again. A network that was let in `auto` times is never asked.

    passes   client may relay, is listed in greylist.white, has earned it, or sends to somebody who is listed there
    waits    anybody else, until they come back in time

A store that cannot be used keeps nobody out: greylisting is a filter, not a lock.

Source: "The Next Step in the Spam Control War: Greylisting" (2003), RFC 6647; reply of indimail-mta.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pluq import Defer, Plugin, Recipient, Session, Transaction, Verdict, hook, setting
from pluq.errors import ConfigError
from pluq.store.control import read_lines
from pluq_greylist.exempt import Exempt, network_of
from pluq_greylist.records import Limits, Records, key_of

COME_BACK = Defer(450, "4.3.0", "try again later")
LIST = "greylist.white"
DAY = 86400


@dataclass(frozen=True)
class Settings:
    delay: int = setting(300, unit="seconds", help="How long a first attempt has to wait.")
    window: int = setting(DAY // 2, unit="seconds", help="How soon the next attempt has to come.")
    keep: int = setting(
        36, unit="days", help="How long client, sender and recipient are remembered after their last message."
    )
    auto: int = setting(
        5, unit="messages", help="After so many messages that came back, a network need not wait; 0: never."
    )
    ipv4: int = setting(24, unit="bits", help="How much of an IPv4 address is the network.")
    ipv6: int = setting(64, unit="bits", help="How much of an IPv6 address is the network.")
    entries: int = setting(
        1_000_000, unit="entries", help="How many are remembered; when it is full, nobody new has to wait."
    )
    skip: bool = setting(False, env="GREYLISTSKIP", help="Let this connection pass.")


class Greylist(Plugin[Settings]):
    """Ask strangers to come back, and let in those who do."""

    name = "greylist"
    records: Records
    exempt: Exempt

    @hook
    def check(self) -> Sequence[str]:
        """Name every line of greylist.white that is neither an address nor a network."""
        path = self.context.home.control(LIST)
        return [f"{path}: {line!r}: {fault}" for line, fault in self.load().faults]

    @hook
    def start(self) -> None:
        self.exempt = self.load()
        limits = Limits(
            self.settings.delay,
            self.settings.window,
            self.settings.keep * DAY,
            self.settings.auto,
            self.settings.entries,
        )
        self.records = Records(f"{self.state_folder()}/records.sqlite", limits)
        try:
            self.records.open()
        except sqlite3.Error as error:
            raise ConfigError(self.records.path, str(error)) from error

    @hook
    def stop(self) -> None:
        self.records.close()

    def load(self) -> Exempt:
        """Return greylist.white. Raises ConfigError where it cannot be read."""
        return Exempt.of(read_lines(self.context.home.control(LIST)) or [])

    @hook
    def smtp_rcpt_allowed(self, session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
        if session.may_relay or recipient.is_vouched or self.settings_for(session).skip:
            return None
        if self.exempt.has_client(session.remote_ip) or self.exempt.has_recipient(recipient.address):
            return None
        network = network_of(session.remote_ip, self.settings.ipv4, self.settings.ipv6)
        try:
            wait = self.records.wait(network, key_of(network, transaction.sender, recipient.address), int(time.time()))
        except sqlite3.Error as error:
            self.log(f"{self.records.path}: {error}")
            return None
        if wait == 0:
            return None
        self.log(f"{session.remote_ip} from {transaction.sender!r} to {recipient.address!r}: {wait} seconds to wait")
        return COME_BACK
