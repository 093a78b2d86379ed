"""What a site says of its log and of the status role: [log] and [status] in control/pluq.toml.

    [log]
    format = "json"                  "qmail" (the default), "json" or "both"

    [status]
    listen = "127.0.0.1:8025"        or the path of a Unix socket; without it there is no such role

Without a login of its own the status page is for this machine: any address but a loopback one is an error until the site says
`open = true`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pluq.config.settings import setting
from pluq.errors import ConfigError

if TYPE_CHECKING:
    from pluq.config.home import Home
    from pluq.config.table import Table


@dataclass(frozen=True)
class Log:
    """[log]."""

    format: Literal["qmail", "json", "both"] = setting("qmail", help="Lines of qmail-log(5), JSON objects, or both.")


@dataclass(frozen=True)
class Status:
    """[status]. There is no such role where `listen` is empty."""

    listen: str = setting("", help="ADDRESS:PORT, or the path of a Unix socket; none: no status page.")
    open: bool = setting(
        False, help="`listen` may be an address that others can reach. The page asks nobody for a password."
    )
    hosts: tuple[str, ...] = setting(
        (), help="Names by which browsers may reach it, besides the address itself: behind a proxy, for example."
    )
    user: str = setting("qmaill", help="The user that it runs as.")
    addresses: bool = setting(
        False, help="Show senders and recipients of the oldest messages. Everybody on this machine may look."
    )
    disk_free: int = setting(5, unit="percent", help="Health ends when less of the queue's disk is free.")
    inodes_free: int = setting(5, unit="percent", help="Health ends when fewer of its inodes are free.")
    queue_age: int = setting(0, unit="seconds", help="Health ends when a message is older; 0: queuelifetime and a day.")
    todo_age: int = setting(900, unit="seconds", help="Health ends when a message has waited so long to be looked at.")
    certificate_days: int = setting(7, unit="days", help="Health ends when a certificate expires sooner.")


def form_of_log(home: Home) -> str:
    """Return the form of the log for a program that starts: qmail's where the file says nothing, or is broken and somebody else tells."""
    if not os.path.exists(home.control("pluq.toml")):
        return "qmail"
    from pluq.config.site import read_site

    try:
        return read_site(home).log.format
    except ConfigError:
        return "qmail"


def check_table(settings: Status, table: Table) -> None:
    """Raise ConfigError for an address that makes no sense, or that strangers can reach without the site having said so."""
    if settings.listen and not settings.listen.startswith("/"):
        _check_address(table, settings)


def check_status(settings: Status, file: str, single: bool) -> None:
    """Raise ConfigError for what keeps the status role from running on this machine. `single`: its user is that of the stack."""
    import pwd
    from importlib.util import find_spec

    if not settings.listen:
        return
    if find_spec("h11") is None:
        raise ConfigError(
            file, "the package h11 is missing: install pluq[status], or python3-h11", None, "status.listen"
        )
    try:
        uid = -1 if single else pwd.getpwnam(settings.user).pw_uid
    except KeyError:
        raise ConfigError(file, f"there is no user {settings.user!r}", None, "status.user") from None
    if uid == 0:
        raise ConfigError(file, "the status page does not run as root", None, "status.user")


def split_address(listen: str) -> tuple[str, int]:
    """Return host and port of ADDRESS:PORT or [ADDRESS]:PORT. Raises ValueError."""
    import ipaddress

    host, colon, port = listen.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("no port")
    return str(ipaddress.ip_address(host)), int(port)


def _check_address(table: Table, settings: Status) -> None:
    import ipaddress

    try:
        host, _port = split_address(settings.listen)
    except ValueError:
        example = "127.0.0.1:8025, [::1]:8025 or /var/qmail/run/status"
        raise table.error("listen", f"{settings.listen!r} is no address with a port, nor a path: {example}") from None
    if not ipaddress.ip_address(host).is_loopback and not settings.open:
        raise table.error(
            "listen",
            f"{host} can be reached by others, and the page asks nobody for a password: say `open = true` to allow it",
        )
