"""The sockets of the stack: bound once by the supervisor, given to each role by fork, alive while roles come and go.

TCP ports come from --listen or a profile, or from the service manager (LISTEN_FDS, sd_listen_fds(3)). The Unix sockets lie in
HOME/run; each belongs to the one user who may connect to it, only run/qmqp is for everybody (the daemon asks the kernel who
calls). A socket of a former run is replaced; the lock run/lock, which every role of a stack inherits, tells whether one still lives.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass

from pluq.errors import ConfigError

BACKLOG = 1024
LISTEN_FDS_START = 3
# sockaddr_un holds 108 bytes; a longer path goes through a descriptor of its folder.
UNIX_PATH_BYTES = 100


@dataclass(frozen=True)
class Address:
    """Where to listen: a numeric IP address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parse "192.0.2.1:25", "[2001:db8::1]:25" or ":25" (every IPv4 address). Raises ValueError with a sentence."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    host = host or "0.0.0.0"
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not ADDRESS:PORT, for example 127.0.0.1:25 or [::1]:25")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except OSError:
        raise ValueError(f"{host!r} is not a numeric IP address") from None
    return Address(host, int(port))


def bind_tcp(address: Address) -> socket.socket:
    """Listen on a TCP port. Raises ConfigError, which tells the address and why not."""
    try:
        try:
            return _listening(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # It may be ours and about to go: then it is marked (ports.sharing). A stranger's is not, and this fails again.
            sock = _listening(address, shared=True)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
            return sock
    except OSError as error:
        raise ConfigError(f"listen {address}", os.strerror(error.errno or 0)) from error


def _listening(address: Address, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address.host, address.port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def inherited(environment: Mapping[str, str]) -> list[tuple[socket.socket, str]]:
    """Return the listening sockets that the service manager opened for us, in its order, with the names that it gave them."""
    count = environment.get("LISTEN_FDS", "0")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit():
        return []
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    names += [""] * (int(count) - len(names))
    sockets = [socket.socket(fileno=fd) for fd in range(LISTEN_FDS_START, LISTEN_FDS_START + int(count))]
    for sock in sockets:
        sock.set_inheritable(False)
        sock.setblocking(False)
    return list(zip(sockets, names, strict=False))


def bind_unix(path: str, kind: socket.SocketKind, mode: int, uid: int) -> socket.socket:
    """Listen on a Unix socket that belongs to `uid` with this mode, in the place of one left by a former run."""
    folder, name = os.path.split(path)
    with_folder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    short = path if len(os.fsencode(path)) <= UNIX_PATH_BYTES else f"/proc/self/fd/{with_folder}/{name}"
    sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    umask = os.umask(0o777)
    try:
        remove_socket(path)
        sock.bind(short)
        if os.geteuid() == 0:
            os.chown(path, uid, -1)
        os.chmod(path, mode)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise ConfigError(path, os.strerror(error.errno or 0)) from error
    finally:
        os.umask(umask)
        os.close(with_folder)
    return sock


def remove_socket(path: str) -> None:
    """Remove a socket that nobody serves any more; anything else by that name is left, and bind will complain."""
    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        return


def lock_run(path: str, wait_seconds: float) -> int:
    """Return a descriptor that holds the lock of this home's stack, waiting a while for a dying one to go.

    Roles inherit it, so that it is free only when the last process of a stack has gone, also if the supervisor was killed.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES) or time.monotonic() > deadline:
                os.close(fd)
                raise ConfigError(path, "another stack serves this home") from error
        time.sleep(0.05)
