"""rcptcheck: recipients that are not there are refused at RCPT, so that no bounce has to be sent for them later.

    goodrcptto(.cdb)       listed: no list refuses it, and nobody asks further
    morebadrcptto.cdb      listed: refused
    validrcptto...         lists of who is there (lists.py)
    existence              whether a delivery would find somebody (existence.py)
    RCPTCHECK              a program decides (program.py); also, on request, for clients that may relay
    CHKUSER_START          the checks and replies of chkuser, for senders too (chkuser.py)
    maxrcpt                so many recipients in one message
    brtlimit               so many bad recipients in one session, then the client is hung up on

Clients that may relay are asked only about maxrcpt. A lookup that fails is temporary; what cannot be seen is taken.

Source: validrcptto, chkuser, realrcptto, RCPTCHECK and maxrcpt patches; reference replies of patched qmail.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pluq import Defer, Disconnect, Plugin, Recipient, Reject, Session, Transaction, Verdict, hook, setting
from pluq.children import is_function
from pluq.config.settings import number_or_zero, switch
from pluq.errors import ConfigError, TemporaryFailure
from pluq.listen.fresh import Fresh
from pluq.smtpd.policy import RcptHosts, read_rcpthosts
from pluq.store.cdb import Cdb
from pluq.store.control import read_lines
from pluq_rcptcheck.chkuser import Chkuser
from pluq_rcptcheck.existence import Existence, Found
from pluq_rcptcheck.lists import is_in_cdb, is_listed, is_valid
from pluq_rcptcheck.program import NO_MAILBOX, ask_program

NOT_VALID = Reject(553, "5.7.1", "sorry, this recipient is not in my validrcptto list")
DENIED = Reject(553, "5.7.1", "sorry, your envelope recipient has been denied")
NOT_DELIVERABLE = Reject(550, "5.7.1", "sorry, this message is not deliverable")
UNUSABLE = Reject(555, "5.5.4", "syntax error")
UNKNOWN_NOW = Defer(451, "4.3.0", "unable to verify recipient")
TOO_MANY = Defer(452, "5.7.1", "max rcpt limit exceeded")
GOODBYE = Disconnect(Defer(421, "4.3.0", "too many invalid addresses, goodbye"))

ALL_VALID = "control/validrcptto.cdb"


def is_set(text: str) -> bool:
    """A variable that is there switches on, whatever it holds."""
    return True


@dataclass(frozen=True)
class Settings:
    existence: bool = setting(
        True, help="Refuse recipients for whom a delivery would find nobody; see the plugin's page for what it can see."
    )
    validrcptto: str = setting(
        "control/validrcptto",
        env="VALIDRCPTTO",
        help="A list of recipients to take and to refuse, relative to the qmail home.",
    )
    morevalidrcptto: str = setting(
        "control/morevalidrcptto.cdb", env="MOREVALIDRCPTTO_CDB", help="The same as a cdb, made by qmail-newmvrt."
    )
    validrcptto_cdb: str = setting(
        ALL_VALID, env="VALIDRCPTTO_CDB", help="A cdb of all recipients there are; empty: none. Any other is refused."
    )
    goodrcptto: str = setting(
        "control/goodrcptto", help="Recipients, or @domains, that are always taken; with .cdb a cdb of more."
    )
    morebadrcptto: str = setting("control/morebadrcptto.cdb", help="A cdb of recipients that are refused.")
    morebadrcptto_at: Literal["rcpt", "data"] = setting(
        "rcpt", help='When recipients in morebadrcptto are refused: "data" takes them and refuses the whole message.'
    )
    brtlimit: int = setting(
        0,
        unit="recipients",
        control="brtlimit",
        env="BRTLIMIT",
        parse_env=number_or_zero,
        help="After so many bad ones hang up; 0: never.",
    )
    validrcptto_limit: int = setting(
        10, unit="recipients", env="VALIDRCPTTO_LIMIT", help="The same where validrcptto_cdb is used and brtlimit is 0."
    )
    maxrcpt: int | None = setting(
        None, unit="recipients", control="maxrcpt", env="MAXRCPT", help="The most recipients of one message."
    )
    no_maxrcpt: bool = setting(False, env="DISABLE_MAXRCPT", parse_env=is_set, help="No such limit here.")
    program: str = setting("", env="RCPTCHECK", help="A program that decides on recipients.")
    program_for_relays: bool = switch(
        False, env="RCPTCHECKRELAYCLIENT", help="Ask the program also about recipients of clients that may relay."
    )
    seconds: float = setting(
        20.0, unit="seconds", help="The program is killed after so long, and the client hears 421."
    )


class RcptCheck(Plugin[Settings]):
    """Refuse recipients that are not there: by lists, by looking as a delivery would, by a program; count them."""

    name = "rcptcheck"
    budget = 60.0

    def __init__(self) -> None:
        self.rcpthosts = RcptHosts(None)
        self.existence: Existence | None = None
        self.chkuser: Chkuser | None = None
        self._files: dict[str, Fresh[Any]] = {}

    @hook
    def check(self) -> Sequence[str]:
        """A program that is not there would turn every recipient away."""
        program = self.settings.program
        if not program or os.access(os.path.join(self.context.home.path, program), os.X_OK):
            return []
        return [f"{self.resolved.values['program'].source}: rcptcheck.program: {program} cannot be run"]

    @hook
    def start(self) -> None:
        self.rcpthosts = read_rcpthosts(self.context.home)
        existence = Existence(self.context.home, time.monotonic)
        self.existence = existence if self.settings.existence else None
        self.chkuser = Chkuser(existence, self.context.resolver, self.log, self.delay)

    async def delay(self, seconds: float) -> None:
        if not self.is_shadow:
            await asyncio.sleep(seconds)

    def chkuser_for(self, session: Session) -> Chkuser | None:
        """Return the checks of chkuser where the rules switch them on for this client."""
        return self.chkuser if self.chkuser is not None and self.chkuser.is_on(session) else None

    # -- files

    def kept(self, path: str, read: Callable[[str], Any]) -> Any:
        """Return what a file says, read again when it changes; `path` is relative to the qmail home."""
        file = self._files.get(path)
        if file is None:
            file = self._files.get(path)
        if file is None:
            whole = os.path.join(self.context.home.path, path)
            file = self._files[path] = Fresh([whole], lambda: read(whole), self.log)
        return file.get(time.monotonic())

    def lines(self, path: str) -> frozenset[bytes] | None:
        found: frozenset[bytes] | None = self.kept(path, read_set) if path else None
        return found

    def cdb(self, path: str) -> Cdb | None:
        found: Cdb | None = self.kept(path, open_cdb) if path else None
        return found

    # -- the hooks

    @hook
    def smtp_connect(self, session: Session) -> None:
        """A list that is there and cannot be read ends the session at once, as in qmail."""
        self.lines(self.settings_for(session).validrcptto)

    @hook
    async def smtp_mail(self, session: Session, transaction: Transaction) -> Verdict | None:
        chkuser = self.chkuser_for(session)
        return None if chkuser is None else await chkuser.sender(session, transaction)

    @hook
    async def smtp_rcpt(self, session: Session, transaction: Transaction, recipient: Recipient) -> Verdict | None:
        settings = self.settings_for(session)
        if recipient.allowed and self.is_good(settings, recipient.address):
            recipient.is_vouched = True
        chkuser = None if recipient.is_vouched else self.chkuser_for(session)
        refused = None if chkuser is None else await chkuser.recipient(session, transaction, recipient)
        if refused is not None or recipient.is_vouched or not recipient.allowed:
            return refused
        limit = settings.brtlimit
        if not limit and not session.may_relay and self.all_valid(settings) is not None:
            limit = settings.validrcptto_limit
        return GOODBYE if limit and session.bad_recipients >= limit else None

    @hook
    async def smtp_rcpt_allowed(
        self, session: Session, transaction: Transaction, recipient: Recipient
    ) -> Verdict | None:
        settings = self.settings_for(session)
        is_found = False
        if not recipient.is_vouched and not session.may_relay:
            refused, is_found = await self.judge(settings, session, transaction, recipient)
            if refused is not None:
                session.bad_recipients += isinstance(refused, Reject)
                return refused
        refused = await self.ask_program(settings, session, transaction, recipient, is_found)
        if refused is not None:
            return refused
        limit = None if settings.no_maxrcpt else settings.maxrcpt
        return TOO_MANY if limit is not None and len(transaction.recipients) >= limit else None

    @hook
    def smtp_data(self, transaction: Transaction) -> Verdict | None:
        return NOT_DELIVERABLE if self.name in transaction.notes else None

    # -- questions

    def is_good(self, settings: Settings, address: bytes) -> bool:
        """Return whether goodrcptto, the list or its cdb, has an address."""
        good, more = self.lines(settings.goodrcptto), self.cdb(f"{settings.goodrcptto}.cdb")
        return (good is not None and is_listed(address, good.__contains__)) or (
            more is not None and is_listed(address, more.__contains__)
        )

    async def judge(
        self, settings: Settings, session: Session, transaction: Transaction, recipient: Recipient
    ) -> tuple[Verdict | None, bool]:
        """Return the refusal of a recipient, if any, and whether it is known to be there."""
        address = recipient.address
        bad = self.cdb(settings.morebadrcptto)
        if bad is not None and is_listed(address, bad.__contains__):
            if settings.morebadrcptto_at == "rcpt":
                return DENIED, False
            transaction.notes[self.name] = True
        valid = self.listed(settings, address)
        if valid is not None:
            return (None, True) if valid else (NOT_VALID, False)
        chkuser = self.chkuser_for(session)
        if chkuser is not None:
            return await chkuser.mailbox(session, transaction, recipient), False
        if self.existence is None:
            return None, False
        return await self.look(self.existence, address)

    def listed(self, settings: Settings, address: bytes) -> bool | None:
        """Return whether the lists of valid recipients take an address, None where they say nothing."""
        lines, more = self.lines(settings.validrcptto), self.cdb(settings.morevalidrcptto)

        def contains(entry: bytes) -> bool:
            return (lines is not None and entry in lines) or (more is not None and entry in more)

        valid = is_valid(address, contains)
        if valid is not None:
            return valid
        every = self.all_valid(settings)
        return None if every is None else is_in_cdb(address, every.get)

    def all_valid(self, settings: Settings) -> Cdb | None:
        """Return the cdb of all recipients. Raises ConfigError where the site names one that is not there."""
        path = settings.validrcptto_cdb
        every = self.cdb(path)
        if path and path != ALL_VALID and every is None:
            raise ConfigError(path, "missing: it is to list all recipients", None, "validrcptto_cdb")
        return every

    async def look(self, existence: Existence, address: bytes) -> tuple[Verdict | None, bool]:
        """Look an address up."""
        try:
            found = await existence.find(address)
        except TemporaryFailure as failure:
            self.log(f"{address!r}: {failure.text}")
            return UNKNOWN_NOW, False
        if found is Found.MISSING:
            return NO_MAILBOX, False
        return None, found is Found.YES

    async def ask_program(
        self, settings: Settings, session: Session, transaction: Transaction, recipient: Recipient, is_found: bool
    ) -> Verdict | None:
        if self.is_shadow or not settings.program or (session.may_relay and not settings.program_for_relays):
            return None
        address = recipient.address + (session.relay_suffix or b"")
        values = {"SENDER": transaction.sender, "RECIPIENT": address, "HELO": session.helo or b""}
        if any(is_function(value) for value in values.values()):
            return UNUSABLE
        found = {name: value for name, value in transaction.queue_environment.items() if value is not None}
        environment = {**session.environment, **found, "USE_FD4": "1"}
        environment |= {name: value.decode("utf-8", "surrogateescape") for name, value in values.items()}
        known = {"RCPTFOUND": is_found, "RCPTHOSTS": self.rcpthosts.allows(recipient.address)}
        for name, is_so in known.items():
            environment.pop(name, None)
            if is_so:
                environment[name] = "1"
        return await ask_program(settings.program, environment, self.context.home.path, settings.seconds)


def read_set(path: str) -> frozenset[bytes] | None:
    """Return the entries of a list in lower case, None where there is no file."""
    lines = read_lines(path)
    return None if lines is None else frozenset(line.lower() for line in lines)


def open_cdb(path: str) -> Cdb | None:
    try:
        return Cdb(path)
    except FileNotFoundError:
        return None
