"""CPU of the scheduler on its fast path: bench/send_loop.py [--messages N] [--rate PER_SECOND] [--profile FILE]

A queue daemon and a deliverer are played in this process; the scheduler is the real role in a process of its own, over a real home,
its log written to a file. Each message has one local recipient who is delivered at once. Printed: CPU per message in the
scheduler, user and system, and how many a second went through.
"""

from __future__ import annotations

import argparse
import os
import selectors
import signal
import socket
import sys
import tempfile
import time

from pluq.config import Home, current_ids
from pluq.queue.records import Todo, encode_todo
from pluq.supervisor.hier import make_home
from pluq.supervisor.sockets import bind_unix
from pluq.wire import spawn

FIRST_NUMBER = 1000
BATCH = 10
"""Messages told of together: what a group commit of the daemon brings."""
WINDOW = 400
"""Messages that may be on their way at once."""


def run_send(home: Home, log: str, profile: str | None) -> int:
    from pluq.send import loop

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def run() -> int:
        return loop.run(home, f"{home.run}/todo", f"{home.run}/lspawn", f"{home.run}/rspawn", descriptor)

    if profile is None:
        return run()
    import cProfile

    profiler = cProfile.Profile()
    try:
        return profiler.runcall(run)
    finally:
        profiler.dump_stats(profile)


def cpu_seconds(pid: int) -> tuple[float, float]:
    """Return user and system time of a process so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


class Peers:
    """The daemon and the local deliverer."""

    def __init__(self, home: Home) -> None:
        stream, packets = socket.SOCK_STREAM, socket.SOCK_SEQPACKET
        self._todo = bind_unix(f"{home.run}/todo", packets, 0o600, os.getuid())
        self._lspawn = bind_unix(f"{home.run}/lspawn", stream, 0o600, os.getuid())
        self._rspawn = bind_unix(f"{home.run}/rspawn", stream, 0o600, os.getuid())
        self._selector = selectors.DefaultSelector()
        self._decoder = spawn.CommandDecoder(2)
        self.ended = 0

    def accept(self) -> None:
        for listener, limit in ((self._lspawn, 1000), (self._rspawn, 1000), (self._todo, 0)):
            listener.setblocking(True)
            sock, _address = listener.accept()
            if limit:
                sock.send(spawn.encode_limit(limit, 2))
            if listener is self._lspawn:
                self._deliverer = sock
                self._selector.register(sock, selectors.EVENT_READ, self._deliver)
            elif listener is self._todo:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                sock.setblocking(False)
                self._daemon = sock
                self._selector.register(sock, selectors.EVENT_READ, self._requests)
            else:
                self._remote = sock

    def tell(self, number: int) -> None:
        todo = Todo(1000, number, b"sender@there.example.net", [b"user@here.example"])
        self._daemon.send(b"n%d 4096\0%b" % (number, encode_todo(todo)))

    def step(self, timeout: float) -> None:
        for key, _events in self._selector.select(timeout):
            key.data()

    def _deliver(self) -> None:
        orders = self._decoder.feed(self._deliverer.recv(65536))
        reports = [spawn.encode_report(order.number, b"Kdid 1+0+0\n", 2) for order in orders]
        if reports:
            self._deliverer.send(b"".join(reports))

    def _requests(self) -> None:
        while True:
            try:
                packet = self._daemon.recv(100)
            except BlockingIOError:
                return
            for request in packet.split(b" "):
                if request[:1] == b"m":
                    self.ended += 1
                elif request[:1] == b"t":
                    self._daemon.send(b"+" + request[1:])


def measure(messages: int, rate: int, profile: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(f"{folder}/home")
        make_home(home, current_ids())
        os.makedirs(home.run, exist_ok=True)
        for name, text in (("me", "here.example"), ("concurrencylocal", "100")):
            with open(home.control(name), "w") as file:
                file.write(f"{text}\n")
        peers = Peers(home)
        pid = os.fork()
        if pid == 0:
            os._exit(run_send(home, f"{folder}/log", profile))
        peers.accept()
        user_before, system_before = cpu_seconds(pid)
        began = time.monotonic()
        told = 0
        while peers.ended < messages:
            allowed = int((time.monotonic() - began) * rate) if rate else messages
            while told < min(messages, allowed) and told - peers.ended < WINDOW:
                for _ in range(BATCH):
                    peers.tell(FIRST_NUMBER + told)
                    told += 1
            peers.step(0.001)
        elapsed = time.monotonic() - began
        user, system = cpu_seconds(pid)
        user, system = user - user_before, system - system_before
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        each = (user + system) / peers.ended * 1e6
        print(
            f"{peers.ended} messages, {peers.ended / elapsed:.0f}/s, {each:.1f} us of CPU a message in the scheduler"
            f" (user {user / peers.ended * 1e6:.1f}, system {system / peers.ended * 1e6:.1f})"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=30000)
    parser.add_argument("--rate", type=int, default=3000, help="messages a second, 0 for as fast as it goes")
    parser.add_argument("--profile", help="write a cProfile of the scheduler here")
    options = parser.parse_args()
    measure(options.messages, options.rate, options.profile)
    return 0


if __name__ == "__main__":
    sys.exit(main())
