"""The daemon's end of HOME/run/todo: telling qmail-send what has come, hearing from it what may go.

One packet, one matter; but requests of qmail-send, which are short, share packets of up to 64 bytes, with a blank between them.

    to qmail-send      n NUMBER blank SIZE NUL TODO   a new message and the bytes of its todo file; they are left out
                                                      when they are long: it reads the file then
                       s                              look through todo/: something may have been missed
                       + NUMBER, ! NUMBER             answer to t: done, not done
    from qmail-send    m NUMBER                       delivered or never queued: todo, intd and mess may go
                       d NUMBER                       the same, but a stranger may still have the message file open for reading
                       t NUMBER                       preprocessed: todo and intd may go
                       c NUMBER                       a file in mess that seemed to be nobody's for 36 hours: it may go if it is

Where no qmail-send is connected, new messages pull lock/trigger, which is how a stock one hears of them.
"""

from __future__ import annotations

import contextlib
import socket

from pluq.errors import ProtocolError
from pluq.queue.committer import Committer

__all__ = ["TodoLink"]

# Longer todo files are not sent along.
MAX_TODO = 60000


class TodoLink:
    """The connection to qmail-send."""

    def __init__(self, sock: socket.socket, committer: Committer) -> None:
        self.sock = sock
        self.blocked = False
        self._committer = committer
        self._scan_wanted = False
        self._answers: list[bytes] = []

    def entered(self, number: int, size: int, todo: bytes) -> None:
        """Announce a message in S4."""
        if self._scan_wanted:
            return  # it will find this one as well
        packet = b"n%d %d\0" % (number, size)
        if len(todo) <= MAX_TODO:
            packet += todo
        if not self._send(packet):
            self._scan_wanted = True

    def take(self, packet: bytes) -> None:
        """Do what qmail-send asks, in its order. Raises ProtocolError."""
        for request in packet.split(b" "):
            self._carry_out(request)

    def _carry_out(self, request: bytes) -> None:
        letter, digits = request[:1], request[1:]
        if not digits.isdigit():
            raise ProtocolError("qmail-send sent no message number", blame="local")
        number = int(digits)
        if letter == b"m":
            self._committer.finish(number)
        elif letter == b"d":
            self._committer.finish(number, recycle=False)
        elif letter == b"c":
            self._committer.remove_stale(number)
        elif letter == b"t":
            self._committer.settle(number, lambda code: self._answer((b"!" if code else b"+") + digits))
        else:
            raise ProtocolError("qmail-send sent an unknown request", blame="local")

    def _answer(self, packet: bytes) -> None:
        if self._answers or not self._send(packet):
            self._answers.append(packet)

    def _send(self, packet: bytes) -> bool:
        """Send one packet; False when the socket is full (`blocked` says so until `flush`)."""
        if self.blocked:
            return False
        try:
            self.sock.send(packet)
        except (BlockingIOError, InterruptedError):
            self.blocked = True
            return False
        except OSError:
            self._hang_up()
        return True

    def _hang_up(self) -> None:
        """It is gone, or cannot be told now (no memory). Either way it looks through todo/ when it connects again."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def flush(self) -> None:
        """The socket takes packets again: say what had to wait."""
        self.blocked = False
        while self._answers and self._send(self._answers[0]):
            self._answers.pop(0)
        if self._scan_wanted and not self.blocked:
            self._scan_wanted = not self._send(b"s")
