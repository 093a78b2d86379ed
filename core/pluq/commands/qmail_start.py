"""qmail-start [defaultdelivery [logger arg ...]]: turn on mail delivery with the classic programs.

    logger       qmaill    0: the log                                  (without one the log goes to descriptor 1)
    qmail-lspawn root      0, 1: pipes to and from qmail-send          defaultdelivery is its argument
    qmail-rspawn qmailr    0, 1: the same
    qmail-clean  qmailq    0, 1: the same
    qmail-send   qmails    0: the log; 1 2, 3 4, 5 6: the other ends   takes the place of this process

    queue daemon qmailq   submissions on HOME/run/qmqp                 ours: no qmail-queue of pluq is set-uid

Programs are found on PATH. Nothing is printed; a failure is exit code 111. In a home of one user nobody changes users, and
qmail-queue needs no daemon.

Source: qmail-start(8), qmail-start.c.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

from pluq.execvp import execvp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pluq.config import Home, Ids

    QueueSockets = tuple[socket.socket, socket.socket, socket.socket]

DEFAULT_DELIVERY = "./Mailbox"
FAILURE = 111
SEND_FDS = range(2, 7)
"""What qmail-send gets besides 0 and 1; taken while the pipes are made, so that no pipe ends up there."""


def main() -> int:
    try:
        start(sys.argv[1:])
    except OSError:
        pass
    return FAILURE


def start(arguments: Sequence[str]) -> NoReturn:
    """Start everything and become qmail-send. Raises OSError."""
    from pluq.config import Home

    home = Home.from_environment()
    ids = home.ids()
    os.chdir("/")
    recover_queue(home, ids)
    start_queue_daemon(home, ids)
    os.umask(0o077)
    be_group(ids, "qmail")
    for descriptor in SEND_FDS:
        os.dup2(0, descriptor)
    delivery, logger = (arguments[0] if arguments else DEFAULT_DELIVERY), arguments[1:]
    if logger:
        start_logger(logger, ids)
    pipes = [os.pipe() for _ in range(6)]
    ends = [descriptor for pipe in pipes for descriptor in pipe]
    (lspawn_in, to_lspawn), (from_lspawn, lspawn_out) = pipes[0:2]
    (rspawn_in, to_rspawn), (from_rspawn, rspawn_out) = pipes[2:4]
    (clean_in, to_clean), (from_clean, clean_out) = pipes[4:6]
    start_program(["qmail-lspawn", delivery], lspawn_in, lspawn_out, ends, lambda: None)
    start_program(["qmail-rspawn"], rspawn_in, rspawn_out, ends, lambda: be_user(ids, "qmailr", groups=True))
    start_program(["qmail-clean"], clean_in, clean_out, ends, lambda: be_user(ids, "qmailq"))
    be_user(ids, "qmails")
    os.dup2(1, 0)
    for number, descriptor in enumerate(
        (to_lspawn, from_lspawn, to_rspawn, from_rspawn, to_clean, from_clean), start=1
    ):
        os.dup2(descriptor, number)
    close(ends)
    become(["qmail-send"])


def recover_queue(home: Home, ids: Ids) -> None:
    """Put back into the queue what a killed daemon had promised. Raises OSError where that cannot be."""
    from pluq.errors import ConfigError
    from pluq.supervisor import recovery

    try:
        recovery.recover_queue(home, ids)
    except ConfigError as error:
        raise OSError(str(error)) from error


def start_queue_daemon(home: Home, ids: Ids) -> None:
    """Start who writes the queue for users that may not. It ends with this process, or with the program that it becomes.

    Where that fails, or another stack serves the home, delivery goes on: mail of other users waits with its senders.
    """
    if ids.single:
        return
    from pluq.errors import ConfigError
    from pluq.supervisor.sockets import bind_unix, lock_run

    packets = socket.SOCK_SEQPACKET
    try:
        if not os.path.isdir(home.run):
            os.mkdir(home.run, mode=0o755)
        lock_run(f"{home.run}/lock", 0.0)
        qmqp = bind_unix(f"{home.run}/qmqp", socket.SOCK_STREAM, 0o666, 0)
        lease = bind_unix(f"{home.run}/lease", packets, 0o600, ids.uid["qmaild"])
        todo = bind_unix(f"{home.run}/todo", packets, 0o600, ids.uid["qmails"])
    except (ConfigError, OSError):
        return
    parent = os.getpid()
    if os.fork() == 0:
        in_child(lambda: run_queue_daemon(home, ids, (qmqp, lease, todo), parent))
    for sock in (qmqp, lease, todo):
        sock.close()


def run_queue_daemon(home: Home, ids: Ids, sockets: QueueSockets, parent: int) -> None:
    """Watch over the daemon until the parent has gone."""
    import pluq.queue.daemon
    from pluq.supervisor.notify import Notifier
    from pluq.supervisor.privileges import end_with_parent, user_identity
    from pluq.supervisor.processes import Role, Supervisor

    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    end_with_parent(parent)
    role = Role(
        "queue",
        user_identity(ids.uid["qmailq"], ids.gid["qmail"]),
        lambda: pluq.queue.daemon.run(home, *sockets),
        tuple(sock.fileno() for sock in sockets),
        umask=0o033,
    )
    Supervisor([role], Notifier({})).run()


def start_logger(command: Sequence[str], ids: Ids) -> None:
    """Start the logger, and let descriptor 1 lead to it."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        in_child(lambda: run_logger(command, ids, reader))
    os.close(reader)
    os.dup2(writer, 1)
    os.close(writer)


def run_logger(command: Sequence[str], ids: Ids, reader: int) -> NoReturn:
    be_group(ids, "nofiles")
    be_user(ids, "qmaill")
    os.dup2(reader, 0)
    close(SEND_FDS)
    become(command)


def start_program(
    command: Sequence[str], stdin: int, stdout: int, ends: Sequence[int], become_user: Callable[[], None]
) -> None:
    """Start one of the programs between its two pipes."""
    if os.fork():
        return

    def run() -> NoReturn:
        become_user()
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        close(SEND_FDS)
        close(ends)
        become(command)

    in_child(run)


def in_child(run: Callable[[], object]) -> NoReturn:
    """Run in a new process, which never comes back to this program's own work."""
    try:
        run()
    finally:
        os._exit(FAILURE)


def become(command: Sequence[str]) -> NoReturn:
    """Run a program found on PATH in place of this one. Raises OSError."""
    # Python ignores SIGPIPE; programs expect to die of it.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    execvp(command)


def close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def be_group(ids: Ids, group: str) -> None:
    if not ids.single:
        os.setgroups([ids.gid[group]])
        os.setgid(ids.gid[group])


def be_user(ids: Ids, user: str, groups: bool = False) -> None:
    """Become a qmail user; with `groups` also take the groups that it was put into, as rspawn's user may need keys."""
    if ids.single:
        return
    if groups:
        os.initgroups(user, ids.gid["qmail"])
        os.setgid(ids.gid["qmail"])
    os.setuid(ids.uid[user])
