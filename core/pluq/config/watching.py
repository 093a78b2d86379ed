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
from typing import TYPE_CHECKING

from pluq import log
from pluq.errors import ConfigError

if TYPE_CHECKING:
    from pluq.config.home import Home
    from pluq.config.site import Table

LOG_KEYS = ("format",)
STATUS_KEYS = (
    "listen",
    "open",
    "hosts",
    "user",
    "addresses",
    "disk_free",
    "inodes_free",
    "queue_age",
    "todo_age",
    "certificate_days",
)


@dataclass(frozen=True)
class Status:
    """[status]. `listen` is "" where there is no such role; times in seconds, `disk_free` and `inodes_free` in percent."""

    listen: str = ""
    hosts: tuple[str, ...] = ()
    """Names by which browsers may reach the page, besides the address itself: behind a proxy, for example."""
    user: str = "qmaill"
    addresses: bool = False
    """Show senders and recipients of the oldest messages. Everybody on this machine may look."""
    disk_free: int = 5
    inodes_free: int = 5
    queue_age: int = 0
    """Health ends when a message is older; 0 is queuelifetime and a day."""
    todo_age: int = 900
    """Health ends when a message has waited so long to be looked at."""
    certificate_days: int = 7


def form_of_log(home: Home) -> str:
    """Return the form of the log for a program that starts: qmail's where the file says nothing, or is broken and somebody else tells."""
    if not os.path.exists(home.control("pluq.toml")):
        return "qmail"
    from pluq.config.site import read_site

    try:
        return read_site(home).log_format
    except ConfigError:
        return "qmail"


def log_format(table: Table) -> str:
    """Return the form of the log. Raises ConfigError."""
    _refuse_unknown(table, LOG_KEYS)
    form = table.text("format", "qmail")
    if form not in log.FORMATS:
        raise table.error("format", f"{form!r} is none of {', '.join(log.FORMATS)}")
    return form


def status(table: Table) -> Status:
    """Return what [status] says. Raises ConfigError."""
    _refuse_unknown(table, STATUS_KEYS)
    listen = table.text("listen", "")
    if listen and not listen.startswith("/"):
        _check_address(table, listen)
    numbers = {
        key: table.number(key, getattr(Status, key))
        for key in ("disk_free", "inodes_free", "queue_age", "todo_age", "certificate_days")
    }
    return Status(
        listen, table.texts("hosts"), table.text("user", Status.user), table.flag("addresses", False), **numbers
    )


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


def _check_address(table: Table, listen: str) -> None:
    import ipaddress

    try:
        host, _port = split_address(listen)
    except ValueError:
        example = "127.0.0.1:8025, [::1]:8025 or /var/qmail/run/status"
        raise table.error("listen", f"{listen!r} is no address with a port, nor a path: {example}") from None
    if not ipaddress.ip_address(host).is_loopback and not table.flag("open", False):
        raise table.error(
            "listen",
            f"{host} can be reached by others, and the page asks nobody for a password: say `open = true` to allow it",
        )


def _refuse_unknown(table: Table, known: tuple[str, ...]) -> None:
    from pluq.config.site import nearest

    for key in table.values:
        if key not in known:
            raise table.error(key, f"unknown setting{nearest(key, known)}")
