"""milter: let filters that speak sendmail's milter protocol look at mail: rspamd, clamav-milter, opendkim, opendmarc, spamass-milter.

    plugins = ["milter"]
    milter.servers = ["inet:127.0.0.1:11332", "unix:/run/clamav/clamav-milter.ctl"]

A message is shown to each in turn: who sends (at MAIL), each recipient (at RCPT, when rcpthosts has let it in), header and body (after DATA). One that
is refused is not shown to the next; what one changes, the next sees. They are asked in the session, so a refusal is a reply to the client
and never a bounce. One connection of a milter serves one message.

A milter that is away, late or makes no sense is a failure of the plugin: 451, or nothing with `on_error = "skip"`. Quarantine is not offered.

Source: libmilter's documentation; the names of macros are sendmail's.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from pluq import (
    Discard,
    Message,
    Plugin,
    Recipient,
    Session,
    Transaction,
    Verdict,
    hook,
    setting,
)
from pluq.errors import TemporaryFailure
from pluq_milter.conversation import Answer, Conversation, Server, has_leading_space, pieces
from pluq_milter.edits import apply, body_of, fields_of
from pluq_milter.packets import MilterError, mail_arguments, texts

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Settings:
    servers: tuple[str, ...] = setting(
        (), help="Milters, in the order in which they are asked: inet:HOST:PORT, inet:PORT@HOST or unix:/PATH."
    )
    patience: float = setting(60.0, unit="seconds", help="How long one answer may take.")
    skip: bool = setting(False, env="MILTERSKIP", help="Ask nobody about mail of this connection.")


class Milter(Plugin[Settings]):
    """Let milters judge and change mail."""

    name = "milter"
    budget = 300.0
    """Seconds for a whole message: scanners take their time, and say so."""
    servers: tuple[Server, ...] = ()

    @hook
    def check(self) -> Sequence[str]:
        """Name what is no place of a milter."""
        faults = [] if self.settings.servers else ["servers: names no milter"]
        for text in self.settings.servers:
            try:
                Server(text)
            except ValueError as error:
                faults.append(f"servers: {error}")
        return faults

    @hook
    def start(self) -> None:
        self.servers = tuple(Server(text) for text in self.settings.servers)

    @hook
    async def smtp_mail(self, session: Session, transaction: Transaction) -> Verdict | None:
        settings = self.settings_for(session)
        if settings.skip:
            return None
        transaction.notes[self.name] = asked = []
        mail = mail_arguments(transaction.sender, list(transaction.parameters.items()))
        for server in self.servers:
            one = Conversation(server, settings.patience)
            asked.append(one)
            answer = await self.told(one, introduce(one, session, mail, transaction))
            if answer is not None:
                return answer
        return None

    @hook
    async def smtp_rcpt_allowed(
        self, session: Session, transaction: Transaction, recipient: Recipient
    ) -> Verdict | None:
        words = mail_arguments(recipient.address, list(recipient.parameters.items()))
        for one in self.asked(transaction):
            answer = await self.told(one, one.ask(b"R", words, {b"{rcpt_addr}": recipient.address}))
            if answer is not None:
                return answer
        return None

    @hook
    async def smtp_data(self, transaction: Transaction) -> Verdict | None:
        for one in self.asked(transaction):
            answer = await self.told(one, one.ask(b"T"))
            if answer is not None:
                return answer
        return None

    @hook
    async def message_edit(self, transaction: Transaction, message: Message) -> Verdict | None:
        for one in self.asked(transaction):
            if not one.is_over:
                answer = await self.told(one, show(one, message, transaction))
                if answer is not None:
                    return answer
            if one.discards:
                return Discard(f"{one.server.text} discards it")
        return None if transaction.recipients else Discard("no recipient is left")

    @hook
    def transaction_end(self, transaction: Transaction) -> None:
        for one in self.asked(transaction):
            one.close()

    def asked(self, transaction: Transaction) -> list[Conversation]:
        found: list[Conversation] = transaction.notes.get(self.name, [])
        return found

    async def told(self, one: Conversation, work: Coroutine[object, object, Answer]) -> Answer:
        """Return the answer; a milter that has none is a temporary failure."""
        try:
            return await work
        except MilterError as error:
            one.close()
            raise TemporaryFailure(f"{one.server.text}: {error}") from error


async def introduce(one: Conversation, session: Session, mail: bytes, transaction: Transaction) -> Answer:
    """Connect, and tell who sends. Raises MilterError."""
    await one.open()
    answer = await one.ask(b"C", client(session), connection_macros(session))
    if answer is None:
        answer = await one.ask(b"H", texts(session.helo or b""), tls_macros(session))
    if answer is None:
        answer = await one.ask(b"M", mail, mail_macros(session, transaction))
    return answer


async def show(one: Conversation, message: Message, transaction: Transaction) -> Answer:
    """Show a milter the message, and do to it what it wants. Raises MilterError."""
    with_space = has_leading_space(one.options)
    macros = {b"i": queue_name(transaction)}
    answer, changes = await one.message(fields_of(message, with_space), pieces(body_of(message)), macros)
    apply(changes, message, transaction, with_space)
    return answer


def client(session: Session) -> bytes:
    """Return the data of the command that tells who has connected: name, family, port, address."""
    host = texts(session.remote_host.encode("utf-8", "surrogateescape"))
    try:
        address = ip_address(session.remote_ip)
    except ValueError:
        return host + b"U"
    family = b"4" if address.version == 4 else b"6"
    return host + family + session.remote_port.to_bytes(2, "big") + texts(str(address).encode())


def connection_macros(session: Session) -> Mapping[bytes, bytes]:
    name = session.greeting or session.local_host.encode("utf-8", "surrogateescape")
    return {
        b"j": name,
        b"{daemon_name}": session.profile.encode(),
        b"{daemon_addr}": session.local_ip.encode(),
        b"{daemon_port}": b"%d" % session.local_port,
        b"{client_addr}": session.remote_ip.encode(),
        b"{client_name}": session.remote_host.encode("utf-8", "surrogateescape"),
        b"v": b"pluq",
    }


def tls_macros(session: Session) -> Mapping[bytes, bytes]:
    if session.tls is None:
        return {}
    subject = (session.tls.client_subject or "").encode("utf-8", "surrogateescape")
    return {
        b"{tls_version}": session.tls.version.encode(),
        b"{cipher}": session.tls.cipher.encode(),
        b"{cert_subject}": subject,
        b"{verify}": b"OK" if subject else b"NO",
    }


def mail_macros(session: Session, transaction: Transaction) -> Mapping[bytes, bytes]:
    macros = {b"i": queue_name(transaction), b"{mail_addr}": transaction.sender}
    if session.login is not None:
        macros |= {b"{auth_authen}": session.login.user, b"{auth_type}": session.login.mechanism.encode()}
    return macros


def queue_name(transaction: Transaction) -> bytes:
    """Return a name for the message in a milter's log: it has no number in the queue yet."""
    name: bytes = transaction.notes.setdefault("milter.name", b"%d.%d" % (os.getpid(), next(_numbers)))
    return name
