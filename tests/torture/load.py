"""Clients that send and write down what they were promised. A broken or refused session promised nothing, and is tried again as a new message."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from tests.torture.ledger import Ledger, compose

# Small ones are recycled by the queue daemon, large ones are not.
SIZES = (100, 1000, 4000, 4000, 30_000, 200_000)
REPLY_SECONDS = 20.0
PAUSE_SECONDS = 0.05


class RefusedError(Exception):
    """The server said no, or went away."""


class Session:
    """One connection. Raises OSError and RefusedError."""

    def __init__(self, host: str, port: int, timeout: float = REPLY_SECONDS) -> None:
        self._sock = socket.create_connection((host, port), timeout)
        self._file = self._sock.makefile("rb")
        self._expect(b"220")
        self._say(b"HELO torture\r\n", b"250")

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def send(self, sender: str, recipients: Sequence[str], message: bytes) -> None:
        """Send a message; when this returns, 250 was said."""
        self._say(b"MAIL FROM:<%b>\r\n" % sender.encode(), b"250")
        for recipient in recipients:
            self._say(b"RCPT TO:<%b>\r\n" % recipient.encode(), b"250")
        self._say(b"DATA\r\n", b"354")
        stuffed = b"".join(b"." + line if line.startswith(b".") else line for line in message.splitlines(True))
        self._say(stuffed.replace(b"\n", b"\r\n") + b".\r\n", b"250")

    def _say(self, data: bytes, wanted: bytes) -> None:
        self._sock.sendall(data)
        self._expect(wanted)

    def _expect(self, wanted: bytes) -> None:
        while True:
            line = self._file.readline(4096)
            if line[:3] != wanted or line[-1:] != b"\n":
                raise RefusedError(line)
            if line[3:4] != b"-":
                return


@dataclass(frozen=True)
class Letter:
    """Who sends, to whom, and who must get something in the end: a bounce takes the place of a recipient that does not exist."""

    sender: str
    recipients: tuple[str, ...]
    expected: tuple[str, ...]


class Client:
    """Sends messages of one kind, each noted in the ledger."""

    def __init__(self, ledger: Ledger, host: str, port: int, letter: Letter) -> None:
        self.ledger = ledger
        self.address = (host, port)
        self.letter = letter
        self._session: Session | None = None

    def send(self, size: int = 1000) -> str | None:
        """Try once; return the token when 250 was said."""
        token = self.ledger.begin(self.letter.expected)
        try:
            if self._session is None:
                self._session = Session(*self.address)
            self._session.send(self.letter.sender, self.letter.recipients, compose(token, size))
        except (OSError, RefusedError):
            self.close()
            return None
        self.ledger.accept(token)
        return token

    def send_surely(self, size: int = 1000, patience: float = 60.0) -> str:
        """Try until 250 is said. Raises TimeoutError."""
        deadline = time.monotonic() + patience
        while (token := self.send(size)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing was accepted for {patience:.0f} s")
            time.sleep(PAUSE_SECONDS)
        return token

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


class Load:
    """Several clients at once, each in a thread, until `count` messages were accepted in all or it is left."""

    def __init__(
        self,
        ledger: Ledger,
        host: str,
        port: int,
        letter: Letter,
        clients: int,
        count: int,
        sizes: Sequence[int] = SIZES,
    ) -> None:
        self._make = lambda: Client(ledger, host, port, letter)
        self._ledger = ledger
        self._count = count
        self._sizes = sizes
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(seed,), daemon=True) for seed in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(REPLY_SECONDS * 3)

    @property
    def done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, seed: int) -> None:
        dice = random.Random(seed)
        client = self._make()
        while not self._ending.is_set() and len(self._ledger.accepted) < self._count:
            if client.send(dice.choice(self._sizes)) is None:
                self._ending.wait(PAUSE_SECONDS)
            elif dice.random() < 0.2:
                client.close()
        client.close()
