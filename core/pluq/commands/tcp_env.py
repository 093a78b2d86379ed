"""tcp-env [ -rR ] [ -t timeout ] program [ arg ... ]

Runs a program on a TCP connection that inetd or systemd has put on descriptor 0, with the environment that tcpserver would give it:
PROTO, and TCP(LOCAL|REMOTE)(IP|PORT|HOST), and TCPREMOTEINFO, asked of the other host's ident server (RFC 1413) for up to 30
seconds (-t); -R does not ask. If PROTO is already TCP, nothing is changed. Exits 111 if descriptor 0 is no TCP connection or the
program cannot be run.

Source: tcp-env(1), tcp-environ(5) of qmail. IPv6 is ours; IPv4 addresses that come as IPv6 ones are written as IPv4.
"""

from __future__ import annotations

import os
import socket
import sys
from ipaddress import IPv6Address

from pluq.commands.children import replace_process
from pluq.commands.options import Options
from pluq.commands.terminal import help_asked

FAILED = 111
TIMEOUT = 30
IDENT_PORT = 113
IDENT_LIMIT = 998
"""Bytes of an ident server's answer that are kept."""
IDENT_READ = 8192
"""Bytes of it that are read."""

Endpoint = tuple[str, int]


def main() -> int:
    if help_asked(__doc__):
        return 0
    options = Options(sys.argv, "rRt:", quiet=True)
    timeout, ask = TIMEOUT, True
    for letter, value in options:
        if letter == "t":
            timeout = int(value) if value.isdecimal() else 0
        elif letter in "rR":
            ask = letter == "r"
    command = options.rest
    if not command:
        return FAILED
    try:
        if os.environ.get("PROTO") != "TCP":
            describe(timeout if ask else None)
        replace_process(command[0], command)
    except OSError:
        return FAILED


def describe(ident_timeout: int | None) -> None:
    """Put the connection on descriptor 0 into the environment. Raises OSError if there is none."""
    with socket.socket(fileno=os.dup(0)) as connection:
        local = endpoint(connection.getsockname())
        remote = endpoint(connection.getpeername())
    os.environ["PROTO"] = "TCP"
    for side, (address, port) in (("LOCAL", local), ("REMOTE", remote)):
        os.environ[f"TCP{side}PORT"] = str(port)
        os.environ[f"TCP{side}IP"] = address
        set_or_unset(f"TCP{side}HOST", host_name(address))
    set_or_unset("TCPREMOTEINFO", None if ident_timeout is None else remote_info(local, remote, ident_timeout))


def set_or_unset(name: str, value: bytes | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environb[name.encode()] = value


def endpoint(name: object) -> Endpoint:
    """Return address and port of one end. Raises OSError for anything but TCP over IP."""
    if not isinstance(name, tuple):
        raise OSError("not an internet socket")
    address = str(name[0]).partition("%")[0]
    if ":" in address and (mapped := IPv6Address(address).ipv4_mapped):
        address = str(mapped)
    return address, int(name[1])


def host_name(address: str) -> bytes | None:
    """Return the name of an address in lower case, `softdnserror` if nobody could tell, None if it has none."""
    from ipaddress import ip_address

    from pluq.dns import lookup_now
    from pluq.errors import TemporaryFailure

    try:
        records = lookup_now(ip_address(address).reverse_pointer, "PTR").records
    except TemporaryFailure:
        return b"softdnserror"
    return records[0].lower().partition(b"\0")[0] if records else None


def remote_info(local: Endpoint, remote: Endpoint, timeout: int) -> bytes | None:
    """Return what the other host's ident server says of the connection, None if it says nothing."""
    try:
        with socket.create_connection((remote[0], IDENT_PORT), timeout, (local[0], 0)) as server:
            server.settimeout(timeout)
            server.sendall(b"%d , %d\r\n" % (remote[1], local[1]))
            answer = b""
            while b"\n" not in answer and len(answer) < IDENT_READ:
                piece = server.recv(IDENT_READ)
                if not piece:
                    return None
                answer += piece
    except OSError:
        return None
    return user_of(answer)


def user_of(answer: bytes) -> bytes | None:
    """Return what stands behind the third colon of an ident answer, without blanks."""
    fields = answer.partition(b"\n")[0].translate(None, b" \t\r").split(b":", 3)
    return fields[3][:IDENT_LIMIT].partition(b"\0")[0] if len(fields) > 3 else b""
