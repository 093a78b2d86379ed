"""The role "keys": the only one that still is root and talks to others. It opens files for those who may not; see pluq.config.keys.

It loads no plugin and reads nothing from the network. It answers the users that run plugins (qmaild, qmailp, qmailr) and root, one request a
connection, and opens nothing but regular files below control/ and those that pluq.toml names.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import struct
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from pluq.config import Home, Ids
from pluq.config.keys import MAX_PATH, SECONDS
from pluq.supervisor.sockets import bind_unix

PEER = struct.Struct("3i")


def run(home: Home, ids: Ids, sock: socket.socket) -> None:
    """Answer until TERM."""
    allowed = {0, ids.uid["qmaild"], ids.uid["qmailp"], ids.uid["qmailr"]}
    sock.setblocking(True)
    while True:
        connection, _ = sock.accept()
        with connection:
            connection.settimeout(SECONDS)
            try:
                answer(connection, home, allowed)
            except OSError:
                continue


@contextmanager
def answering(home: Home, ids: Ids) -> Iterator[str | None]:
    """Answer while the block runs, for a check without a stack; give the socket, None where everything is one user."""
    if ids.single or os.geteuid() != 0:
        yield None
        return
    with TemporaryDirectory(prefix="pluq-keys-") as folder:
        os.chmod(folder, 0o711)  # noqa: S103  # the qmail users pass through to the socket
        path = f"{folder}/keys"
        sock = bind_unix(path, socket.SOCK_SEQPACKET, 0o666, 0)
        pid = os.fork()
        if pid == 0:
            try:
                run(home, ids, sock)
            finally:
                os._exit(0)
        try:
            yield path
        finally:
            sock.close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def answer(connection: socket.socket, home: Home, allowed: set[int]) -> None:
    """Carry out one request."""
    _, uid, _ = PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER.size))
    if uid not in allowed:  # before anything is read: a stranger who says nothing must not keep the others waiting
        connection.send(b"%d" % errno.EACCES)
        return
    path = os.fsdecode(connection.recv(MAX_PATH))
    if not may_be_read(path, home):
        connection.send(b"%d" % errno.EACCES)
        return
    try:
        fd = open_regular(path)
    except OSError as error:
        connection.send(b"%d" % (error.errno or errno.EIO))
        return
    try:
        socket.send_fds(connection, [b"ok"], [fd])
    finally:
        os.close(fd)


def open_regular(path: str) -> int:
    """Open a file for reading. Raises OSError for what is no regular file, and does not wait for a FIFO."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


def may_be_read(path: str, home: Home) -> bool:
    """Return whether a path lies below control/, or is named in pluq.toml. Links are the administrator's, who owns the folder."""
    if path != os.path.normpath(path):
        return False
    return path.startswith(f"{home.control_dir}/") or path in named_files(home)


def named_files(home: Home) -> set[str]:
    """Return every text in pluq.toml that is a path, absolute or relative to the home."""
    try:
        with open(home.control("pluq.toml"), "rb") as file:
            document = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return set()
    return {text if text.startswith("/") else f"{home.path}/{text}" for text in texts(document)}


def texts(value: Any) -> Iterator[str]:
    """Yield every text in a TOML value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from texts(one)
