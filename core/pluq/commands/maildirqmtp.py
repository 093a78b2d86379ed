"""maildirqmtp dir prefix host

Sends each message of the maildir `dir` whose recipient begins with `prefix`, without the prefix, to `host` (name or address, or
host:port) by QMTP. What the host accepts is removed; what it refuses for good, or for two weeks, is sent back. Exits 0 if nothing
is left, else 111.

Source: maildirqmtp(1), serialqmtp(1) of serialmail. Ours waits for each answer before it sends the next message.
"""

from __future__ import annotations

import socket
import sys

from pluq.commands.maildirserial import Broken, Letter, Outcome, host_and_port, send_maildir
from pluq.commands.terminal import die, help_asked
from pluq.errors import ProtocolError
from pluq.wire.qmtp import Answer, Answers, encode_envelope, message_head

PORT = 209
CONNECT_SECONDS = 60
READ_SECONDS = 3600
WRITE_SECONDS = 73
PIECE = 65536


def main() -> int:
    if help_asked(__doc__):
        return 0
    if len(sys.argv) < 4:
        die(100, "maildirqmtp: usage: maildirqmtp dir prefix host")
    maildir, prefix, host = sys.argv[1:4]
    return send_maildir("maildirqmtp", maildir, prefix, lambda: QmtpLink(host_and_port(host, PORT)))


class QmtpLink:
    """A QMTP connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.answers = Answers()
        self.waiting: list[Answer] = []
        try:
            self.socket = socket.create_connection(address, CONNECT_SECONDS)
        except OSError as error:
            raise Broken(f"unable to connect to {address[0]}: {error}") from error
        self.peer = self.socket.getpeername()[0].encode()

    def send(self, letter: Letter) -> Outcome:
        """Send one message. Raises Broken."""
        try:
            self.socket.settimeout(WRITE_SECONDS)
            self.write(letter)
            self.socket.settimeout(READ_SECONDS)
            while not self.waiting:
                data = self.socket.recv(PIECE)
                if not data:
                    raise Broken("network read error: end of file")
                self.waiting += self.answers.feed(data)
        except ProtocolError as error:
            raise Broken(f"remote protocol violation: {error}") from error
        except OSError as error:
            raise Broken(f"network error: {error}") from error
        answer = self.waiting.pop(0)
        return Outcome(answer.verdict, b"%s said: %s" % (self.peer, answer.text))

    def write(self, letter: Letter) -> None:
        self.socket.sendall(message_head(letter.size))
        left = letter.size
        while left:
            piece = letter.file.read(min(PIECE, left))
            if not piece:
                raise Broken("a message became shorter while it was read")
            self.socket.sendall(piece)
            left -= len(piece)
        self.socket.sendall(b"," + encode_envelope(letter.sender, [letter.recipient]))

    def close(self) -> None:
        self.socket.close()
