"""pluq serve: the whole stack as one service.

Checks the configuration, binds the ports and sockets, forks the roles, each as its own user, and keeps them running:

    smtpd   qmaild  accepts mail, and hands it to queue
    qmtpd   qmaild  accepts mail by QMTP and QMQP, for profiles that say so
    pop3d   qmailp  gives mail to its owners, for profiles that say so
    logins  root    starts checkpassword for pop3d
    queue   qmailq  owns the queue directory, and tells send
    send    qmails  decides who gets it and when; takes orders on run/send
    lspawn  root    delivers here, as each recipient
    rspawn  qmailr  delivers elsewhere
    keys    root    hands private keys to smtpd and rspawn
    status  qmaill  the status page, figures and health, if [status] has `listen`
    census  qmails  counts the queue for it

They speak through the sockets in run/. In a stack of one user all of them are that user.

TERM drains and stops; HUP re-reads the control files and pluq.toml, and listens where that says now; ALRM tries everything again now.
The lines of qmail-send go to standard output, the supervisor's own to standard error. Under systemd: Type=notify, sockets may be passed.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pluq.config import Home, Ids
    from pluq.config.site import Site
    from pluq.config.watching import Status
    from pluq.metrics import Board
    from pluq.supervisor.notify import Notifier
    from pluq.supervisor.ports import Port, Ports
    from pluq.supervisor.privileges import Identity
    from pluq.supervisor.processes import Role

# A stack that is being stopped needs its grace; whoever starts the next one waits for it.
LOCK_SECONDS = 15.0
# What a service manager tells us.
MANAGERS = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
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
    """The Unix sockets, which are bound before the first role starts."""

    keys: socket.socket | None
    qmqp: socket.socket
    lease: socket.socket
    todo: socket.socket
    lspawn: socket.socket
    rspawn: socket.socket
    send: socket.socket


def main() -> int:
    import argparse

    from pluq.commands.help_text import HelpText
    from pluq.config import Home
    from pluq.errors import ConfigError

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    where = "listen here (default: what the profiles say, without profiles 0.0.0.0:25)"
    parser.add_argument("--listen", metavar="ADDR:PORT", action="append", default=[], help=where)
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


def serve(home: Home, listen: list[str]) -> int:
    """Run the stack of this home until TERM. Raises ConfigError before anything is started, ValueError for `listen`."""
    from pluq import log, metrics
    from pluq.config.site import read_site
    from pluq.errors import ConfigError
    from pluq.supervisor import processes
    from pluq.supervisor.check import NO_HOME
    from pluq.supervisor.hier import is_null_client
    from pluq.supervisor.notify import Notifier
    from pluq.supervisor.ports import Ports
    from pluq.supervisor.recovery import recover_queue

    notifier, ports = Notifier(os.environ), Ports.from_environment(listen, os.environ)
    for name in MANAGERS:  # they are for us, not for what users start
        os.environ.pop(name, None)
    if not os.path.isdir(home.path):
        raise ConfigError(home.path, NO_HOME)
    if is_null_client(home):
        raise ConfigError(f"{home.bin}/qmail-queue", "hands all mail on by QMQP: this host has nothing to serve")
    ids = home.ids()
    keys = bind_keys(home, ids)
    if not configuration_is_sound(home, ids):
        return 111
    recover_queue(home, ids)
    site = read_site(home)
    log.use(site.log.format)
    board = metrics.Board() if site.status.listen else None
    stack = Stack(home, ids, bind(home, ids, keys), ports, notifier, watchers(home, ids, site.status, board), site)
    roles = stack.roles()
    processes.freeze_memory()
    return processes.Supervisor(roles, notifier, reload=stack.reload, board=board).run()


def configuration_is_sound(home: Home, ids: Ids) -> bool:
    """Say whether everything can be read and makes sense; tell the administrator each fault."""
    from pluq import log
    from pluq.supervisor.check import faults, plugin_faults, warnings

    for warning in warnings(ids):
        log.say("pluq serve", f"warning: {warning}")
    found = [str(fault) for fault in faults(home, ids)] or plugin_faults(home, ids)
    for fault in found:
        log.say("pluq serve", fault)
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


def bind(home: Home, ids: Ids, keys: socket.socket | None) -> Sockets:
    """Bind the Unix sockets. Each belongs to the single user who connects to it."""
    from pluq.supervisor.sockets import bind_unix

    stream, packets = socket.SOCK_STREAM, socket.SOCK_SEQPACKET
    return Sockets(
        keys=keys,
        qmqp=bind_unix(f"{home.run}/qmqp", stream, 0o666, os.geteuid()),
        lease=bind_unix(f"{home.run}/lease", packets, 0o600, ids.uid["qmaild"]),
        todo=bind_unix(f"{home.run}/todo", packets, 0o600, ids.uid["qmails"]),
        lspawn=bind_unix(f"{home.run}/lspawn", stream, 0o600, ids.uid["qmails"]),
        rspawn=bind_unix(f"{home.run}/rspawn", stream, 0o600, ids.uid["qmails"]),
        send=bind_unix(f"{home.run}/send", packets, 0o600, os.geteuid()),
    )


class Stack:
    """The roles of a home, as its configuration wants them: now, and after a HUP.

    A server whose ports or number of workers change is another role: the new process shares the ports that stay with the old one,
    which lets all of them go and serves the sessions that it has to their end.
    """

    def __init__(
        self,
        home: Home,
        ids: Ids,
        sockets: Sockets,
        ports: Ports,
        notifier: Notifier,
        watchers: Sequence[Role] = (),
        started: Site | None = None,
    ) -> None:
        self._home = home
        self._ids = ids
        self._ports = ports
        self._notifier = notifier
        self._fixed = [*fixed_roles(home, ids, sockets), *watchers]
        self._servers: dict[str, tuple[object, Role]] = {}
        self._logins: Role | None = None
        self._started = started

    def roles(self) -> list[Role]:
        """Bind what is to be bound, and return the stack. Raises ConfigError; then everything is as it was."""
        from pluq.config.site import read_site

        site = read_site(self._home)
        with self._ports.following(site) as found:
            servers = self._servers_for(site, found)
            if "pop3d" in servers and self._logins is None:
                self._logins = logins(self._home, self._ids)
        self._servers = servers
        self._notifier.status("listening on " + (", ".join(map(str, found)) or "no port"))
        return [*self._fixed, *(role for _, role in servers.values()), *([self._logins] if self._logins else [])]

    def _servers_for(self, site: Site, found: Sequence[Port]) -> dict[str, tuple[object, Role]]:
        """Return the roles that serve these ports, and what makes each of them another role when it changes."""
        from pluq.config.site import Profile
        from pluq.listen.worker import worker_count

        by_role: dict[str, list[Port]] = {}
        for port in found:
            by_role.setdefault(site.profiles.get(port.profile, Profile(port.profile)).role, []).append(port)
        servers: dict[str, tuple[object, Role]] = {}
        for name, its_ports in by_role.items():
            limit = site.core.memory_bytes
            shape = (its_ports, worker_count(site, [port.profile for port in its_ports]), limit)
            if name in self._servers and self._servers[name][0] == shape:
                servers[name] = self._servers[name]
            else:
                servers[name] = (shape, server(self._home, self._ids, name, its_ports, limit))
        return servers

    def reload(self) -> list[Role] | None:
        """HUP: return the stack as it is to be from now on, None if it has to stay as it is; the administrator is told why."""
        from pluq import log
        from pluq.errors import ConfigError

        try:
            if configuration_is_sound(self._home, self._ids):
                roles = self.roles()
                log.say("pluq serve", "the configuration was read again")
                self._tell_what_waits()
                return roles
        except ConfigError as error:
            log.say("pluq serve", str(error))
        except Exception:  # a fault of ours, or modules that an upgrade has changed under us: mail goes on
            traceback.print_exc()
        log.say("pluq serve", "nothing was reloaded: what was read before stays in force")
        self._notifier.status("the last reload was refused, see the log; what was read before stays in force")
        return None

    def _tell_what_waits(self) -> None:
        """Say which tables have changed and are read at a start only: all processes have them from the one that forked them."""
        from pluq import log
        from pluq.config.site import read_site

        if self._started is None:
            return
        now = read_site(self._home)
        for name, before, after in (("log", self._started.log, now.log), ("status", self._started.status, now.status)):
            if before != after:
                log.say("pluq serve", f"{now.file}: [{name}] has changed, and takes a restart; all else was taken now")


def fixed_roles(home: Home, ids: Ids, sockets: Sockets) -> list[Role]:
    """Return the roles that every stack has. What is imported here is shared by all roles."""
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
    paths = (f"{home.run}/todo", f"{home.run}/lspawn", f"{home.run}/rspawn")
    send = partial(pluq.send.loop.run, home, *paths, 1, sockets.send)
    lspawn = partial(pluq.local.workers.run, home, sockets.lspawn)
    rspawn = partial(pluq.remote.workers.run, home, sockets.rspawn)
    queue_fds = tuple(sock.fileno() for sock in (sockets.qmqp, sockets.lease, sockets.todo))
    keeper = []
    if sockets.keys is not None:
        answer = partial(pluq.supervisor.keys.run, home, ids, sockets.keys)
        keeper = [Role("keys", who("root", "qmail"), answer, (sockets.keys.fileno(),), stage=2)]
    return [
        *keeper,
        # The daemon reads no control file: a HUP would only end it, and refuse the messages that are on their way.
        Role("queue", who("qmailq", "qmail"), queue, queue_fds, umask=0o033, stage=2),
        Role(
            "lspawn", who("root", "qmail"), lspawn, (sockets.lspawn.fileno(),), passes=HUP, starts_setuid=True, stage=2
        ),
        Role("rspawn", who("qmailr", "qmail"), rspawn, (sockets.rspawn.fileno(),), passes=HUP, stage=2),
        Role("send", who("qmails", "qmail"), send, (sockets.send.fileno(),), passes=HUP_ALRM),
    ]


def watchers(home: Home, ids: Ids, settings: Status, board: Board | None) -> list[Role]:
    """Return the roles that serve the status page. Raises ConfigError."""
    if board is None:
        return []
    import pluq.status.census
    import pluq.status.server
    from pluq.config.watching import check_status
    from pluq.supervisor.processes import Role
    from pluq.supervisor.sockets import bind_tcp, bind_unix, parse_address

    check_status(settings, home.control("pluq.toml"), ids.single)
    if settings.listen.startswith("/"):
        # Whoever may enter its folder may look, as anybody here may ask 127.0.0.1.
        sock = bind_unix(settings.listen, socket.SOCK_STREAM, 0o666, os.geteuid())
    else:
        sock = bind_tcp(parse_address(settings.listen))
    census = partial(pluq.status.census.run, home, board, settings)
    serve = partial(pluq.status.server.run, home, board, settings, sock)
    return [
        Role("census", identity(ids, "qmails", "qmail"), census),
        Role("status", watcher(ids, settings), serve, (sock.fileno(),)),
    ]


def watcher(ids: Ids, settings: Status) -> Identity:
    """Return whom the status role runs as; that there is such a user was checked."""
    import pwd

    from pluq.supervisor.privileges import Identity

    if ids.single:
        return identity(ids, settings.user, "nofiles")
    return Identity(pwd.getpwnam(settings.user).pw_uid, ids.gid["nofiles"])


def server(home: Home, ids: Ids, name: str, ports: Sequence[Port], limit: int) -> Role:
    """Return a role that listens, of up to `limit` octets of memory."""
    from pluq.supervisor.processes import Role

    user, module = SERVERS[name]
    code = importlib.import_module(module)
    run = partial(code.run, home, [code.Listener(port.sock, port.profile) for port in ports])
    fds = tuple(port.sock.fileno() for port in ports)
    # A site's QMAILQUEUE or checkpassword program may be set-uid.
    may_setuid = name != "pop3d"
    who = identity(ids, user, "nofiles")
    return Role(name, who, run, fds, passes=HUP, starts_setuid=may_setuid, farewell=signal.SIGQUIT, limit=limit)


def logins(home: Home, ids: Ids) -> Role:
    """Return the role that starts checkpassword for pop3d."""
    import pluq.pop3.logins
    from pluq.supervisor.processes import Role
    from pluq.supervisor.sockets import bind_unix

    sock = bind_unix(f"{home.run}/logins", socket.SOCK_SEQPACKET, 0o600, ids.uid["qmailp"])
    run = partial(pluq.pop3.logins.run, home, ids, sock)
    who = identity(ids, "root", "qmail")
    return Role("logins", who, run, (sock.fileno(),), umask=0o022, passes=HUP, starts_setuid=True, stage=2)


def identity(ids: Ids, user: str, group: str) -> Identity:
    """Return whom a role runs as: the qmail user, or the one user of a stack that has no other."""
    from pluq.supervisor.privileges import Identity, current_identity, user_identity

    if ids.single:
        return current_identity()
    if user == "root":
        return Identity(0, ids.gid[group])
    return user_identity(ids.uid[user], ids.gid[group])
