"""pluq popauth allow: note that a client has logged in, then become the program that serves it.

    pluq popauth allow PROGRAM [ARGUMENT]...

Stands between a checkpassword program and qmail-pop3d, or Courier's authentication and imapd. Touches the file of $TCPREMOTEIP in the
folder that RELAY_CTRL_DIR names, as the user who logged in, so the folder must be open to all users and sticky (mode 1777). A login
never fails for it: what goes wrong is said on standard error, and the program starts all the same. Exit 111 if it cannot.

Source: relay-ctrl-allow(8).
"""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Mapping, Sequence

USAGE = 100
TEMPORARY = 111


def allow(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        sys.stderr.write(f"{__doc__}\n" if argv else "usage: pluq popauth allow PROGRAM [ARGUMENT]...\n")
        return 0 if argv else USAGE
    fault = note(os.environ)
    if fault:
        sys.stderr.write(f"pluq popauth allow: {fault}\n")
    sys.stderr.flush()
    try:
        os.execvp(argv[0], list(argv))
    except OSError as error:
        sys.stderr.write(f"pluq popauth allow: {argv[0]}: {error.strerror}\n")
        return TEMPORARY


def note(environment: Mapping[str, str]) -> str:
    """Touch the client's file; return what went wrong, "" for nothing."""
    from pluq_popauth import FOLDER

    folder = environment.get("RELAY_CTRL_DIR", FOLDER)
    try:
        name = str(ipaddress.ip_address(environment.get("TCPREMOTEIP", "")))
    except ValueError:
        return "TCPREMOTEIP is no address"
    path = f"{folder}/{name}"
    # Another user may have logged in from the same address, so the file is anybody's. Nobody reads what is in it.
    before = os.umask(0)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
        try:
            os.utime(fd)
        finally:
            os.close(fd)
    except OSError as error:
        return f"{path}: {error.strerror}"
    finally:
        os.umask(before)
    return ""
