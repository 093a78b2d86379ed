"""bind: the local address that mail leaves from, and the name that goes with it.

    bindroutes       192.0.2.:198.51.100.7              by the address of the other host: the longest prefix
    domainbindings   joe@example.org:198.51.100.8       by the sender: the address, its domain, .domain for those below it,
                     :198.51.100.9                      nothing for all others
    outgoingip       198.51.100.10                      for all the rest
    helohostbyip     198.51.100.8:mail.example.org      the name in EHLO, by the local address

The first of these in this order that says something counts, if its address is of the other host's family. 0.0.0.0 and :: leave the
choice to the system. IPv6 addresses stand in brackets, also as prefixes.

Source: qmail-control(5) of the outgoingip patch and of indimail-mta.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar

from pluq import Defer, Delivery, Disconnect, Plugin, Verdict, hook, setting

Address = IPv4Address | IPv6Address
S = TypeVar("S")
T = TypeVar("T")


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def read_address(text: str) -> Address:
    """Return the address, with brackets or without. Raises ValueError."""
    return ip_address(text.removeprefix("[").removesuffix("]"))


def split_line(line: str) -> tuple[str, str]:
    """Return what stands before and behind the colon of a line; an IPv6 address or prefix before it is in brackets."""
    end = line.find("]:") + 1 if line.startswith("[") else line.find(":")
    if end <= 0 and not line.startswith(":"):
        raise ValueError(f"{line!r} has no colon")
    return line[:end], line[end + 1 :]


def read_table(lines: Sequence[str]) -> dict[str, Address]:
    """Return keys, lower case, and addresses. Raises ValueError with a sentence for a person."""
    table = {}
    for line in lines:
        key, address = split_line(line)
        try:
            table[key.lower().removeprefix("[").removesuffix("]")] = read_address(address)
        except ValueError:
            raise ValueError(f"{line!r}: {address!r} is no IP address") from None
    return table


def sender_keys(sender: str) -> Iterator[str]:
    """Yield what may stand for a sender in domainbindings, the most special first."""
    address = sender.lower()
    domain = address.rpartition("@")[2] if "@" in address else ""
    if domain:
        yield address
        yield domain
        labels = domain.split(".")
        yield from ("." + ".".join(labels[place:]) for place in range(1, len(labels)))
    yield ""


@dataclass(frozen=True)
class Settings:
    outgoingip: str | None = setting(
        None, control="outgoingip", help="Local address of outgoing connections; 0.0.0.0 is the system's choice."
    )
    outgoingip6: str | None = setting(None, help="The same for hosts that have an IPv6 address.")
    bindroutes: tuple[str, ...] = setting(
        (), control="bindroutes", help="Lines PREFIX:ADDRESS, by the other host's address."
    )
    domainbindings: tuple[str, ...] = setting(
        (), control="domainbindings", help="Lines KEY:ADDRESS, by the sender: address, domain, .domain, or nothing."
    )
    helohostbyip: tuple[str, ...] = setting(
        (), control="helohostbyip", help="Lines ADDRESS:NAME, the name to greet with from a local address."
    )


@dataclass(frozen=True)
class Tables:
    """The settings as values: addresses by prefix, by sender, for all the rest; names by address."""

    routes: Mapping[str, Address]
    senders: Mapping[str, Address]
    everywhere: Sequence[Address]
    names: Mapping[Address, bytes]

    def candidates(self, sender: str, remote: str) -> Iterator[Address]:
        """Yield addresses to bind, the one that counts most first."""
        prefixes = [prefix for prefix in self.routes if remote.startswith(prefix)]
        yield from (self.routes[prefix] for prefix in sorted(prefixes, key=len, reverse=True))
        yield from (self.senders[key] for key in sender_keys(sender) if key in self.senders)
        yield from self.everywhere

    def source(self, sender: str, remote: str) -> tuple[str, bytes | None] | None:
        """Return the local address for a connection and the name that goes with it; None for the system's choice."""
        version = ip_address(remote).version
        chosen = next((one for one in self.candidates(sender, remote) if one.version == version), None)
        if chosen is None or chosen.is_unspecified:
            return None
        return str(chosen), self.names.get(chosen)


class BadSetting(ValueError):
    """A setting that is no address or no table of addresses."""

    def __init__(self, setting: str, why: str) -> None:
        super().__init__(why)
        self.setting = setting


def read_names(lines: Sequence[str]) -> dict[Address, bytes]:
    """Return names by local address. Raises ValueError with a sentence for a person."""
    names = {}
    for line in lines:
        address, name = split_line(line)
        if not name:
            raise ValueError(f"{line!r} has no name")
        names[read_address(address)] = encode(name)
    return names


def _value(name: str, read: Callable[[S], T], value: S) -> T:
    try:
        return read(value)
    except ValueError as error:
        raise BadSetting(name, str(error)) from None


class Bind(Plugin[Settings]):
    """Choose the local address, and the greeting, of outgoing connections."""

    name = "bind"

    @cached_property
    def tables(self) -> Tables:
        """The settings as values. Raises BadSetting."""
        settings = self.settings
        everywhere = [
            _value(name, read_address, text)
            for name, text in (("outgoingip", settings.outgoingip), ("outgoingip6", settings.outgoingip6))
            if text is not None
        ]
        return Tables(
            _value("bindroutes", read_table, settings.bindroutes),
            _value("domainbindings", read_table, settings.domainbindings),
            everywhere,
            _value("helohostbyip", read_names, settings.helohostbyip),
        )

    @hook
    def check(self) -> Sequence[str]:
        try:
            _ = self.tables
        except BadSetting as error:
            return [f"bind: {error.setting}: {error}"]
        return []

    @hook
    def remote_policy(self, delivery: Delivery, host: bytes, address: str) -> Verdict | None:
        """Refuse to connect from anywhere rather than from the wrong address."""
        try:
            _ = self.tables
        except BadSetting as error:
            return Disconnect(Defer(451, "4.3.0", f"invalid ipaddr in control/{error.setting}"))
        return None

    @hook
    def remote_source(self, delivery: Delivery, address: str) -> tuple[str, bytes | None] | None:
        return self.tables.source(delivery.sender.decode("utf-8", "surrogateescape"), address)
