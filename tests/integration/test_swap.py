"""The queue changes hands between pluq and a stock qmail, in both directions, with nothing converted and nothing lost.

PLUQ_STOCK_QMAIL names the home of an installed stock qmail or notqmail (the folder that is compiled into its programs). It is not
touched: in a mount namespace of its own the stock programs see the test's home in its place.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from pluq.testing.smtp_peer import SmtpPeer
from pluq.testing.stack import PATIENCE, Stack, free_port, wait_until

STOCK = os.environ.get("PLUQ_STOCK_QMAIL", "")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not os.path.exists(f"{STOCK}/bin/qmail-send"), reason="PLUQ_STOCK_QMAIL names no stock qmail"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for mount namespaces"),
]
# Stock programs find each other by PATH, as /var/qmail/rc sets it.
ENVIRONMENT = {**os.environ, "PATH": f"{STOCK}/bin:/usr/bin:/bin"}
ENTER = 'mount --bind "$1" "$3" && mount --bind "$2" "$3/bin" && shift 3 && exec "$@"'


class Stock:
    """The stock programs, on the home of a test."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.programs = stack.folder / "stock-bin"
        subprocess.run(["cp", "-a", f"{STOCK}/bin", str(self.programs)], check=True)  # qmail-queue is set-uid
        self.sender: subprocess.Popen[bytes] | None = None

    def command(self, program: str, *arguments: str) -> list[str]:
        inside = ["sh", "-c", ENTER, "sh", self.stack.home.path, str(self.programs), STOCK]
        return ["unshare", "--mount", "--propagation", "private", *inside, f"{STOCK}/bin/{program}", *arguments]

    def start(self) -> None:
        """Start qmail-send with its company; the process is qmail-send itself."""
        with (self.stack.folder / "stock-log").open("ab") as log:
            command = self.command("qmail-start", "./Maildir/")
            self.sender = subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT)
        wait_until(lambda: b"status:" in (self.stack.folder / "stock-log").read_bytes(), self.told)

    def told(self) -> str:
        return (self.stack.folder / "stock-log").read_text(errors="replace")

    def try_now(self) -> None:
        assert self.sender is not None
        self.sender.send_signal(signal.SIGALRM)

    def end(self, signum: signal.Signals = signal.SIGTERM) -> None:
        if self.sender is not None:
            self.sender.send_signal(signum)
            self.sender.wait(PATIENCE)
            self.sender = None

    def inject(self, to: str, subject: str) -> None:
        mail = f"From: sender@example.net\nTo: {to}\nSubject: {subject}\n\nx\n".encode()
        subprocess.run(
            self.command("qmail-inject", "-fsender@example.net", to),
            input=mail,
            check=True,
            timeout=60,
            env=ENVIRONMENT,
        )


@pytest.fixture
def stack(new_stack: Callable[[], Stack]) -> Stack:
    return new_stack()


@pytest.fixture
def stock(stack: Stack) -> Iterator[Stock]:
    made = Stock(stack)
    yield made
    made.end(signal.SIGKILL)


def inject(stack: Stack, to: str, subject: str) -> None:
    mail = f"From: sender@example.net\nTo: {to}\nSubject: {subject}\n\nx\n".encode()
    stack.run("qmail-inject", "-fsender@example.net", to, input=mail)


def subjects_at(peer: SmtpPeer) -> list[bytes]:
    return [line[9:] for message in peer.messages for line in message.split(b"\r\n") if line.startswith(b"Subject: ")]


def wait_deferred(stack: Stack) -> None:
    wait_until(lambda: any(name.startswith("remote/") for name in stack.queued()), stack.told)
    wait_until(lambda: not any(name.startswith("todo/") for name in stack.queued()), stack.told)


