"""What a connection costs the SMTP server in Python alone: gate, engine and session on a transport that does nothing.

    python -m bench.session_cost [--rounds N] [--lease] [--profile]

SESSIONS connections at a time go through one 4 KiB message each, step by step, as 20 clients do it at once: no sockets, so the result
depends neither on the kernel nor on a client, and two versions of the code can be told apart by a few percent. Shown are median
and best of the rounds for each step, in microseconds of CPU.

With --lease the message goes through the link to the queue daemon, to a process in its place that says yes to everything: the files are
written and the packets are sent, and both are in "message", together with what the event loop adds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import socket
import statistics
import sys
import tempfile
import time
from array import array
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import uvloop
from bench.smtpd_front import NullSubmitter, make_home

from pluq.config.home import Home
from pluq.listen.connlog import LineLog
from pluq.listen.worker import GC_THRESHOLD, Listener, Worker
from pluq.queue.lease import ANSWER, PACKET_BYTES, REQUEST
from pluq.queue.lease_client import LeaseSubmitter
from pluq.smtpd.engine import Engine
from pluq.smtpd.gate import SmtpGate

SESSIONS = 20
# Connections in a round.
BATCHES = 50
# From the banner to that to the message.
REPLIES = 6

HEADER = (
    b"From: <s@x.example>\r\nTo: <b@bench.example>\r\nDate: Sat, 21 Nov 2026 00:00:00 +0000\r\nMessage-Id: <a@b>\r\n"
)
STEPS = {
    "HELO": b"HELO x.example\r\n",
    "MAIL": b"MAIL FROM:<s@x.example>\r\n",
    "RCPT": b"RCPT TO:<bench@bench.example>\r\n",
    "DATA": b"DATA\r\n",
    "message": HEADER + b"Subject: x\r\n\r\n" + (b"X" * 78 + b"\r\n") * 50 + b".\r\n",
    "QUIT": b"QUIT\r\n",
}


class Transport:
    """Takes replies and counts them; tells `answered` of the one to the message."""

    def __init__(self, answered: Callable[[], None]) -> None:
        self._answered = answered
        self.writes = 0
        self.closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 45678) if name == "peername" else ("127.0.0.1", 2525)

    def write(self, data: bytes) -> None:
        self.writes += 1
        if self.writes == REPLIES:
            self._answered()

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing


class Front(Worker):
    """A worker that nobody connects to."""

    def __init__(self, home: Home, submitter: LeaseSubmitter) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        super().__init__(home, [Listener(sock)], "smtpd", SmtpGate)
        self.loop = asyncio.get_running_loop()
        self.log = LineLog(self.loop)
        self._lease = submitter


async def batch(gate: SmtpGate, spent: Counter[str]) -> None:
    """Take SESSIONS connections through a message each; add the nanoseconds of each step."""
    engines = [gate.connection() for _ in range(SESSIONS)]
    answers = asyncio.Semaphore(0)
    transports = [Transport(answers.release) for _ in engines]

    def step(name: str, work: Callable[[Engine, Any], None]) -> None:
        begin = time.process_time_ns()
        for engine, transport in zip(engines, transports, strict=True):
            work(engine, transport)
        spent[name] += time.process_time_ns() - begin

    step("connect", lambda engine, transport: engine.connection_made(transport))
    for name, data in STEPS.items():
        step(name, lambda engine, transport, data=data: engine.data_received(data))  # type: ignore[misc]
        if name == "message":
            begin = time.process_time_ns()
            for _ in transports:
                await answers.acquire()
            spent[name] += time.process_time_ns() - begin
    step("close", lambda engine, transport: engine.connection_lost(None))
    assert all(transport.writes == REPLIES + 1 for transport in transports)


def serve_leases(listener: socket.socket, folder: str) -> None:
    """Say yes to one worker, in the place of the queue daemon, until it hangs up."""
    worker, _ = listener.accept()
    files: list[int] = []
    free: list[int] = []
    while data := worker.recv(PACKET_BYTES):
        answer, at, sent = b"", 0, []
        while at < len(data):
            letter, number, _, length = REQUEST.unpack_from(data, at)
            at += REQUEST.size + length
            if letter == b"c":
                free.append(number)
                answer += ANSWER.pack(b"r", number, 0)
                continue
            for _ in range(number):
                if free:
                    answer += ANSWER.pack(b"g", free.pop(), 1)
                    continue
                sent.append(os.open(f"{folder}/{len(files)}", os.O_CREAT | os.O_RDWR))
                answer += ANSWER.pack(b"n", len(files), 1)
                files.append(sent[-1])
        worker.sendmsg([answer], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", sent))] if sent else [])


def lease_submitter(home: Home, folder: str) -> LeaseSubmitter:
    """Fork a process that leases files, and return the link to it."""
    os.mkdir(home.run)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{home.run}/lease")
    listener.listen()
    if os.fork() == 0:
        serve_leases(listener, folder)
        os._exit(0)
    return LeaseSubmitter(home)


async def measure(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(f"{folder}/home")
        lease = lease_submitter(home, folder) if options.lease else None
        worker = Front(home, lease or cast(LeaseSubmitter, NullSubmitter(-1)))
        gate = SmtpGate(worker, "stock")
        gate._is_open = True
        rounds: list[Counter[str]] = []
        for _ in range(options.rounds):
            rounds.append(Counter())
            for _ in range(BATCHES):
                await batch(gate, rounds[-1])
        if lease is not None:
            lease.close()
    for name in rounds[0]:
        report(name, [one[name] for one in rounds])
    report("all", [one.total() for one in rounds])


def report(name: str, nanoseconds: list[int]) -> None:
    median, best = (value / SESSIONS / BATCHES / 1000 for value in (statistics.median(nanoseconds), min(nanoseconds)))
    print(f"{name:8} {median:6.2f} us, {best:.2f} at best")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="of 1000 connections each")
    parser.add_argument("--lease", action="store_true", help="write to files of a queue daemon")
    parser.add_argument("--profile", action="store_true", help="show what is called (slow)")
    options = parser.parse_args()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the lines of the log
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 100)  # as a worker does
    if options.profile:
        import cProfile

        cProfile.runctx("uvloop.run(measure(options))", globals(), {"options": options}, sort="tottime")
    else:
        uvloop.run(measure(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
