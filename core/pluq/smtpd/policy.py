"""What the control files say of a client's mail: greeting, recipients, senders, size, time.

A policy is read once (by a program for its one connection, by the resident server at start and whenever a file changes) and
then only asked. A file that cannot be read is a ConfigError: the session answers 421 and nothing is decided half.

    smtpgreeting me          the name in the banner           rcpthosts morercpthosts.cdb   for whom mail is taken
    localiphost me           what [our address] stands for    badmailfrom                   whose mail is not
    databytes DATABYTES      the largest message              timeoutsmtpd                  seconds to wait for a client

Source: qmail-control(5), qmail-smtpd(8); setup in qmail-smtpd.c, rcpthosts.c.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import partial

from pluq.config.acceptance import RcptHosts, read_databytes, read_rcpthosts, size_limit
from pluq.config.home import Home
from pluq.errors import ConfigError
from pluq.mail.address import address_literal
from pluq.store.control import ControlFiles

__all__ = ["FILES", "Policy", "RcptHosts", "read_policy", "read_rcpthosts"]

DEFAULT_TIMEOUT = 1200

# The files that a policy comes from; a change of one of them is a new policy.
FILES = (
    "me",
    "smtpgreeting",
    "localiphost",
    "rcpthosts",
    "morercpthosts.cdb",
    "badmailfrom",
    "databytes",
    "timeoutsmtpd",
    "pluq.toml",
)

_UINT = 0xFFFFFFFF


class Policy:
    """The settings of one server, and the questions asked of them."""

    __slots__ = (
        "_ourselves",
        "badmailfrom",
        "databytes",
        "greeting",
        "local_dates",
        "localiphost",
        "me",
        "rcpthosts",
        "timeout",
    )

    def __init__(
        self,
        greeting: bytes,
        localiphost: bytes | None = None,
        rcpthosts: RcptHosts | None = None,
        badmailfrom: frozenset[bytes] = frozenset(),
        databytes: int = 0,
        timeout: int = DEFAULT_TIMEOUT,
        me: bytes | None = None,
        local_dates: bool = False,
        ourselves: Callable[[], Container[str]] | None = None,
    ) -> None:
        self.greeting = greeting
        self.localiphost = localiphost
        self.rcpthosts = rcpthosts or RcptHosts(None)
        self.badmailfrom = badmailfrom
        self.databytes = databytes
        self.timeout = timeout
        self.me = me
        self.local_dates = local_dates
        self._ourselves = ourselves

    def is_bad_sender(self, sender: bytes) -> bool:
        """Say whether badmailfrom lists the sender, or @ and its domain. Case does not matter."""
        return bool(self.badmailfrom) and self.bad_sender_entry(sender) is not None

    def bad_sender_entry(self, sender: bytes) -> bytes | None:
        """Return the line of badmailfrom that lists the sender, in lower case; None where none does."""
        sender = sender.lower()
        if sender in self.badmailfrom:
            return sender
        at = sender.rfind(b"@")
        return sender[at:] if at >= 0 and sender[at:] in self.badmailfrom else None

    def localise(self, address: bytes) -> bytes:
        """Return the address with localiphost in the place of an address literal that is ours. Raises OSError, ConfigError."""
        if self.localiphost is None or not address.endswith(b"]"):
            return address
        box, at, domain = address.rpartition(b"@")
        ip = address_literal(domain) if at else None
        if ip is None:
            return address
        return box + b"@" + self.localiphost if ip in self.ourselves() else address

    def ourselves(self) -> Container[str]:
        """Return the addresses that are this host. Raises OSError, ConfigError."""
        if self._ourselves is not None:
            return self._ourselves()
        from pluq.config.ipme import my_addresses

        return my_addresses()

    def size_limit(self, environment: Mapping[str, str]) -> int:
        """Return the most bytes a message may have, 0 for any number: DATABYTES, else control/databytes."""
        return size_limit(self.databytes, environment)


def seconds(number: int) -> int:
    """Return a time limit as qmail-smtpd reads it: at least a second, also where 32 bits make it negative."""
    number &= _UINT
    return 1 if number == 0 or number > _UINT >> 1 else number


def our_addresses(controls: ControlFiles) -> Container[str]:
    """Return the addresses that are this host, as control files adjust them. Raises OSError, ConfigError."""
    from pluq.config import ipme  # here: few sessions ask

    return ipme.our_addresses(controls)


def read_policy(home: Home) -> Policy:
    """Return what the control files say now. Raises ConfigError; also where no file gives the greeting."""
    controls = home.controls
    me = controls.me()
    greeting = controls.line("smtpgreeting")
    if greeting is None and me is None:
        raise ConfigError(controls.path("me"), "missing: it holds the full name of this host")
    localiphost = controls.line("localiphost")
    return Policy(
        greeting=(greeting if greeting is not None else me) or b"",
        localiphost=localiphost if localiphost is not None else me,
        ourselves=partial(our_addresses, controls),
        me=me,
        local_dates=home.local_dates,
        timeout=seconds(controls.number("timeoutsmtpd", DEFAULT_TIMEOUT)),
        rcpthosts=read_rcpthosts(home),
        badmailfrom=frozenset(line.lower() for line in controls.lines("badmailfrom") or ()),
        databytes=read_databytes(home),
    )
