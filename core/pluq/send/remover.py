"""Who removes queue files that the scheduler may not touch: mess/, todo/ and intd/ belong to qmailq.

    qmail-clean   two pipes: "todo/N" or "foop/N" and a NUL out, one byte in; `+` is done
    the daemon    run/todo: `tN` answered `+N` or `!N` when it is durable, `mN` and `cN` without an answer; those of one turn share packets

`todo`: intd/N and todo/N go, the message is preprocessed. `message`: it is finished, whatever is left of it goes; the daemon
uses its file again. `stale`: its file seems to belong to no message; the daemon knows better which are its own. Requests are
carried out in order, so the answer to a later one says that the todo files of all messages before it are gone: `t0`, which is no
message's number, asks for nothing else.

Source: qmail-clean(8), the foop and todo requests in qmail-send.c.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from socket import socket
from typing import Protocol

Answered = Callable[[int, bool], None]
"""Called with the message's number, and whether its todo file is gone."""

NO_MESSAGE = 0
ASK = b"t%d" % NO_MESSAGE
NOTICES_A_TURN = 256
"""Packets read in one turn: reports of deliveries must not wait behind a flood of new messages."""
PACKET_BYTES = 66_000
"""The daemon leaves out envelopes above 60000 bytes."""
REQUESTS_BYTES = 64
"""So much the daemon reads of one packet."""


class Remover(Protocol):
    """Removes on behalf of the scheduler."""

    recycles: bool
    """Message files are used again, so the envelope must be gone for good before one is let go."""

    def remove_todo(self, number: int, answered: Answered) -> None:
        """Have intd/N and todo/N removed; `answered` is called at once or in a later turn."""

    def remove_message(self, number: int) -> None:
        """Have everything that is left of a finished message removed."""

    def remove_stale(self, number: int) -> None:
        """Have a message file removed that seemed to belong to no message when it was looked at."""

    def ask(self, answered: Callable[[], None]) -> None:
        """Call `answered`, at once or in a later turn, when the requests before this one are carried out."""


class CleanPipes:
    """qmail-clean, as qmail-start connects it. Each request waits for its answer. `lost` is called when it is gone."""

    recycles = False

    def __init__(self, writer: int, reader: int, warn: Callable[[str], None], lost: Callable[[], None]) -> None:
        self._writer = writer
        self._reader = reader
        self._warn = warn
        self._lost = lost

    def remove_todo(self, number: int, answered: Answered) -> None:
        answered(number, self._request(f"todo/{number}"))

    def remove_message(self, number: int) -> None:
        self._request(f"foop/{number}")

    def remove_stale(self, number: int) -> None:
        self.remove_message(number)

    def ask(self, answered: Callable[[], None]) -> None:
        answered()

    def _request(self, name: str) -> bool:
        try:
            os.write(self._writer, name.encode() + b"\0")
            answer = os.read(self._reader, 1)
        except OSError:
            answer = b""
        if not answer:
            self._lost()
        elif answer != b"+":
            self._warn(f"qmail-clean unable to clean up {name}")
        return answer == b"+"


class DaemonLink:
    """The queue daemon: tells of new messages, removes what is done. What it cannot take now waits here in order."""

    recycles = True

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._sock: socket | None = None
        self._out: deque[bytes] = deque()
        self._answers: dict[int, Answered] = {}
        self._asked: deque[Callable[[], None]] = deque()
        self._buffer = bytearray(PACKET_BYTES)

    @property
    def connected(self) -> bool:
        return self._sock is not None

    @property
    def idle(self) -> bool:
        """Nothing waits to be sent, and no message to be answered for."""
        return not self._out and not self._answers

    def connect(self, sock: socket) -> set[int]:
        """Go on with a new connection: what the last daemon did not answer is asked again.

        Returns the messages that the last one was not told of and this one will be.
        """
        sock.setblocking(False)
        self._sock = sock
        finished = [packet for packet in self._out if packet[:1] == b"m"]
        self._out = deque([b"t%d" % number for number in self._answers] + [ASK for _ in self._asked] + finished)
        return {int(packet[1:]) for packet in finished}

    def disconnect(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def fileno(self) -> int:
        assert self._sock is not None
        return self._sock.fileno()

    def remove_todo(self, number: int, answered: Answered) -> None:
        self._answers[number] = answered
        self._out.append(b"t%d" % number)

    def remove_message(self, number: int) -> None:
        self._out.append(b"m%d" % number)

    def remove_stale(self, number: int) -> None:
        self._out.append(b"c%d" % number)

    def ask(self, answered: Callable[[], None]) -> None:
        self._asked.append(answered)
        self._out.append(ASK)

    def write(self) -> bool:
        """Send what waits; True when nothing does. Raises OSError when the daemon is gone."""
        if self._sock is None:
            return True
        out = self._out
        try:
            while out:
                requests = fitting(out)
                self._sock.send(b" ".join(requests))
                for _ in requests:
                    out.popleft()
        except BlockingIOError:
            return False
        return True

    def read(self, noticed: Callable[[bytes], None]) -> bool:
        """Give on what has come: answers, and to `noticed` the notices (`n...` and `s`). False when the daemon is gone.

        In the order in which it came: a notice before an answer is about what was in the queue by then, one behind it about what is new.
        """
        assert self._sock is not None
        view = memoryview(self._buffer)
        for _ in range(NOTICES_A_TURN):
            try:
                size = self._sock.recv_into(self._buffer)
            except BlockingIOError:
                break
            except OSError:
                return False
            if not size:
                return False
            packet = bytes(view[:size])
            if packet[:1] in b"+!":
                self._answer(int(packet[1:]), packet[:1] == b"+")
            else:
                noticed(packet)
        return True

    def _answer(self, number: int, done: bool) -> None:
        if number == NO_MESSAGE:
            if self._asked:
                self._asked.popleft()()
            return
        answered = self._answers.pop(number, None)
        if answered is None:
            return
        if not done:
            self._warn(f"the queue daemon is unable to clean up todo/{number}")
        answered(number, done)


def fitting(requests: Iterable[bytes]) -> list[bytes]:
    """Return the first requests, as many as share a packet."""
    packet = []
    size = -1
    for request in requests:
        size += len(request) + 1
        if size > REQUESTS_BYTES:
            break
        packet.append(request)
    return packet
