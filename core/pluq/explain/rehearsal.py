"""The profile's real session, with all its plugins, and nobody at the other end: what it would say, and who made it say so.

Replies are the session's own. Who made one is found by what was heard from the plugins meanwhile: a verdict with this reply, now or kept from
before (a refused HELO, a verdict for later); else it is the core's, whose control file is known by the reply.

TLS is not spoken; both sides go on as if it was. A message is read, shown to the plugins, answered and forgotten: nothing is queued.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pluq.config import Home
from pluq.config.site import Profile, Site
from pluq.dns import Resolver
from pluq.explain.listener import Heard, Listener
from pluq.explain.places import control_line, line_or_me, listed
from pluq.explain.step import text
from pluq.hookspecs import Session
from pluq.mail.address import parse_path
from pluq.plan import EMPTY, Plan
from pluq.plan.compile import compile_plan
from pluq.queue.refusal import Receipt
from pluq.smtpd import replies
from pluq.smtpd.connection import Connection
from pluq.smtpd.offline import OfflineDriver
from pluq.smtpd.policy import Policy, read_policy
from pluq.smtpd.session import Service, SmtpSession

# The control file behind a reply of the core, where there is one.
BEHIND = {
    replies.BAD_SENDER: "badmailfrom",
    replies.NO_GATEWAY: "rcpthosts",
    replies.TOO_LARGE: "databytes",
    replies.TIMEOUT: "timeoutsmtpd",
}


class Nowhere:
    """A queue that takes everything and keeps nothing."""

    async def open(self) -> Nowhere:
        return self

    def write(self, chunk: bytes) -> None: ...

    def abort(self) -> None: ...

    async def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        return Receipt(0)


@dataclass(frozen=True)
class Exchange:
    """What came of one line of the client: the reply, what made it, and what the plugins were asked meanwhile.

    `is_last`: the session has ended.
    """

    reply: bytes
    by: str
    heard: Sequence[Heard]
    is_last: bool = False

    @property
    def code(self) -> int:
        """The code of the last line of the reply, 0 without a reply."""
        last = self.reply.rstrip(b"\r\n").rpartition(b"\n")[2][:3]
        return int(last) if last.isdigit() else 0


def prepare(
    home: Home,
    site: Site,
    profile: Profile,
    listener: Listener,
    log: Callable[[str], None],
    read_file: Callable[[str], bytes] | None,
    resolver: Callable[[], Resolver],
) -> Service:
    """Return the service of a profile as its server makes it, but for the queue. Raises ConfigError."""
    plan = EMPTY
    if profile.plugins:
        plan = compile_plan(
            home, site, profile.name, role="smtpd", log=log, resolver=resolver, read_file=read_file, watch=listener
        )
    nowhere = Nowhere()

    def submitter(environment: Mapping[str, str]) -> Nowhere:
        return nowhere

    return Service(read_policy(home), plan, submitter, log, profile.name)


class Rehearsal:
    """One session and its client. Call `begin` first, then `say`, `login` and `end`."""

    def __init__(self, home: Home, service: Service, session: Session, listener: Listener, relay_by: str) -> None:
        """`relay_by` is what set RELAYCLIENT before the session began, if something did."""
        self.home = home
        self.session = session
        self.plan: Plan = service.plan
        self.policy: Policy = service.policy
        self.relay_by = relay_by
        self._listener = listener
        self._driver = OfflineDriver()
        self._smtp = SmtpSession(self._driver, service, session)
        self._driver.resumed = self._smtp.resumed
        self._kept: list[Heard] = []
        self._line = b""

    def place_of(self, plugin: str) -> str:
        return self._listener.place_of(plugin)

    @property
    def is_over(self) -> bool:
        return self._driver.is_closed

    @property
    def awaits_secret(self) -> bool:
        """True if the next line is part of a login."""
        return self._driver.is_waiting and self._line[:5].upper() == b"AUTH "

    @property
    def is_discarding(self) -> bool:
        """True if a plugin wants the message of this transaction dropped."""
        return self._smtp.is_discarding

    @property
    def sender(self) -> bytes | None:
        return None if self._smtp.transaction is None else self._smtp.transaction.sender

    @property
    def recipients(self) -> list[bytes]:
        """The recipients that were taken, as they will be queued."""
        transaction = self._smtp.transaction
        return [] if transaction is None else [one.address for one in transaction.recipients]

    async def begin(self) -> Exchange:
        """Start the plugins and connect."""
        if self.plan.start is not None:
            await self.plan.start()
        self._smtp.begin()
        return await self._exchange()

    async def say(self, line: bytes) -> Exchange:
        """Send a line, without its line end."""
        if not self._driver.is_waiting:
            self._line = line
        self._smtp.feed(line + b"\r\n")
        self._driver.wake(True)
        return await self._exchange()

    async def login(self, user: bytes) -> Exchange:
        """Go on as after a login of this user. Empty where no plugin knows logins."""
        self._line = b"AUTH"
        if self.plan.smtp_login_as is not None:
            await self.plan.smtp_login_as(session=self.session, connection=Connection(self._smtp), user=user)
        return await self._exchange()

    async def end(self) -> None:
        """Hang up and stop the plugins."""
        self._smtp.end_of_input()
        self._driver.wake(False)
        await self._driver.settled()
        if self.plan.stop is not None:
            await self.plan.stop()

    async def _exchange(self) -> Exchange:
        await self._driver.settled()
        reply, self._driver.said = self._driver.said, b""
        heard = self._listener.take()
        self._note_relay(heard)
        by = self._made_by(reply, heard) if reply else ""
        self._kept += [one for one in heard if one.reply is not None]
        return Exchange(reply, by, heard, self.is_over)

    def _note_relay(self, heard: Sequence[Heard]) -> None:
        """Remember what let the client relay, when it first may."""
        if self.session.may_relay and not self.relay_by:
            self.relay_by = heard[-1].by if heard else "the environment"
        elif not self.session.may_relay:
            self.relay_by = ""

    def _made_by(self, reply: bytes, heard: Sequence[Heard]) -> str:
        """Return what made a reply."""
        last = reply.rstrip(b"\r\n").rpartition(b"\n")[2] + b"\r\n"
        verb = self._line.partition(b" ")[0].upper().decode("ascii", "replace")
        for one in reversed(heard):
            if one.hook in (verb, "smtp_login_as") or (one.reply is not None and one.reply.endswith(last)):
                return one.by
        for one in heard:
            if one.error is not None and last[:1] == b"4":
                return f"{one.by}, which {one.said()}"
        for one in reversed(self._kept):
            if one.reply is not None and one.reply == last and last[:1] in b"45":
                return f"{one.by}, said before"
        words = dict.fromkeys(one.plugin for one in heard if one.hook == "smtp_capabilities" and one.answer)
        return self._of_core(last) + (f", with words of {', '.join(words)}" if words else "")

    def _of_core(self, reply: bytes) -> str:
        """Return what made a reply that no plugin gave."""
        verb = self._line[:4].upper()
        if reply == replies.OK and verb == b"RCPT":
            return self._allowed_by(parse_path(self._line)[0])
        if reply == replies.BAD_SENDER and self.sender is not None:
            return listed(self.home, "badmailfrom", self.policy.bad_sender_entry(self.sender) or b"")
        if not self._line and reply.startswith(b"220 "):
            return line_or_me(self.home, "smtpgreeting")
        name = BEHIND.get(reply)
        return "core" if name is None else control_line(self.home, name, lambda line: False)

    def _allowed_by(self, address: bytes) -> str:
        """Return what lets a recipient in that was taken."""
        if self.session.may_relay:
            return f"RELAYCLIENT, from {self.relay_by}"
        entry = self.policy.rcpthosts.entry(address)
        if entry is None:
            return "core"
        name, line = entry
        if not name:
            is_there = os.path.exists(self.home.control("rcpthosts"))
            return (
                "no domain: rcpthosts is not asked"
                if is_there
                else "there is no control/rcpthosts: mail for everybody is taken"
            )
        return listed(self.home, name, line) if name == "rcpthosts" else f"control/{name} ({text(line)})"
