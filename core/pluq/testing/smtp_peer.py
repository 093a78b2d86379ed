"""A mail server for tests, which takes everything except where the test says otherwise.

    with SmtpPeer(answers={"RCPT": b"550 no such user\\r\\n"}) as peer:
        ...deliver to peer.host, peer.port...
        assert peer.sessions[0].commands[-1] == b"QUIT"

`answers` maps a step to what happens there: bytes to send in place of the good answer, a `Fault`, or a list of them for its first,
second... occurrence on this server (None in a list is the good answer; after its end all is good). Steps: CONNECT, each verb in upper
case, and MESSAGE, the reply to the final dot. `capabilities` are announced to EHLO; with None EHLO is refused. With a `tls` context
STARTTLS works. Each connection is a `PeerSession`: its commands, the messages exactly as they came over the wire, and whether TLS was
on. It serves 127.0.0.1 (or `host`) from threads, so that programs under test can talk to it as well.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from types import TracebackType

MAX_LINE = 1 << 20
POLL_SECONDS = 0.05
# Connections that wait to be taken: one that finds no place is tried again by its kernel after seconds, then after more.
BACKLOG = 1024
PATIENCE = 60.0


class Fault(Enum):
    """What a peer can do instead of answering."""

    CLOSE = auto()
    SILENCE = auto()  # never answers, reads on, until the client or the test is done


Answer = bytes | Fault | None

GOOD = {
    "CONNECT": b"220 peer.test ESMTP\r\n",
    "HELO": b"250 peer.test\r\n",
    "MAIL": b"250 2.1.0 ok\r\n",
    "RCPT": b"250 2.1.5 ok\r\n",
    "DATA": b"354 go ahead\r\n",
    "MESSAGE": b"250 2.0.0 taken\r\n",
    "RSET": b"250 2.0.0 ok\r\n",
    "NOOP": b"250 2.0.0 ok\r\n",
    "QUIT": b"221 2.0.0 bye\r\n",
    "STARTTLS": b"220 go ahead\r\n",
}
UNKNOWN = b"500 what?\r\n"


@dataclass
class PeerSession:
    """What one client did. `messages` are wire bytes from after 354 up to and with the final dot."""

    commands: list[bytes] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    tls: bool = False
    client: str = ""


class SmtpPeer:
    """The server; see the module."""

    def __init__(
        self,
        answers: Mapping[str, Answer | Sequence[Answer]] | None = None,
        capabilities: Sequence[bytes] | None = (b"PIPELINING",),
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.sessions: list[PeerSession] = []
        self._answers = {
            step: list(answer) if isinstance(answer, list) else answer for step, answer in (answers or {}).items()
        }
        self._capabilities = capabilities
        self._tls = tls
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self.host = host
        self.port: int = self._listening.getsockname()[1]
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._listen, daemon=True)]

    def __enter__(self) -> SmtpPeer:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        with contextlib.suppress(OSError):
            socket.create_connection((self.host, self.port)).close()
        for thread in self._threads:
            thread.join()
        self._listening.close()

    @property
    def messages(self) -> list[bytes]:
        """All messages of all sessions."""
        return [message for session in self.sessions for message in session.messages]

    def _listen(self) -> None:
        while not self._stopped.is_set():
            connection, client = self._listening.accept()
            if self._stopped.is_set():
                connection.close()
                return
            session = PeerSession(client=client[0])
            self.sessions.append(session)
            thread = threading.Thread(target=_Conversation(self, connection, session).run, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _answer(self, step: str) -> Answer:
        """Return what happens at a step; a list is used up."""
        answer = self._answers.get(step)
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else None
        assert answer is None or isinstance(answer, (bytes, Fault))
        return answer if answer is not None else self._good(step)

    def _good(self, step: str) -> bytes:
        if step == "EHLO":
            if self._capabilities is None:
                return UNKNOWN
            words = [b"peer.test", *self._capabilities, *([b"STARTTLS"] if self._tls else [])]
            return b"".join(b"250-%b\r\n" % word for word in words[:-1]) + b"250 %b\r\n" % words[-1]
        return GOOD.get(step, UNKNOWN)


class _Gone(Exception):
    """The conversation is over."""


class _Conversation:
    """One connection of one client."""

    def __init__(self, peer: SmtpPeer, connection: socket.socket, session: PeerSession) -> None:
        self.peer = peer
        self.connection = connection
        self.session = session
        self.buffer = bytearray()
        connection.settimeout(POLL_SECONDS)

    def run(self) -> None:
        with contextlib.suppress(_Gone, OSError):
            self.say("CONNECT")
            while True:
                self.command(self.read_until(b"\n"))
        self.connection.close()

    def command(self, line: bytes) -> None:
        self.session.commands.append(line.rstrip(b"\r\n"))
        verb = line.split()[0].upper().decode("latin-1") if line.split() else ""
        said = self.say(verb)
        if verb == "DATA" and said.startswith(b"3"):
            message = b"" if self.peeked(b".\r\n") else self.read_until(b"\r\n.\r\n")
            self.session.messages.append(message or self.read_until(b".\r\n"))
            self.say("MESSAGE")
        elif verb == "STARTTLS" and said.startswith(b"220") and self.peer._tls is not None:
            self.start_tls(self.peer._tls)
        elif verb == "QUIT":
            raise _Gone

    def say(self, step: str) -> bytes:
        answer = self.peer._answer(step)
        if answer is Fault.CLOSE:
            raise _Gone
        if answer is Fault.SILENCE:
            while True:
                self.read_until(b"\n")
        assert isinstance(answer, bytes)
        self.connection.sendall(answer)
        return answer

    def start_tls(self, context: ssl.SSLContext) -> None:
        self.connection.settimeout(PATIENCE)
        self.connection = context.wrap_socket(self.connection, server_side=True)
        self.connection.settimeout(POLL_SECONDS)
        self.session.tls = True
        self.buffer.clear()

    def peeked(self, wanted: bytes) -> bool:
        """Return whether the next bytes are `wanted`."""
        while len(self.buffer) < len(wanted) and wanted.startswith(bytes(self.buffer)):
            self.receive()
        return self.buffer.startswith(wanted)

    def read_until(self, end: bytes) -> bytes:
        looked = 0
        while (at := self.buffer.find(end, max(0, looked - len(end)))) < 0:
            if len(self.buffer) > MAX_LINE << 6:
                raise _Gone
            looked = len(self.buffer)
            self.receive()
        data = bytes(self.buffer[: at + len(end)])
        del self.buffer[: at + len(end)]
        return data

    def receive(self) -> None:
        while True:
            if self.peer._stopped.is_set():
                raise _Gone
            try:
                data = self.connection.recv(65536)
            except TimeoutError:
                continue
            if not data:
                raise _Gone
            self.buffer += data
            return
