"""What receiving costs: the resident server without plugins, log on, in front of a queue that forgets everything.

    python bench/smtpd_front.py [--messages N] [--sessions N] [--size BYTES] [--profile]

Load comes from Postfix's smtp-source (Debian: postfix). CPU is that of the server process alone (user and system), counted over the
whole run, so it includes accepting, the session, the log lines and, with --spool, writing the message to a file as a leased one is.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from pluq.config.home import Home
from pluq.listen.worker import Listener, Worker, serve_worker
from pluq.queue.refusal import Receipt
from pluq.smtpd.gate import SmtpGate

SMTP_SOURCE = "/usr/sbin/smtp-source"


class NullSubmission:
    """Takes a message and forgets it, as late as a group commit would."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, chunk: bytes) -> None:
        self._pieces.append(chunk)
        self._size += len(chunk)
        if self._size > 65536:
            self._flush()

    def _flush(self) -> None:
        if self._descriptor >= 0:
            os.pwritev(self._descriptor, self._pieces, 0)
        self._pieces.clear()
        self._size = 0

    async def commit(self, sender: bytes, recipients: Sequence[bytes]) -> Receipt:
        self._flush()
        done = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(done.set_result, None)
        await done
        return Receipt(1)

    def abort(self) -> None:
        self._pieces.clear()


class NullSubmitter:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def open(self) -> NullSubmission:
        return NullSubmission(self._descriptor)


def make_home(path: str) -> Home:
    os.makedirs(f"{path}/control")
    for name, text in {"me": "mx.example.org", "rcpthosts": "bench.example", "concurrencyincoming": "20000"}.items():
        with open(f"{path}/control/{name}", "w", encoding="ascii") as file:
            file.write(f"{text}\n")
    return Home(path)


def start_server(home: Home, sock: socket.socket, descriptor: int, profile: bool) -> int:
    """Fork the server and return its process number."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    pid = os.fork()
    if pid:
        return pid
    submitter = NullSubmitter(descriptor)

    class Bench(Worker):
        def submitter(self, environment: Mapping[str, str]) -> NullSubmitter:
            return submitter

    worker = Bench(home, [Listener(sock)], "smtpd", SmtpGate)
    if profile:
        import cProfile

        profiler = cProfile.Profile()
        profiler.runcall(serve_worker, worker)
        profiler.print_stats("tottime")
        sys.stdout.flush()
    else:
        serve_worker(worker)
    os._exit(0)


def load(port: int, messages: int, sessions: int, size: int, reuse: bool) -> float:
    """Send the messages; return the seconds that it took."""
    command = [SMTP_SOURCE, "-s", str(sessions), "-m", str(messages), "-l", str(size), *(["-d"] if reuse else [])]
    begin = time.monotonic()
    envelope = ["-f", "s@x.example", "-t", "bench@bench.example"]
    subprocess.run([*command, *envelope, f"127.0.0.1:{port}"], check=True)
    return time.monotonic() - begin


def cpu_seconds(pid: int) -> tuple[float, float]:
    """Return the user and system seconds that a process has used so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def report(messages: int, seconds: float, before: tuple[float, float], after: tuple[float, float]) -> None:
    user, system = ((end - begin) / messages * 1e6 for begin, end in zip(before, after, strict=True))
    print(
        f"{messages / seconds:8.0f} messages/s  {user + system:6.1f} us of CPU each ({user:.1f} user, {system:.1f} system)"
    )


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def hold_idle(pid: int, port: int, count: int) -> None:
    """Open connections that say EHLO and no more; print what one costs the server."""
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (count + 100, max(count + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    )
    before = resident_bytes(pid)
    held = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(b"EHLO client.example\r\n")
        held.append(sock)
    for sock in held:
        said = b""
        while not said.endswith(b"250 8BITMIME\r\n"):
            said += sock.recv(500)
    more = resident_bytes(pid) - before
    begin = cpu_seconds(pid)
    time.sleep(5)
    used = sum(cpu_seconds(pid)) - sum(begin)
    print(
        f"{count} idle connections: {more / (1 << 20):.1f} MiB, {more / count:.0f} bytes each; {used / 5:.1%} CPU at rest"
    )
    for sock in held:
        sock.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=10000)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--reuse", action="store_true", help="many messages on a connection")
    parser.add_argument("--spool", action="store_true", help="write messages to a file")
    parser.add_argument("--idle", type=int, default=0, metavar="N", help="hold so many idle connections first")
    parser.add_argument("--profile", action="store_true", help="show where the time goes (slow)")
    options = parser.parse_args()
    if not os.path.exists(SMTP_SOURCE):
        sys.stderr.write(f"{SMTP_SOURCE} is missing: install postfix\n")
        return 1
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as file:
        home = make_home(f"{folder}/home")
        sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        log = os.open(f"{folder}/log", os.O_WRONLY | os.O_CREAT)
        saved = os.dup(2)
        os.dup2(log, 2)
        pid = start_server(home, sock, file.fileno() if options.spool else -1, options.profile)
        os.dup2(saved, 2)
        if options.idle:
            hold_idle(pid, sock.getsockname()[1], options.idle)
        for _ in range(options.runs):
            before = cpu_seconds(pid)
            seconds = load(sock.getsockname()[1], options.messages, options.sessions, options.size, options.reuse)
            report(options.messages, seconds, before, cpu_seconds(pid))
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        print(f"largest process {peak // 1024} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
