"""The ports that a stack listens on, each for a profile, and how they change at a HUP.

Who says where to listen, the first that speaks:

    --listen                each address serves the profile in PLUQ_PROFILE, else "stock"; a HUP changes nothing here
    the service manager     a socket that it passed serves the profile of its name (FileDescriptorName=), else the one that lists its
                            address, else the one in PLUQ_PROFILE; such a socket is never given back
    control/pluq.toml       `listen` of each profile that the manager passed no socket for
    nobody                  0.0.0.0:25, in a home without profiles

A change happens as a whole or not at all: what is new is bound first, and when that fails what was bound stays. A new address may
overlap with one that is about to go (127.0.0.1:25 in the place of 0.0.0.0:25): the kernel lets both listen for this moment because
both say so (SO_REUSEPORT) and belong to one user; before and after nobody can listen beside us.

Source: sd_listen_fds(3), systemd.socket(5), socket(7).
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pluq.config.site import STOCK, Profile, Site
from pluq.errors import ConfigError
from pluq.supervisor.sockets import Address, bind_tcp, inherited, parse_address

DEFAULT_LISTEN = "0.0.0.0:25"


@dataclass(frozen=True)
class Port:
    """A listening socket and the profile that it serves."""

    sock: socket.socket
    profile: str

    def __str__(self) -> str:
        return f"{own_address(self.sock) or self.sock.getsockname()} {self.profile}"


@dataclass(frozen=True)
class Wish:
    """An address that is to be bound: for which profile, and the profile of pluq.toml that says so, if it was that."""

    address: Address
    profile: str
    source: Profile | None = None

    def bind(self) -> socket.socket:
        """Listen there. Raises ConfigError with the line that asked for it."""
        try:
            return bind_tcp(self.address)
        except ConfigError as error:
            if self.source is None:
                raise
            raise listen_fault(self.source, f"cannot listen on {self.address}: {error.why}") from error


class Ports:
    """What a stack listens on. `listen` is what the command line says, `passed` are the service manager's sockets with their names."""

    def __init__(
        self, listen: Sequence[Address], passed: Sequence[tuple[socket.socket, str]], profile: str | None
    ) -> None:
        """`profile` is the one of PLUQ_PROFILE."""
        self._listen = listen
        self._passed = passed
        self._profile = profile
        self._bound: dict[Address, socket.socket] = {}

    @classmethod
    def from_environment(cls, listen: Sequence[str], environment: Mapping[str, str]) -> Ports:
        """Take what the service manager passed, unless the command line says where to listen. Raises ValueError for that."""
        passed = [] if listen else inherited(environment)
        return cls([parse_address(text) for text in listen], passed, environment.get("PLUQ_PROFILE"))

    @contextmanager
    def following(self, site: Site) -> Iterator[list[Port]]:
        """Listen where this site wants it, and nowhere else; what is not wanted any more is let go at the end.

        Raises ConfigError. Then, and when the body fails, everything is as it was.
        """
        ready = [Port(sock, self._profile_of(sock, name, site)) for sock, name in self._passed]
        wishes = {wish.address: wish for wish in self._wishes(site, ready)}
        going = [sock for address, sock in self._bound.items() if address not in wishes]
        new: dict[Address, socket.socket] = {}
        with sharing(going):
            try:
                for address in wishes.keys() - self._bound.keys():
                    new[address] = wishes[address].bind()
                bound = {address: new.get(address) or self._bound[address] for address in wishes}
                yield ready + [Port(sock, wishes[address].profile) for address, sock in bound.items()]
            except BaseException:
                close_all(new.values())
                raise
        self._bound = bound
        close_all(going)

    def _profile_of(self, sock: socket.socket, name: str, site: Site) -> str:
        """Return whom a passed socket serves. Raises ConfigError: a port must not fall to another profile by accident."""
        if name in site.profiles or name == STOCK:
            return name
        address = own_address(sock)
        for profile in site.profiles.values():
            if address in addresses(profile):
                return profile.name
        if self._profile is not None:
            return self._profile
        if not site.profiles:
            return STOCK
        why = f"the service manager passes {address} as {name!r}: no profile has this name or lists this address"
        raise ConfigError(site.file, why, setting="profile")

    def _wishes(self, site: Site, ready: Sequence[Port]) -> Iterator[Wish]:
        """Yield what is to be bound by ourselves."""
        if self._listen:
            yield from (Wish(address, self._profile or STOCK) for address in self._listen)
        elif not site.profiles and not ready:
            yield Wish(parse_address(DEFAULT_LISTEN), STOCK)
        served = {port.profile for port in ready}
        for profile in () if self._listen else site.profiles.values():
            if profile.name not in served:
                yield from (Wish(address, profile.name, profile) for address in addresses(profile))


def addresses(profile: Profile) -> list[Address]:
    """Return where a profile of pluq.toml listens. Raises ConfigError for what is no address."""
    try:
        return [parse_address(text) for text in profile.listen]
    except ValueError as error:
        raise listen_fault(profile, str(error)) from None


def listen_fault(profile: Profile, why: str) -> ConfigError:
    return profile.tables[-1].error("listen", why)


def own_address(sock: socket.socket) -> Address | None:
    """Return where a socket listens, None if that is no TCP port."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    host, port = sock.getsockname()[:2]
    return Address(host, port)


@contextmanager
def sharing(sockets: Sequence[socket.socket]) -> Iterator[None]:
    """Let new sockets of ours listen beside these, which are about to go; if that fails, they stay, and stay alone."""
    share(sockets, True)
    try:
        yield
    except BaseException:
        share(sockets, False)
        raise


def share(sockets: Iterable[socket.socket], value: bool) -> None:
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, value)


def close_all(sockets: Iterable[socket.socket]) -> None:
    for sock in sockets:
        sock.close()
