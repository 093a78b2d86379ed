"""What figures and objects in the log cost: CPU time a message, in each role.

    python bench/figures_cost.py [--rounds N]

One message that is accepted on a connection of its own and delivered to one recipient, at the first try. For each role the calls that tell
of it are made, as the role makes them, with nobody listening (as shipped), with figures ([status] listen), and with objects beside the lines ([log]
format = "both"); without the writing itself. The best of the rounds; the difference to "as shipped" is the cost. The tests hold it below
a limit that a slow machine keeps.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from pluq import log
from pluq.hookspecs.context import Recipient, Session, Transaction
from pluq.listen import connlog
from pluq.listen.arrivals import Arrivals
from pluq.metrics import Page, adopt
from pluq.metrics.page import PAGE_BYTES
from pluq.queue.figures import Figures as QueueFigures
from pluq.send.figures import Figures as SendFigures
from pluq.smtpd.watch import Watch

ROUNDS = 7
MESSAGES = 3000
Work = Callable[[], object]


class Nowhere:
    """Takes lines and forgets them."""

    def write(self, line: str) -> None:
        """A line of a listener."""


def smtpd(mine: Page | None) -> Work:
    """Return what a worker does for one message: a connection comes, a message is safe, the session and the connection end."""
    arrivals = Arrivals("mx", cast(connlog.LineLog, Nowhere()))
    watch = Watch.of("mx", Nowhere().write)
    session = Session(
        "mx", remote_ip="192.0.2.7", remote_port=40312, local_ip="192.0.2.1", local_port=25, helo=b"a.example"
    )
    transaction = Transaction(b"sender@example.net", recipients=[Recipient(b"joe@example.org")])
    incoming = SimpleNamespace(body=SimpleNamespace(size=4096), transaction=transaction)
    smtp: Any = SimpleNamespace(
        session=session,
        incoming=incoming,
        transaction=None,
        last_input=time.monotonic(),
        driver=SimpleNamespace(number=7),
    )

    def one() -> None:
        arrivals.came(7, session, "ok", 1, 1000)
        if watch is not None:
            watch.accepted(smtp, 99)
        if watch is not None:
            watch.ended(smtp)
        arrivals.gone(7, "192.0.2.7", 0, 0, 1000)

    return one


def queue(mine: Page | None) -> Work:
    """Return what the queue daemon does for a message that is a group of its own: the worst case."""
    figures = None if mine is None else QueueFigures(mine)

    def one() -> None:
        began = time.monotonic()
        if figures is not None:
            figures.group([0], time.monotonic() - began)

    return one


def send(mine: Page | None) -> Work:
    """Return what the scheduler tells of a message with one recipient."""
    if mine is not None:
        SendFigures(mine).listen()

    def one() -> None:
        log.new_message(42)
        log.info(42, 4096, b"sender@example.net", 99, 71)
        started = time.monotonic() if log.wants_about else 0.0
        log.starting(7, 42, b"local", b"joe@example.org")
        log.status((1, 10), (0, 20), False)
        about = None
        if log.wants_about:
            delay = max(0.0, time.time() - 1795262400)
            about = log.About(42, b"local", b"s@example.net", b"joe@example.org", time.monotonic() - started, delay)
        log.delivered(7, b"K", b"did 1+0+0\n", about)
        log.status((0, 10), (0, 20), False)
        log.end_message(42)

    return one


ROLES = {"smtpd": smtpd, "queue": queue, "send": send}


def measure(role: str, figures: bool, form: str, rounds: int) -> float:
    """Return the microseconds of CPU that telling of one message takes."""
    log.use(form)
    log.listen({})
    mine = Page(bytearray(PAGE_BYTES)) if figures else None
    adopt(mine)
    try:
        work = ROLES[role](mine)
        return min(_round(work) for _ in range(rounds))
    finally:
        adopt(None)
        log.use("qmail")
        log.listen({})


def _round(work: Work) -> float:
    began = time.process_time()
    for _ in range(MESSAGES):
        work()
    return (time.process_time() - began) / MESSAGES * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    print(f"{'role':8}{'as shipped':>12}{'figures':>18}{'objects too':>18}   microseconds a message")
    for role in ROLES:
        bare, figures, objects = (
            measure(role, figures, form, rounds)
            for figures, form in ((False, "qmail"), (True, "qmail"), (False, "both"))
        )
        print(f"{role:8}{bare:12.2f}{figures:9.2f} (+{figures - bare:5.2f}){objects:9.2f} (+{objects - bare:5.2f})")


if __name__ == "__main__":
    main()
