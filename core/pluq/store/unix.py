"""Connecting to the Unix sockets in HOME/run: the queue daemon, the keeper of keys, the deliverers."""

from __future__ import annotations

import os
import socket

__all__ = ["connect"]

# sockaddr_un holds 108 bytes; a longer path goes through a descriptor of its folder.
PATH_BYTES = 100


def connect(path: str, kind: int, timeout: float | None = None) -> socket.socket:
    """Return a connection to a Unix socket. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, kind)
    folder = -1
    try:
        sock.settimeout(timeout)
        if len(os.fsencode(path)) > PATH_BYTES:
            folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            path = f"/proc/self/fd/{folder}/{os.path.basename(path)}"
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    finally:
        if folder >= 0:
            os.close(folder)
    return sock
