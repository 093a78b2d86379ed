"""The two ways to be qmail-lspawn: a role of the resident stack, and the program that qmail-start runs.

Resident, orders come over HOME/run/lspawn with two-byte numbers, and programs of users start with a clean environment. As a program it
works on descriptors 0 and 1, with one-byte numbers and the environment that it was given.

Deliveries and look-ups are made by our own code, in workers. A site's own program takes its place: QMAILLOCAL and QMAILGETPW name one,
or bin/qmail-local and bin/qmail-getpw of the home are not ours but stock ones, or a site's wrapper.

Source: qmail-lspawn(8), qmail-start(8), qmail-command(8).
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
from collections.abc import Callable, Mapping

from pluq.config.home import DEFAULT_HOME, Home
from pluq.config.programs import is_ours
from pluq.local.deliver import Surroundings
from pluq.local.lspawn import Lspawn, Settings
from pluq.store.control import read_file

RESIDENT_LIMIT = 1000
"""Deliveries at once: each has an open file here, and a thread in a worker if it runs a program."""
PROGRAM_LIMIT = 120
"""conf-spawn of qmail."""
DEFAULT_DELIVERY = b"./Mailbox"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
KEPT = ("TZ", "PLUQ_HOME", "PLUQ_DNS_SERVER", "QMAILQUEUE")


def run(home: Home, sock: socket.socket, default: bytes | None = None) -> int:
    """Be the resident deliverer on a listening socket until TERM.

    `default` is the delivery instruction for users without one; without it, it is read from control/defaultdelivery.
    """
    around = Surroundings(home, clean_environment(home, os.environ))
    settings = Settings(
        home,
        home.ids(),
        lambda: default_delivery(home) if default is None else default,
        around,
        foreign_program(home, "qmail-local", "QMAILLOCAL"),
        foreign_program(home, "qmail-getpw", "QMAILGETPW"),
    )
    lspawn = Lspawn(settings, selectors.DefaultSelector(), width=2, limit=RESIDENT_LIMIT)
    lspawn.listen(sock)
    lspawn.run(catch_signals(lspawn.selector))
    return 0


def run_program(home: Home, default: bytes) -> int:
    """Be qmail-lspawn on descriptors 0 and 1 until 0 ends and everything is reported."""
    settings = Settings(
        home,
        home.ids(),
        lambda: default,
        Surroundings(home, os.environ),
        foreign_program(home, "qmail-local", "QMAILLOCAL"),
        foreign_program(home, "qmail-getpw", "QMAILGETPW"),
    )
    # Poll takes regular files too, and a scheduler may be one.
    lspawn = Lspawn(settings, selectors.PollSelector(), width=1, limit=PROGRAM_LIMIT)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    lspawn.add_link(0, 1)
    lspawn.run()
    return 0


def foreign_program(home: Home, name: str, variable: str) -> str | None:
    """Return the program that the site runs in the place of ours, None where it has none."""
    chosen = os.environ.get(variable)
    if chosen:
        return chosen
    path = f"{home.bin}/{name}"
    return f"bin/{name}" if os.path.exists(path) and not is_ours(path) else None


def default_delivery(home: Home) -> bytes:
    """Return the instruction for users without one, as the rc script of qmail passes it."""
    text = read_file(home.control("defaultdelivery"))
    return DEFAULT_DELIVERY if text is None else text.rstrip(b"\n")


def clean_environment(home: Home, environment: Mapping[str, str]) -> dict[str, str]:
    """Return what programs of users get beside the envelope: nothing of what the stack was started with."""
    clean = {name: environment[name] for name in KEPT if name in environment}
    if home.path != DEFAULT_HOME:
        clean["PLUQ_HOME"] = home.path
    clean["PATH"] = f"{home.bin}:{SYSTEM_PATH}"
    return clean


def catch_signals(selector: selectors.BaseSelector) -> Callable[[], set[int]]:
    """Make TERM and HUP wake the selector; return a function that tells which came since it was last called."""
    wake_reader, wake_writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    caught: set[int] = set()
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda number, _: caught.add(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # the supervisor had it wait for this
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # dead workers show on their sockets; the kernel may forget them
    selector.register(wake_reader, selectors.EVENT_READ, lambda _: os.read(wake_reader, 64))

    def take() -> set[int]:
        taken = set(caught)
        caught.difference_update(taken)
        return taken

    return take