def test_stock_delivers_what_our_qmail_queue_left_in_todo(stack: Stack, stock: Stock) -> None:
    inject(stack, "joe@example.org", "from ours")
    assert any(name.startswith("todo/") for name in stack.queued())
    stock.start()
    stack.wait_mail("from ours")
    wait_until(lambda: not stack.queued("mess/*/*", "intd/*"), stock.told)


def test_stock_takes_over_what_we_deferred(stack: Stack, stock: Stock) -> None:
    port = free_port()
    stack.control("smtproutes", f":127.0.0.1:{port}")
    stack.start()
    for number in range(5):
        inject(stack, f"r{number}@remote.example", f"deferred {number}")
    wait_until(lambda: len([name for name in stack.queued() if name.startswith("remote/")]) == 5, stack.told)
    stack.kill()
    with SmtpPeer(port=port) as peer:
        stock.start()
        stock.try_now()
        wait_until(lambda: sorted(subjects_at(peer)) == [b"deferred %d" % number for number in range(5)], stock.told)
    wait_until(lambda: not stack.queued("mess/*/*"), stock.told)


def test_we_take_over_what_stock_deferred_or_never_saw(stack: Stack, stock: Stock) -> None:
    port = free_port()
    stack.control("smtproutes", f":127.0.0.1:{port}")
    stock.start()
    stock.inject("r@remote.example", "deferred by stock")
    wait_deferred(stack)
    stock.end(signal.SIGKILL)
    stock.inject("joe@example.org", "never seen by stock")
    with SmtpPeer(port=port) as peer:
        stack.start()
        stack.wait_mail("never seen by stock")
        stack.wait_empty("mess/*/*", "intd/*")
        assert subjects_at(peer) == [b"deferred by stock"]


def test_a_message_of_stock_wakes_our_running_scheduler(stack: Stack, stock: Stock) -> None:
    stack.start()
    stock.inject("joe@example.org", "by the trigger")
    stack.wait_mail("by the trigger", patience=10)
    stack.wait_empty("mess/*/*", "intd/*")


def test_stock_delivers_what_our_daemon_accepted_and_nobody_has_seen(stack: Stack, stock: Stock) -> None:
    stack.start()
    os.kill(stack.role_pids()["send"], signal.SIGSTOP)
    stack.send("over smtp")
    stack.kill()
    stock.start()
    stack.wait_mail("over smtp")


def test_both_list_the_queue_of_the_other(stack: Stack, stock: Stock) -> None:
    port = free_port()
    stack.control("smtproutes", f":127.0.0.1:{port}")
    stock.start()
    stock.inject("r@remote.example", "listed")
    wait_deferred(stack)
    stock.end()
    ours = stack.run("qmail-qread").stdout
    theirs = subprocess.run(
        stock.command("qmail-qread"), check=True, capture_output=True, timeout=60, env=ENVIRONMENT
    ).stdout
    assert ours == theirs
    assert b"r@remote.example" in ours


def test_stock_leaves_what_we_put_on_hold_and_gives_it_back_so(stack: Stack, stock: Stock) -> None:
    port = free_port()
    stack.control("smtproutes", f":127.0.0.1:{port}")
    stack.start()
    for name in ("held", "due"):
        inject(stack, f"{name}@remote.example", name)
    wait_until(lambda: len([name for name in stack.queued() if name.startswith("remote/")]) == 2, stack.told)
    wait_deferred(stack)
    stack.stop()
    stack.run("pluq", "queue", "hold", "--recipient", "held@remote.example")
    stack.run("pluq", "queue", "flush", "--recipient", "due@remote.example")
    with SmtpPeer(port=port) as peer:
        stock.start()
        wait_until(lambda: subjects_at(peer) == [b"due"], stock.told)
        stock.end()
        assert b"held@remote.example" in stack.run("pluq", "queue", "list", "--held").stdout
        stack.run("pluq", "queue", "release")
        stack.start()
        stack.wait_empty("mess/*/*", "intd/*")
        assert subjects_at(peer) == [b"due", b"held"]
