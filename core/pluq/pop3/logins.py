"""The role "logins": root, because a checkpassword program changes to the user. It starts one for each login at the POP3 server.

It is all that is left of root in POP3: it reads no network, knows no POP3, loads no plugin. From the server, which is nobody in
particular, it takes a packet of bounded size and a stream; it runs the command that control/pluq.toml has for the profile, with the stream
as descriptors 0 and 1 and the login on descriptor 3, and tells how that ended.

    server -> logins     PROFILE \\0 USER \\0 SECRET \\0 TIMESTAMP \\0 NAME=VALUE \\0 ...   and one end of a stream
    logins -> server     when the program has ended: nothing but "+", or the text of a refusal

One request a connection. Of the variables only those of tcpserver are taken (PROTO, TCPREMOTEIP...): no stranger shall set LD_PRELOAD.

HUP reads control/pluq.toml anew. At TERM the role ends at once; sessions end when the server closes their streams.

Source: http://cr.yp.to/checkpwd/interface.html, tcp-environ(5).
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from pluq import log
from pluq.config.home import Home, Ids
from pluq.config.site import read_site
from pluq.errors import ConfigError, ProtocolError
from pluq.pop3.login import NO_PIPE, REFUSED, UNWRITABLE, not_started, spawn, verdict, written_pipe
from pluq.store import unix

DONE = b"+"
BUSY = b"too many sessions, try again later"
# A line of a command may have 16 KiB, and there are two; the rest is for the variables.
REQUEST_BYTES = 49152
# A session is a process; beyond this the machine, not the profile's limit, is what counts.
MOST_PROGRAMS = 1000
SECONDS = 10.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PEER = struct.Struct("3i")
_VARIABLE = re.compile(r"(PROTO|TCP[A-Z0-9]+)=[^\0]*", re.ASCII)


@dataclass(frozen=True)
class Request:
    """A login for a profile; `login` is what the program reads from descriptor 3."""

    profile: str
    login: bytes
    environment: Mapping[str, str]


def encode(profile: str, login: bytes, environment: Mapping[str, str]) -> bytes:
    """Return the packet of a request."""
    variables = (f"{name}={value}" for name, value in environment.items())
    words = [text for text in variables if _VARIABLE.fullmatch(text)]
    return os.fsencode(profile) + b"\0" + login + b"".join(os.fsencode(word) + b"\0" for word in words)


def parse(packet: bytes) -> Request:
    """Return the request in a packet. Raises ProtocolError."""
    *words, rest = packet.split(b"\0")
    if len(words) < 4 or rest:
        raise ProtocolError("a login is a profile, a name, a secret, a timestamp, and variables")
    variables = [os.fsdecode(word) for word in words[4:]]
    if not all(map(_VARIABLE.fullmatch, variables)):
        raise ProtocolError("only the variables of tcpserver may be given to a login")
    login = b"".join(word + b"\0" for word in words[1:4])
    return Request(os.fsdecode(words[0]), login, dict(text.split("=", 1) for text in variables))


class Logins:
    """The loop of the role: requests in, programs started, ends told."""

    def __init__(self, home: Home, ids: Ids, sock: socket.socket) -> None:
        self._home = home
        self._allowed = {0, ids.uid["qmailp"]}
        self._sock = sock
        self._selector = selectors.DefaultSelector()
        self._running = 0
        self._commands: dict[str, tuple[str, ...]] = {}
        self.read_commands()

    def read_commands(self, *_: object) -> None:
        """Read what to run for each profile; keep what was known where that fails."""
        try:
            profiles = read_site(self._home).profiles
        except ConfigError as error:
            log.say("logins", f"{error}; what was read before stays in force")
            return
        self._commands = {name: one.checkpassword for name, one in profiles.items() if one.protocol == "pop3"}

    def run(self) -> None:
        """Answer until the process ends."""
        self._sock.setblocking(False)
        self._selector.register(self._sock, selectors.EVENT_READ, self._accept)
        while True:
            for key, _ in self._selector.select():
                key.data()

    def _accept(self) -> None:
        try:
            connection, _ = self._sock.accept()
        except OSError:
            return
        connection.setblocking(False)
        _, uid, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if uid not in self._allowed:
            connection.close()
            return
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._take(connection))

    def _take(self, connection: socket.socket) -> None:
        """Carry out the request that has arrived."""
        self._selector.unregister(connection)
        fds: list[int] = []
        try:
            packet, fds, _, _ = socket.recv_fds(connection, REQUEST_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
            request = parse(packet)
            refusal = self._start(request, fds[0], connection)
        except (OSError, ProtocolError, IndexError):
            refusal = REFUSED
        finally:
            for fd in fds:
                os.close(fd)
        if refusal is not None:
            answer(connection, refusal)

    def _start(self, request: Request, stream: int, connection: socket.socket) -> bytes | None:
        """Start the program; return the refusal if that fails. The end of the program is told on `connection`."""
        if self._running >= MOST_PROGRAMS:
            return BUSY
        command = self._commands.get(request.profile)
        if command is None:
            return REFUSED
        try:
            password = written_pipe(request.login)
        except BlockingIOError:
            return UNWRITABLE
        except OSError:
            return NO_PIPE
        try:
            pid = spawn(list(command), password, self._environment(request), stream=stream)
            ended = os.pidfd_open(pid)
        except OSError as error:
            log.say("logins", f"{command[0]}: {os.strerror(error.errno or 0)}")
            return not_started(error)
        finally:
            os.close(password)
        self._running += 1
        self._selector.register(ended, selectors.EVENT_READ, lambda: self._ended(pid, ended, connection))
        return None

    def _environment(self, request: Request) -> dict[str, str]:
        """Return a clean environment with what tcpserver would have said of the client."""
        own = {"PATH": os.environ.get("PATH", PATH), "PLUQ_HOME": self._home.path, "PLUQ_PROFILE": request.profile}
        return {**own, **({"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}), **request.environment}

    def _ended(self, pid: int, ended: int, connection: socket.socket) -> None:
        self._selector.unregister(ended)
        os.close(ended)
        self._running -= 1
        answer(connection, verdict(os.waitpid(pid, 0)[1]) or DONE)


def answer(connection: socket.socket, text: bytes) -> None:
    """Say how it ended, if the server still wants to know."""
    with connection:
        try:
            connection.send(text)
        except OSError:
            return


def connect(path: str) -> socket.socket:
    """Return a connection to the role. Raises OSError."""
    sock = unix.connect(path, socket.SOCK_SEQPACKET, SECONDS)
    sock.setblocking(False)
    return sock


def run(home: Home, ids: Ids, sock: socket.socket) -> None:
    """Be the role until TERM."""
    os.environ["PATH"] = f"{home.bin}:{os.environ.get('PATH') or PATH}"
    logins = Logins(home, ids, sock)
    signal.signal(signal.SIGHUP, logins.read_commands)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})  # the supervisor had it wait for this
    logins.run()
