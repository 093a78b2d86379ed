"""What plugins and TLS cost, each by itself.

    python -m bench.micro [--output FOLDER]

hook        one more enabled hook that abstains, per call: MAIL and RSET in a session without sockets, with 1 and with 11 such plugins
guard       a hook that nobody implements: the same loop with the code of a profile without plugins, and the guard alone
profile     a message through `pluq serve` with no pluq.toml, and with a profile that has no plugins: CPU of the SMTP server, interleaved
handshakes  new TLS connections (ECDSA certificate, no resumption) to a 465 profile: CPU of the SMTP server for one, a bare connection taken off

Medians; the rows are printed as Markdown and written to micro.md.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import ssl
import statistics
import sys
import time
import timeit
from collections.abc import Callable
from functools import partial
from typing import Any

from bench import processes
from bench.limits import Alone, Row, close_stack, open_stack
from bench.peers import DOMAIN

from pluq import Plugin, Session, Transaction, Verdict, hook
from pluq.plan import EMPTY, Plan
from pluq.testing.plugins import make_plugin, plan_of
from pluq.testing.smtp_session import Talk

ROUNDS, CALLS = 7, 3000
RUNS = 3
MESSAGES = 2000
HANDSHAKES, CLIENTS = 900, 6


def abstainer(number: int, waits: bool) -> Plugin[Any]:
    """Return a plugin that has no opinion of any sender."""

    class Abstain(Plugin[Any]):
        name = f"abstain{number}"

        @hook
        def smtp_mail(self, session: Session, transaction: Transaction) -> Verdict | None:
            return None

    class AbstainLater(Plugin[Any]):
        name = f"abstain{number}"

        @hook
        async def smtp_mail(self, session: Session, transaction: Transaction) -> Verdict | None:
            return None

    return make_plugin(AbstainLater if waits else Abstain)


def seconds_each(plan: Plan) -> float:
    """Return the CPU seconds of MAIL and RSET under a plan."""
    talk = Talk(plan=plan)
    talk.send(b"EHLO client.example\r\n")
    begin = time.process_time()
    for _ in range(CALLS):
        talk.smtp.junk = 0
        talk.smtp.feed(b"MAIL FROM:<a@b.example>\r\nRSET\r\n")
    return (time.process_time() - begin) / CALLS


def hooks() -> list[Row]:
    plans = {"none": EMPTY}
    for kind, waits in (("sync", False), ("async", True)):
        for count in (1, 11):
            plans[f"{kind}{count}"] = plan_of(*(abstainer(number, waits) for number in range(count)))
    rounds = [{name: seconds_each(plan) for name, plan in plans.items()} for _ in range(ROUNDS)]
    cost = {name: statistics.median(one[name] for one in rounds) * 1e6 for name in plans}
    session = Talk().smtp
    guard = min(timeit.repeat(lambda: session.service.has_hooks, number=100_000, repeat=ROUNDS)) * 10
    return [
        ("one more hook that abstains (def), per call", f"{(cost['sync11'] - cost['sync1']) / 10:.2f} us"),
        ("one more hook that abstains (async def), per call", f"{(cost['async11'] - cost['async1']) / 10:.2f} us"),
        ("MAIL and RSET, no plugins", f"{cost['none']:.1f} us"),
        ("MAIL and RSET, the first plugin", f"{cost['sync1']:.1f} us"),
        ("guard of a hook that nobody implements", f"{guard * 1000:.0f} ns"),
    ]


# -- the server


def server_cpu(peer: Alone) -> float:
    """Return the CPU seconds of the SMTP server so far."""
    return sum(usage.seconds for usage in processes.cpu_usage(peer.roots).values() if usage.name == "pluq-smtpd")


def spent(peer: Alone, work: Callable[[], None]) -> float:
    before = server_cpu(peer)
    work()
    return server_cpu(peer) - before


def send_messages(peer: Alone) -> None:
    peer.send("-s", "20", "-m", str(MESSAGES), "-l", "4096")


def profiles() -> list[Row]:
    stock, listed = open_stack(), open_stack(profile="plugins = []\n")
    costs: dict[str, list[float]] = {"stock": [], "listed": []}
    try:
        for _ in range(RUNS):
            for name, peer in (("stock", stock), ("listed", listed)):
                costs[name].append(spent(peer, partial(send_messages, peer)) / MESSAGES * 1e6)
                peer.clear()
    finally:
        close_stack(stock)
        close_stack(listed)
    shown = {
        name: f"{statistics.median(runs):.0f} us ({min(runs):.0f}-{max(runs):.0f})" for name, runs in costs.items()
    }
    return [
        ("SMTP server, a 4 KiB message on a connection of its own, no pluq.toml", shown["stock"]),
        ("the same, a profile without plugins", shown["listed"]),
    ]


def connect_all(port: int, context: ssl.SSLContext | None) -> None:
    """Make HANDSHAKES connections from CLIENTS processes: TLS where there is a context, else to the banner."""
    children = []
    for _ in range(CLIENTS):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                for _ in range(HANDSHAKES // CLIENTS):
                    connect(port, context)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    if any(codes):
        raise RuntimeError("a connection failed")


def connect(port: int, context: ssl.SSLContext | None) -> None:
    with socket.create_connection(("127.0.0.1", port)) as plain:
        if context is None:
            plain.recv(512)
            return
        with context.wrap_socket(plain) as sock:
            sock.recv(512)


def handshakes() -> list[Row]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    plain = open_stack()
    secure = open_stack(profile='plugins = ["tls"]\ntls.implicit = true\n', serve=False)
    try:
        secure.tool("tls", "self-signed", "--name", f"mail.{DOMAIN}")
        secure.has_banner = False
        secure.serve()
        costs = []
        for _ in range(RUNS):
            bare = spent(plain, lambda: connect_all(plain.port, None))
            costs.append((spent(secure, lambda: connect_all(secure.port, context)) - bare) / HANDSHAKES)
    finally:
        close_stack(plain)
        close_stack(secure)
    each = statistics.median(costs)
    return [("TLS 1.3 handshake, ECDSA, CPU of the server", f"{each * 1e6:.0f} us: {1 / each:.0f} a second and core")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="bench/results")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started must not outlive us
    os.makedirs(options.output, exist_ok=True)
    rows = [*hooks(), *profiles(), *handshakes()]
    text = (
        "\n".join(["| what | measured |", "|---|---|", *(f"| {what} | {measured} |" for what, measured in rows)]) + "\n"
    )
    print(text, end="")
    with open(f"{options.output}/micro.md", "w") as file:
        file.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
