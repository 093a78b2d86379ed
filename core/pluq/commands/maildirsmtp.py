"""maildirsmtp dir prefix host helohost

Sends each message of the maildir `dir` whose recipient begins with `prefix`, without the prefix, to `host` (name or address, or
host:port) by SMTP, saying hello as `helohost`. What the host accepts is removed; what it refuses for good, or for two weeks, is
sent back. Exits 0 if nothing is left, else 111.

Source: maildirsmtp(1), serialsmtp(1) of serialmail.
"""

from __future__ import annotations

import socket
import sys

from pluq.commands.maildirserial import Broken, Letter, Outcome, host_and_port, send_maildir
from pluq.commands.terminal import die, help_asked
from pluq.mail.address import quote
from pluq.wire.smtp import END_OF_DATA, Reply, ReplyParser, capabilities, stuff_chunks

PORT = 25
CONNECT_SECONDS = 60
READ_SECONDS = 81
WRITE_SECONDS = 73
PIECE = 65536


def main() -> int:
    if help_asked(__doc__):
        return 0
    if len(sys.argv) < 5:
        die(100, "maildirsmtp: usage: maildirsmtp dir prefix host helohost")
    maildir, prefix, host, name = sys.argv[1:5]
    return send_maildir("maildirsmtp", maildir, prefix, lambda: SmtpLink(host_and_port(host, PORT), name))


class SmtpLink:
    """An SMTP session that waits for each reply, or sends its envelope commands together if the host takes that (RFC 2920)."""

    def __init__(self, address: tuple[str, int], name: str) -> None:
        self.parser = ReplyParser()
        self.replies: list[Reply] = []
        self.fresh = True
        try:
            self.socket = socket.create_connection(address, CONNECT_SECONDS)
        except OSError as error:
            raise Broken(f"unable to connect to {address[0]}: {error}") from error
        self.peer = self.socket.getpeername()[0].encode()
        self.pipelining = self.greet(name.encode(errors="surrogateescape"))

    def greet(self, name: bytes) -> bool:
        """Say hello; return whether the host takes commands without waiting for their replies."""
        if self.reply().code != 220:
            self.close()
            raise Broken("connected but greeting failed")
        reply = self.command(b"EHLO " + name)
        if reply.code == 250:
            return b"PIPELINING" in capabilities(reply.text)
        if self.command(b"HELO " + name).code != 250:
            self.close()
            raise Broken("connected but my name was rejected")
        return False

    def send(self, letter: Letter) -> Outcome:
        """Send one message. Raises Broken."""
        recipient = quote(letter.recipient)
        commands = [b"MAIL FROM:<%s>" % quote(letter.sender), b"RCPT TO:<%s>" % recipient, b"DATA"]
        if not self.fresh and self.command(b"RSET").code >= 400:
            raise Broken("protocol violation: RSET was rejected")
        self.fresh = False
        if ends_in_mid_line(letter):
            return Outcome("Z", b"SMTP cannot transfer messages with partial final lines")
        reply = self.envelope(commands)
        if reply.code < 400:
            for piece in stuff_chunks(iter(lambda: letter.file.read(PIECE), b"")):
                self.write(piece)
            self.write(END_OF_DATA)
            reply = self.reply()
        verdict = "D" if reply.code >= 500 else "Z" if reply.code >= 400 else "K"
        said = b"%s to: %s said: %s" % (self.peer, recipient, reply.text.rstrip(b"\n").rpartition(b"\n")[2])
        return Outcome(verdict, said)

    def envelope(self, commands: list[bytes]) -> Reply:
        """Give the commands up to DATA; return the first refusal, or the last reply."""
        if not self.pipelining:
            for line in commands:
                reply = self.command(line)
                if reply.code >= 400:
                    break
            return reply
        self.write(b"\r\n".join(commands) + b"\r\n")
        replies = [self.reply() for _ in commands]
        refusal = next((reply for reply in replies if reply.code >= 400), None)
        if refusal is not None and replies[-1].code < 400:
            raise Broken("protocol violation: DATA was accepted without a recipient")
        return refusal or replies[-1]

    def command(self, line: bytes) -> Reply:
        self.write(line + b"\r\n")
        return self.reply()

    def write(self, data: bytes) -> None:
        self.socket.settimeout(WRITE_SECONDS)
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Broken(f"network write error: {error}") from error

    def reply(self) -> Reply:
        """Wait for the next reply."""
        self.socket.settimeout(READ_SECONDS)
        try:
            while not self.replies:
                data = self.socket.recv(PIECE)
                if not data:
                    raise Broken("network read error: end of file")
                self.replies += self.parser.feed(data)
        except OSError as error:
            raise Broken(f"network read error: {error}") from error
        return self.replies.pop(0)

    def close(self) -> None:
        """Take leave without waiting for an answer."""
        try:
            self.socket.sendall(b"QUIT\r\n")
        except OSError:
            pass  # the host has left first
        self.socket.close()


def ends_in_mid_line(letter: Letter) -> bool:
    """Say whether the last line lacks its newline: SMTP would add one."""
    start = letter.file.tell()
    letter.file.seek(max(start, start + letter.size - 1))
    last = letter.file.read(1)
    letter.file.seek(start)
    return last not in (b"", b"\n")
