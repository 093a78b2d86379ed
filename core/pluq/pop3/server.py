"""The resident POP3 server (ports 110 and 995), as a profile with `protocol = "pop3"`.

    run(home, listeners)     blocks until TERM

    client --TCP, TLS--> this server, qmailp --run/logins--> the role "logins", root --> checkpassword --> qmail-pop3d, the user
             \\________________________ stream ______________________________________________________/

The server greets, encrypts, and takes the name and the secret. It cannot check them: the role "logins" starts the checkpassword program with
one end of a stream, and from then on the server only passes bytes between the client and qmail-pop3d. What a client sends ahead of
the answer to PASS gets there as well, so it may pipeline.

TLS comes from a plugin (hook pop3_tls): at once on port 995, by STLS on port 110 (RFC 2595).

Rules (control/tcp.pop3), limits and log lines are as for SMTP; see pluq.listen. A session is a process of qmail-pop3d, so the default
limit is tcpserver's 40. One try a connection, and 20 minutes for each command, as with qmail-popup.

Source: qmail-popup(8), qmail-pop3d(8); RFC 1939, 2449, 2595.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

from pluq.config.home import Home
from pluq.errors import ClientGone, ProtocolError
from pluq.hookspecs.context import Session, TlsOffer
from pluq.listen import worker
from pluq.listen.gate import Gate
from pluq.listen.stream import Stream
from pluq.listen.worker import Listener
from pluq.pop3 import logins
from pluq.pop3.authorization import Authorization, Login
from pluq.pop3.descriptors import SECONDS
from pluq.pop3.dialogue import LINE_BYTES, OK, error, split_command
from pluq.pop3.login import CRASHED, NO_FORK

__all__ = ["Listener", "run"]

ROLE = "pop3d"
# Each session is a process: tcpserver's own default.
DEFAULT_CONCURRENCY = 40
READ_BYTES = 16384
PIECE_BYTES = 65536
# qmail-pop3d ends a silent session by itself; this is for a client that does not read.
GRACE_SECONDS = 60
# How long a program that has closed its stream may take to exit.
EXIT_SECONDS = 30.0
CAPABILITIES = (b"USER", b"TOP", b"UIDL", b"PIPELINING")
STLS = b"STLS"
NEEDS_TLS = (b"user", b"pass", b"apop")
FAILED = 1


@dataclass(frozen=True)
class Service:
    """What the connections of a profile share. `unique` counts the greetings, for APOP."""

    me: bytes | None
    unique: count[int] = field(default_factory=count)


class PopConnection(Stream):
    """One client: its login, then its session, which is a program's."""

    service: Service
    _is_logged_in = False

    @property
    def is_idle(self) -> bool:
        return not self._is_logged_in

    async def converse(self, session: Session) -> int:
        self._rest = b""
        self._is_encrypted = False
        offer = await self._offer(session)
        if offer is not None and offer.implicit:
            await self._encrypt(offer)
        try:
            login = await self._authorize(session, offer)
        except ProtocolError:
            await self.write(error(b"line too long"))
            return FAILED
        if login is None:
            return 0
        self._is_logged_in = True
        return await self._serve(session, login)

    async def _offer(self, session: Session) -> TlsOffer | None:
        """Return how this session may be encrypted."""
        ask = None if self.plan is None else self.plan.pop3_tls
        return None if ask is None else await ask(session=session)

    async def _encrypt(self, offer: TlsOffer) -> None:
        self._rest = b""
        await self.start_tls(offer.context)
        self._is_encrypted = True

    # -- AUTHORIZATION

    async def _authorize(self, session: Session, offer: TlsOffer | None) -> Login | None:
        """Talk until there is a login, or QUIT (None)."""
        unique = b"%d.%d.%d" % (os.getpid(), next(self.service.unique), int(time.time()))
        state = Authorization(os.fsencode(session.local_host), unique)
        await self.write(state.greeting())
        while not state.finished:
            offered = offer if not self._is_encrypted else None
            state.capabilities = (*CAPABILITIES, *([STLS] if offered else []))
            verb, argument = split_command(await self._line())
            if verb == b"stls" and offered is not None:
                await self.write(OK)
                await self._encrypt(offered)
                state.forget()
            elif offered is not None and offered.required and verb in NEEDS_TLS:
                await self.write(error(b"must issue STLS first"))
            else:
                await self.write(b"".join(state.command(verb, argument)))
        return state.login

    async def _line(self) -> bytes:
        """Return the next line without its LF. Raises ProtocolError for one that is too long, ClientGone at the end."""
        self.deadline = self.loop.time() + SECONDS
        while b"\n" not in self._rest:
            if len(self._rest) > LINE_BYTES:
                raise ProtocolError(f"a command line of more than {LINE_BYTES} bytes")
            data = await self.read(READ_BYTES)
            if not data:
                raise ClientGone("the client is gone")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    # -- TRANSACTION

    async def _serve(self, session: Session, login: Login) -> int:
        """Have the login checked, and pass bytes until the session has ended."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                asked = await self._ask(session, login, theirs)
        except OSError as fault:
            ours.close()
            self.gate.log.remark(f"{self.ip}: cannot ask for a login: {fault}")
            await self.write(error(NO_FORK))
            return FAILED
        with asked:
            reader, writer = await asyncio.open_connection(sock=ours)
            upwards = self.loop.create_task(self._pass_up(writer))
            try:
                await self._pass_down(reader)
            finally:
                upwards.cancel()
                writer.close()
            refusal = await self._ending(asked)
        if refusal is None:
            return 0
        await self.write(error(refusal))
        return FAILED

    async def _ask(self, session: Session, login: Login, stream: socket.socket) -> socket.socket:
        """Hand a login in; return where the end of it will be told. Raises OSError."""
        path = f"{self.gate.worker.home.run}/logins"
        asked = await asyncio.to_thread(logins.connect, path)
        packet = logins.encode(session.profile, login.checkpassword(), session.environment)
        try:
            socket.send_fds(asked, [packet], [stream.fileno()])
        except OSError:
            asked.close()
            raise
        return asked

    async def _pass_up(self, writer: asyncio.StreamWriter) -> None:
        """Pass on what the client sends, what it has sent ahead first."""
        data, self._rest = self._rest, b""
        try:
            while data or (data := await self.read(PIECE_BYTES)):
                self._extend()
                writer.write(data)
                await writer.drain()
                data = b""
            writer.write_eof()
        except OSError:
            return  # the program reads no more; it ends, and that is told

    async def _pass_down(self, reader: asyncio.StreamReader) -> None:
        """Pass on what the program says, until it says no more. Raises ClientGone."""
        try:
            while data := await reader.read(PIECE_BYTES):
                self._extend()
                await self.write(data)
        except ConnectionError:
            return  # it ended without reading everything

    def _extend(self) -> None:
        self.deadline = self.loop.time() + SECONDS + GRACE_SECONDS

    async def _ending(self, asked: socket.socket) -> bytes | None:
        """Return the text of the refusal, None after a session."""
        try:
            async with asyncio.timeout(EXIT_SECONDS):
                told = await self.loop.sock_recv(asked, logins.REQUEST_BYTES)
        except (OSError, TimeoutError):
            return CRASHED
        return None if told == logins.DONE else told or CRASHED


class PopGate(Gate[Service, PopConnection]):
    """One POP3 profile in one worker."""

    role = ROLE
    files = ("me",)
    concurrency_file = None
    default_concurrency = DEFAULT_CONCURRENCY
    too_many = error(b"too many connections from your address")
    trouble = error(b"unable to read controls")

    def make_service(self) -> Service:
        return Service(self.worker.home.controls.me())

    def host(self, service: Service) -> bytes | None:
        return service.me

    def connection(self) -> PopConnection:
        return PopConnection(self)


def run(home: Home, listeners: Sequence[Listener]) -> int:
    """Serve until TERM. Raises ConfigError for what keeps it from beginning."""
    return worker.run(home, listeners, ROLE, PopGate)
