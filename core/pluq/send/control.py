"""run/send: where `pluq queue` and `pluq send-test` reach the resident scheduler. Packets as in pluq.wire.steer.

The socket lies where only root, or the one user of the stack, may connect; the kernel says who it is. An order is carried out when it
is read, and answered when the turn has settled: then it survives a crash. Who follows the log and does not keep up is cut off.
"""

from __future__ import annotations

import os
import selectors
import socket

from pluq import log
from pluq.errors import ProtocolError
from pluq.queue.qmqp_server import peer_of
from pluq.send.scheduler import Scheduler
from pluq.send.steering import Steering
from pluq.wire.steer import FOLLOW, PACKET_BYTES, Order, decode_order, encode_answer

CLIENTS_MAX = 32


class Control:
    """Serves the socket in the scheduler's loop."""

    def __init__(self, scheduler: Scheduler, listener: socket.socket) -> None:
        self._scheduler = scheduler
        self._steering = Steering(scheduler)
        self._listener = listener
        self._clients: set[socket.socket] = set()
        self._followers: set[socket.socket] = set()
        self._answers: list[tuple[socket.socket, bytes]] = []
        listener.setblocking(False)
        scheduler.selector.register(listener, selectors.EVENT_READ, self._accept)

    def _accept(self, _events: int) -> None:
        try:
            client, _address = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= CLIENTS_MAX or peer_of(client)[0] not in (0, os.getuid()):
            client.close()
            return
        client.setblocking(False)
        self._clients.add(client)
        self._scheduler.selector.register(client, selectors.EVENT_READ, lambda _events: self._read(client))

    def _read(self, client: socket.socket) -> None:
        """Take one order; the next one is for the next turn."""
        try:
            packet = client.recv(PACKET_BYTES + 1)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._close(client)
            return
        try:
            order = decode_order(packet)
        except ProtocolError as error:
            self._scheduler.common.log(log.warning(f"run/send: {error}"))
            self._close(client)
            return
        self._obey(client, order)

    def _obey(self, client: socket.socket, order: Order) -> None:
        if order.verb == FOLLOW:
            self._followers.add(client)
            self._scheduler.common.lines.also = self._tell
            self._answers.append((client, b"\0"))
            return
        outcomes = self._steering.obey(order, peer_of(client)[0])
        self._answers.append((client, encode_answer(outcomes.items())))

    def write(self) -> None:
        """Answer what was asked in this turn, which has settled."""
        answers, self._answers = self._answers, []
        for client, answer in answers:
            self._send(client, answer)

    def _tell(self, lines: bytes) -> None:
        """Give the lines of a turn to whoever follows."""
        for packet in packets_of(lines):
            for client in tuple(self._followers):
                self._send(client, packet)

    def _send(self, client: socket.socket, packet: bytes) -> None:
        if client not in self._clients:
            return
        try:
            client.send(packet)
        except OSError:
            self._close(client)

    def _close(self, client: socket.socket) -> None:
        self._scheduler.selector.unregister(client)
        self._clients.discard(client)
        self._followers.discard(client)
        if not self._followers:
            self._scheduler.common.lines.also = None
        client.close()


def packets_of(lines: bytes) -> list[bytes]:
    """Return lines in packets of bounded size."""
    found = []
    while len(lines) > PACKET_BYTES:
        end = lines.rfind(b"\n", 0, PACKET_BYTES) + 1 or PACKET_BYTES
        found.append(lines[:end])
        lines = lines[end:]
    return [*found, lines]
