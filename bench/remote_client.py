"""bench/remote_client.py: what one message costs the resident remote deliverer, in CPU time.

    .venv/bin/python bench/remote_client.py [-n 20000] [-c 20] [-s 4096] [--lone]

Starts smtp-sink, makes a qmail home with one message in its queue, runs pluq.remote.workers in a process of its own and plays the
scheduler: `-c` deliveries at once. Prints messages per second and microseconds of the deliverer's CPU per message; smtp-sink and
this program are not counted. `--lone` gives each message a domain and a host of its own (127.1.0.0 and so on), so that each takes a connection of its own.
`--profile FILE` leaves a cProfile of the deliverer there (and makes it slower).
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from pluq.config import Home
from pluq.testing.ports import free_port
from pluq.wire.spawn import ReportDecoder, encode_command

SINK = "/usr/sbin/smtp-sink"
WIDTH = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=20000, help="messages")
    parser.add_argument("-c", type=int, default=20, help="deliveries at once")
    parser.add_argument("-s", type=int, default=4096, help="bytes of a message")
    parser.add_argument("--lone", action="store_true", help="a connection for each message")
    parser.add_argument("--profile", help="file for a cProfile of the deliverer")
    options = parser.parse_args()
    if not os.path.exists(SINK):
        print(f"bench: {SINK} is missing: install Debian's postfix, which has it")
        return 111
    folder = tempfile.mkdtemp()
    port = free_port()
    sink = subprocess.Popen([SINK, "-u", "root", "-M", str(options.n + options.c), f"0.0.0.0:{port}", "1000"])
    try:
        home = make_home(folder, port, options.s, options.n if options.lone else 0)
        run(home, options)
    finally:
        sink.kill()
        sink.wait()
        shutil.rmtree(folder)
    return 0


def make_home(folder: str, port: int, size: int, hosts: int) -> Home:
    """Return a home whose smtproutes lead to smtp-sink, by `hosts` addresses of this machine, with message 8/123 in the queue."""
    home = Home(folder)
    for name in ("control", "queue/mess/8", "queue/lock"):
        os.makedirs(f"{folder}/{name}")
    routes = [
        f"d{number}.example:127.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}:{port}"
        for number in range(hosts)
    ]
    routes.append(f":127.0.0.1:{port}")
    for name, text in (("me", "bench.example\n"), ("smtproutes", "\n".join(routes) + "\n")):
        with open(home.control(name), "w") as file:
            file.write(text)
    line = b"x" * 63 + b"\n"
    with open(f"{home.queue}/mess/8/123", "wb") as message:
        message.write(b"Subject: bench\n\n" + line * (size // len(line)))
    os.chown(f"{home.queue}/mess/8/123", home.ids().uid["qmailq"], -1)
    return home


def run(home: Home, options: argparse.Namespace) -> None:
    path = f"{home.path}/rspawn"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    child = os.fork()
    if child == 0:
        deliver(home, listening, options.profile)
    listening.close()
    link = socket.socket(socket.AF_UNIX)
    link.connect(path)
    assert len(link.recv(2)) == 2
    started = time.monotonic()
    user, system = cpu_seconds(child)
    outcomes = drive(link, options.n, options.c, options.lone)
    seconds = time.monotonic() - started
    user, system = (after - before for after, before in zip(cpu_seconds(child), (user, system), strict=True))
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    each = [spent / options.n * 1e6 for spent in (user + system, user, system)]
    print("{:.0f} messages/s, {:.1f} us CPU each (user {:.1f}, system {:.1f})".format(options.n / seconds, *each))
    print("outcomes", outcomes)


def deliver(home: Home, listening: socket.socket, profile: str | None) -> None:
    import cProfile

    from pluq.remote import workers

    if profile:
        profiler = cProfile.Profile()
        profiler.runcall(workers.run, home, listening)
        profiler.dump_stats(profile)
    else:
        workers.run(home, listening)
    os._exit(0)


def cpu_seconds(pid: int) -> tuple[float, float]:
    """Return what a process has used of the CPU itself, and the system for it."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / tick, int(fields[12]) / tick


def drive(link: socket.socket, count: int, concurrency: int, lone: bool) -> dict[str, int]:
    """Order `count` deliveries, `concurrency` at once, and count the outcomes."""
    decoder = ReportDecoder(WIDTH)
    outcomes: dict[str, int] = {}
    ordered = reported = 0
    free = list(range(concurrency))
    while reported < count:
        orders = b""
        while free and ordered < count:
            domain = b"d%d.example" % ordered if lone else b"bench.example"
            orders += encode_command(free.pop(), b"8/123", b"s@x.example", b"r@" + domain, WIDTH)
            ordered += 1
        if orders:
            link.sendall(orders)
        for number, text in decoder.feed(link.recv(65536)):
            letter = text[:1].decode() if text[:1] in (b"K",) else text.decode("latin-1")
            outcomes[letter] = outcomes.get(letter, 0) + 1
            free.append(number)
            reported += 1
    return outcomes


if __name__ == "__main__":
    raise SystemExit(main())
