"""Files that only root may read, for roles that are not root: private keys, mostly.

    role: HOME/run/keys -> path          root's role "keys": -> the open file, or an errno

A role first opens the file itself. Where it may not, it asks the role "keys", which runs as root, loads no plugin, and hands out open
files, read-only: those below the control directory, and those that control/pluq.toml names word for word. The caller's user is learnt
from the kernel. Keys so need no group of their own, and are read again at a reload.

Format: a packet with the path; the answer is a packet with the file's descriptor, or with an errno as text.

Source: unix(7).
"""

from __future__ import annotations

import os
import socket

from pluq.config.home import Home
from pluq.store import unix

MAX_PATH = 4096
MAX_FILE_BYTES = 1 << 20
SECONDS = 10.0


class KeyReader:
    """Reads files with the help of the role "keys". Call it with a path; it raises OSError."""

    def __init__(self, home: Home, socket_path: str | None = None) -> None:
        self.socket_path = socket_path or f"{home.run}/keys"

    def __call__(self, path: str) -> bytes:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError as error:
            fd = self._ask(path, error)
        with open(fd, "rb") as file:
            return file.read(MAX_FILE_BYTES)

    def _ask(self, path: str, refused: PermissionError) -> int:
        """Return the descriptor that root opened; raise the first refusal where nobody answers."""
        try:
            sock = unix.connect(self.socket_path, socket.SOCK_SEQPACKET, SECONDS)
        except OSError:
            raise refused from None
        with sock:
            try:
                sock.send(os.fsencode(path))
                answer, fds, _, _ = socket.recv_fds(sock, 64, 1)
            except ConnectionError:  # it does not talk to us
                raise refused from None
        if fds:
            return fds[0]
        code = int(answer) if answer.isdigit() else 5
        raise OSError(code, os.strerror(code), path)
