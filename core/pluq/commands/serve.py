"""pluq serve: the whole stack as one service.

Checks the configuration, binds the ports and sockets, forks the roles, each as its own user, and keeps them running:

    smtpd    qmaild   accepts mail                        run/qmqp, run/lease -> queue
    qmtpd    qmaild   accepts mail by QMTP and QMQP       (where a profile has one of these protocols)
    pop3d    qmailp   gives mail to its owners            run/logins -> logins; (where a profile has this protocol)
    logins   root     starts checkpassword for pop3d
    queue    qmailq   owns the queue directory            run/todo -> send
    send     qmails   decides who gets it and when        run/lspawn, run/rspawn
    lspawn   root     delivers here, as each recipient    (the current user in a stack of one user)
    rspawn   qmailr   delivers elsewhere
    keys     root     hands private keys to smtpd and rspawn           (not in a stack of one user)

TERM drains and stops, HUP re-reads the control files, ALRM tries everything again now. The lines of qmail-send go to standard
output, the supervisor's own to standard error. Under systemd: Type=notify-reload, sockets may be passed.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pluq.config import Home, Ids
    from pluq.supervisor.privileges import Identity
    from pluq.supervisor.processes import Role

# A stack that is being stopped needs its grace; whoever starts the next one waits for it.
LOCK_SECONDS = 15.0
DEFAULT_LISTEN = "0.0.0.0:25"
# The roles that listen: the user, and the module with Listener and run().
SERVERS = {
    "smtpd": ("qmaild", "pluq.smtpd.server"),
    "qmtpd": ("qmaild", "pluq.qmtpd.server"),
    "pop3d": ("qmailp", "pluq.pop3.server"),
}
HUP = frozenset({signal.SIGHUP})
HUP_ALRM = frozenset({signal.SIGHUP, signal.SIGALRM})


@dataclass(frozen=True)
class Sockets:
    """Everything that is bound before the first role starts. `listening` has what profiles listen on, by the role that serves them."""

    keys: socket.socket | None
    logins: socket.socket | None
    listening: dict[str, list[tuple[socket.socket, str]]]
    qmqp: socket.socket
    lease: socket.socket
    todo: socket.socket
    lspawn: socket.socket
    rspawn: socket.socket


def main() -> int:
    import argparse

    from pluq.config import Home
    from pluq.errors import ConfigError

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    where = f"listen here (default: what the profiles say, else {DEFAULT_LISTEN})"
    parser.add_argument("--listen", metavar="ADDR:PORT", action="append", help=where)
    options = parser.parse_args()
    if options.home:
        os.environ["PLUQ_HOME"] = os.path.abspath(options.home)
    try:
        return serve(Home.from_environment(), options.listen)
    except ConfigError as error:
        sys.stderr.write(f"pluq serve: {error}\n")
    except ValueError as error:
        sys.stderr.write(f"pluq serve: --listen {error}\n")
    return 111


def serve(home: Home, listen: list[str] | None) -> int:
    """Run the stack of this home until TERM. Raises ConfigError before anything is started."""
    from pluq.supervisor import processes
    from pluq.supervisor.notify import Notifier

    ids = home.ids()
    keys = bind_keys(home, ids)
    with answered_keys(home, ids, keys):
        if not configuration_is_sound(home, ids):
            return 111
    notifier = Notifier(os.environ)
    sockets = bind(home, ids, listen, keys)
    stack = roles(home, ids, sockets)
    processes.freeze_memory()
    supervisor = processes.Supervisor(stack, notifier, reload=partial(configuration_is_sound, home, ids))
    return supervisor.run()


def configuration_is_sound(home: Home, ids: Ids) -> bool:
    """Say whether everything can be read and makes sense; tell the administrator each fault."""
    from pluq.supervisor.check import faults, plugin_faults, warnings

    for warning in warnings(ids):
        sys.stderr.write(f"pluq serve: warning: {warning}\n")
    found = [str(fault) for fault in faults(home, ids)] or plugin_faults(home, ids)
    for fault in found:
        sys.stderr.write(f"pluq serve: {fault}\n")
    sys.stderr.flush()
    return not found


def bind_keys(home: Home, ids: Ids) -> socket.socket | None:
    """Take the lock of the home and bind the socket of the role "keys". None where nobody needs it: all is one user."""
    from pluq.errors import ConfigError
    from pluq.supervisor.sockets import bind_unix, lock_run

    try:
        os.makedirs(home.run, mode=0o755, exist_ok=True)
    except OSError as error:
        raise ConfigError(home.run, os.strerror(error.errno or 0)) from error
    lock_run(f"{home.run}/lock", LOCK_SECONDS)
    return None if ids.single else bind_unix(f"{home.run}/keys", socket.SOCK_SEQPACKET, 0o666, 0)


@contextmanager
def answered_keys(home: Home, ids: Ids, sock: socket.socket | None) -> Iterator[None]:
    """Let the role "keys" answer while the configuration is checked, before the stack runs."""
    from pluq.supervisor import keys

    pid = 0 if sock is None else os.fork()
    if sock is not None and pid == 0:
        try:
            keys.run(home, ids, sock)
        finally:
            os._exit(0)
    try:
        yield
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def bind(home: Home, ids: Ids, listen: list[str] | None, keys: socket.socket | None) -> Sockets:
    """Bind all sockets. The Unix ones belong to the single user who connects to each."""
    from pluq.supervisor.sockets import bind_unix

    stream, packets = socket.SOCK_STREAM, socket.SOCK_SEQPACKET
    listening = listening_sockets(home, listen)
    logins = None
    if "pop3d" in listening:
        logins = bind_unix(f"{home.run}/logins", packets, 0o600, ids.uid["qmailp"])
    return Sockets(
        keys=keys,
        logins=logins,
        listening=listening,
        qmqp=bind_unix(f"{home.run}/qmqp", stream, 0o666, os.geteuid()),
        lease=bind_unix(f"{home.run}/lease", packets, 0o600, ids.uid["qmaild"]),
        todo=bind_unix(f"{home.run}/todo", packets, 0o600, ids.uid["qmails"]),
        lspawn=bind_unix(f"{home.run}/lspawn", stream, 0o600, ids.uid["qmails"]),
        rspawn=bind_unix(f"{home.run}/rspawn", stream, 0o600, ids.uid["qmails"]),
    )


def listening_sockets(home: Home, listen: list[str] | None) -> dict[str, list[tuple[socket.socket, str]]]:
    """Return, by role, the listening sockets with their profiles: those of --listen, else the service manager's, else the profiles' own.

    Those of --listen have the profile in PLUQ_PROFILE. The service manager names the profile of each (FileDescriptorName=).
    """
    from pluq.config.site import STOCK, Profile, read_site
    from pluq.supervisor.sockets import bind_tcp, inherited, parse_address

    site = read_site(home)
    profile = os.environ.get("PLUQ_PROFILE", STOCK)
    passed = [] if listen else inherited(os.environ)
    if listen:
        wanted = [(text, profile) for text in listen]
    else:
        wanted = [(text, one.name) for one in site.profiles.values() for text in one.listen]
        if not site.profiles:
            wanted = [(DEFAULT_LISTEN, STOCK)]
    if passed:
        found = [(sock, name if name in site.profiles else profile) for sock, name in passed]
    else:
        found = [(bind_tcp(parse_address(text)), name) for text, name in wanted]
    by_role: dict[str, list[tuple[socket.socket, str]]] = {}
    for sock, name in found:
        by_role.setdefault(site.profiles.get(name, Profile(name)).role, []).append((sock, name))
    return by_role


def roles(home: Home, ids: Ids, sockets: Sockets) -> list[Role]:
    """Return the stack. What is imported here is shared by all roles."""
    import pluq.local.workers
    import pluq.queue.daemon
    import pluq.queue.lease_client
    import pluq.remote.workers
    import pluq.send.loop
    import pluq.supervisor.keys
    from pluq.supervisor.processes import Role

    def who(user: str, group: str) -> Identity:
        return identity(ids, user, group)

    queue = partial(pluq.queue.daemon.run, home, sockets.qmqp, sockets.lease, sockets.todo)
    send = partial(pluq.send.loop.run, home, f"{home.run}/todo", f"{home.run}/lspawn", f"{home.run}/rspawn", 1)
    lspawn = partial(pluq.local.workers.run, home, sockets.lspawn)
    rspawn = partial(pluq.remote.workers.run, home, sockets.rspawn)
    queue_fds = tuple(sock.fileno() for sock in (sockets.qmqp, sockets.lease, sockets.todo))
    keeper = []
    if sockets.keys is not None:
        answer = partial(pluq.supervisor.keys.run, home, ids, sockets.keys)
        keeper = [Role("keys", who("root", "qmail"), answer, (sockets.keys.fileno(),), stage=2)]
    return [
        *keeper,
        Role("queue", who("qmailq", "qmail"), queue, queue_fds, umask=0o033, passes=HUP, stage=2),
        Role(
            "lspawn", who("root", "qmail"), lspawn, (sockets.lspawn.fileno(),), passes=HUP, starts_setuid=True, stage=2
        ),
        Role("rspawn", who("qmailr", "qmail"), rspawn, (sockets.rspawn.fileno(),), passes=HUP, stage=2),
        Role("send", who("qmails", "qmail"), send, passes=HUP_ALRM),
        *servers(home, ids, sockets),
    ]


def servers(home: Home, ids: Ids, sockets: Sockets) -> Iterator[Role]:
    """Yield the roles that listen, and what they need."""
    from pluq.supervisor.processes import Role

    for name, found in sockets.listening.items():
        user, module = SERVERS[name]
        server = importlib.import_module(module)
        run = partial(server.run, home, [server.Listener(sock, profile) for sock, profile in found])
        fds = tuple(sock.fileno() for sock, _ in found)
        # A site's QMAILQUEUE or checkpassword program may be set-uid.
        yield Role(name, identity(ids, user, "nofiles"), run, fds, passes=HUP, starts_setuid=name != "pop3d")
    if sockets.logins is not None:
        import pluq.pop3.logins

        run = partial(pluq.pop3.logins.run, home, ids, sockets.logins)
        fds = (sockets.logins.fileno(),)
        who = identity(ids, "root", "qmail")
        yield Role("logins", who, run, fds, umask=0o022, passes=HUP, starts_setuid=True, stage=2)


def identity(ids: Ids, user: str, group: str) -> Identity:
    """Return whom a role runs as: the qmail user, or the one user of a stack that has no other."""
    from pluq.supervisor.privileges import Identity, current_identity, user_identity

    if ids.single:
        return current_identity()
    if user == "root":
        return Identity(0, ids.gid[group])
    return user_identity(ids.uid[user], ids.gid[group])
