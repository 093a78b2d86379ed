"""What the systems are put through. A workload is one line of the table: how messages are sent, and where they must arrive.

The load is smtp-source with 20 sessions at once. Accepted counts until the last session ends, delivered until the last file is in
the Maildir (by its time stamp) or the sink has the last message.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from bench import processes
from bench.peers import REMOTE_DOMAIN, SINGLE_DOMAIN, USERS_DOMAIN, Peer
from bench.submission import submit

SOURCE = "/usr/sbin/smtp-source"
SINK = "/usr/sbin/smtp-sink"
MESSAGES = re.compile(rb"mesg=\s*(\d+)")
SENDER = "sender@load.example"
WARM_UP = 40
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 180.0


@dataclass(frozen=True)
class Result:
    """One run of one workload on one peer. Rates per second, CPU in microseconds a message, memory in bytes (PSS).

    `by_program` tells who used the CPU, also in microseconds a message.
    """

    accepted: float
    delivered: float
    cpu_us: float
    memory: int
    by_program: dict[str, float]


@dataclass(frozen=True)
class Workload:
    """One way to send. Rates count deliveries: a message to 100 recipients is 100."""

    name: str
    about: str
    messages: int
    size: int
    sessions: int
    options: tuple[str, ...] = ()
    domain: str = ""
    """Where mail goes; empty: to the one user of the machine."""
    recipients: int = 1
    setup: str = "plain"
    """With which variant of the systems: a key of SETUPS."""

    def run(self, peer: Peer, scale: float) -> Result:
        count = max(int(self.messages * scale), 1)
        total = count * self.recipients
        arrival = self.arrival(peer, count)
        before = processes.cpu_usage(peer.roots)
        began = time.time()
        self.send(peer, count)
        accepted = time.time() - began
        delivered = arrival.wait() - began
        used = processes.cpu_between(before, processes.cpu_usage(peer.roots))
        cpu = {name: seconds / total * 1e6 for name, seconds in used.items()}
        memory = processes.pss_bytes(peer.roots)
        arrival.close()
        return Result(total / accepted, total / delivered, sum(cpu.values()), memory, cpu)

    def arrival(self, peer: Peer, count: int) -> Mailboxes | Sink:
        """Return who watches `count` messages arrive."""
        if self.domain in (REMOTE_DOMAIN, SINGLE_DOMAIN):
            most = peer.most_recipients if self.domain == REMOTE_DOMAIN else 1
            return Sink(peer.sink_port, count * -(-self.recipients // most))
        return Mailboxes(peer, count * self.recipients)

    def send(self, peer: Peer, count: int) -> None:
        if self.setup == "submission":
            submit(peer.port, count, self.size, self.sessions, peer.address())
            return
        to = f"user@{self.domain}" if self.domain else peer.address()
        command = [SOURCE, "-s", str(self.sessions), "-m", str(count)]
        command += ["-F", peer.signed] if self.setup == "mx" else ["-l", str(self.size)]
        command += [*self.options, "-f", SENDER, "-t", to, f"{peer.host}:{peer.port}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Mailboxes:
    """The Maildirs of a peer, into which `count` messages must come."""

    def __init__(self, peer: Peer, count: int) -> None:
        self.peer, self.count = peer, count
        peer.clear()

    def wait(self) -> float:
        folders = self.peer.folders()
        what = f"{self.peer.name}: {self.count} messages"
        wait_until(lambda: sum(len(os.listdir(folder)) for folder in folders) >= self.count, what)
        return max(entry.stat().st_ctime for folder in folders for entry in os.scandir(folder))

    def close(self) -> None:
        self.peer.clear()


class Sink:
    """A server that takes messages until `count` have come. It tells each on its output, ended by a carriage return."""

    def __init__(self, port: int, count: int) -> None:
        command = [SINK, "-c", f"127.0.0.1:{port}", "1024"]
        if os.geteuid() == 0:
            command[1:1] = ["-u", "nobody"]
        self.count = count
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.done: float | None = None
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        time.sleep(0.1)

    def read(self) -> None:
        """Read the counters as they come, some thousand at a time: the sink must not wait for us."""
        assert self.process.stdout is not None
        tail = b""
        while data := os.read(self.process.stdout.fileno(), 65536):
            tail = (tail + data)[-200:]
            found = MESSAGES.findall(tail)
            if found and int(found[-1]) >= self.count:
                self.done = self.done or time.time()
            time.sleep(0.005)

    def wait(self) -> float:
        wait_until(lambda: self.done is not None, f"{self.count} messages at the sink")
        assert self.done is not None
        return self.done

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()


def wait_until(done: Callable[[], bool], what: str, pause: float = POLL_SECONDS) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not arrive within {PATIENCE_SECONDS:.0f} seconds")
        time.sleep(pause)


KIB = 1024
EACH, HUNDRED = ("-N",), ("-r", "100")
ALL = (
    Workload("new4k", "4 KiB, a connection each", 2000, 4 * KIB, 20),
    Workload("reuse4k", "4 KiB, connections reused", 2000, 4 * KIB, 20, ("-d",)),
    Workload("1mb", "1 MB", 150, 1000 * KIB, 10),
    Workload("fan100", "4 KiB to 100 local users", 40, 4 * KIB, 10, HUNDRED, USERS_DOMAIN, recipients=100),
    Workload("users200", "4 KiB, 200 users in turn", 2000, 4 * KIB, 20, EACH, USERS_DOMAIN),
    Workload("relay4k", "4 KiB, relayed to smtp-sink", 2000, 4 * KIB, 20, domain=REMOTE_DOMAIN),
    Workload(
        "far100", "4 KiB to 100 remote recipients, each alone", 40, 4 * KIB, 10, HUNDRED, SINGLE_DOMAIN, recipients=100
    ),
    Workload("far100g", "the same, Postfix by 50", 40, 4 * KIB, 10, HUNDRED, REMOTE_DOMAIN, recipients=100),
    Workload("submit4k", "4 KiB, STARTTLS and AUTH", 600, 4 * KIB, 20, setup="submission"),
    Workload("mx4k", "4 KiB signed, default MX plugins", 1000, 4 * KIB, 20, setup="mx"),
    Workload("fan100s", "4 KiB to 100 local users, names synced", 40, 4 * KIB, 10, HUNDRED, USERS_DOMAIN, 100, "names"),
    Workload("new4ks", "4 KiB, a connection each, names synced", 2000, 4 * KIB, 20, setup="names"),
    Workload("slow4k", "4 KiB, syncs 5 ms slower", 600, 4 * KIB, 20, setup="slow"),
    Workload("slowre4k", "the same, connections reused", 600, 4 * KIB, 20, ("-d",), setup="slow"),
)
WORKLOADS = {workload.name: workload for workload in ALL}
