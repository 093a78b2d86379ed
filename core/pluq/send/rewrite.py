"""Where a recipient goes: local or remote, and under which address.

    1  an address without @ gets @envnoathost
    2  user%fqdn@domain becomes user@fqdn while the domain is in percenthack
    3  a domain in locals is local
    4  virtualdomains: the first of user@domain, domain, .suffix (longest first) and the empty key that has an entry decides:
       prepend-user@domain, local; an empty prepend means "no virtual domain"
    5  everything else is remote

Domains and keys are compared without regard to case; of two lines with one key the last counts. Pure values.

Source: qmail-send(8); rewrite and stripvdomprepend in qmail-send.c, constmap.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

LOCAL, REMOTE = 0, 1
"""The two channels: deliveries by qmail-lspawn and by qmail-rspawn."""


class Routing:
    """The rules of one host, made from the lines of its control files. They do not change; a reload makes new ones."""

    __slots__ = ("_envnoathost", "_locals", "_percenthack", "_virtual")

    def __init__(
        self,
        local_domains: Iterable[bytes],
        virtualdomains: Iterable[bytes] = (),
        percenthack: Iterable[bytes] = (),
        envnoathost: bytes = b"envnoathost",
    ) -> None:
        self._locals = frozenset(line.lower() for line in local_domains)
        self._percenthack = frozenset(line.lower() for line in percenthack)
        self._envnoathost = envnoathost
        splits = (line.partition(b":") for line in virtualdomains)
        self._virtual = {key.lower(): prepend for key, colon, prepend in splits if colon}

    def with_domains(self, local_domains: Iterable[bytes], virtualdomains: Iterable[bytes]) -> Routing:
        """Return the rules with other locals and virtualdomains: what HUP reads again."""
        return Routing(local_domains, virtualdomains, self._percenthack, self._envnoathost)

    def route(self, recipient: bytes) -> tuple[int, bytes]:
        """Return the channel and the address to deliver to."""
        recipient = self.completed(recipient)
        at = recipient.rfind(b"@")
        if recipient[at + 1 :].lower() in self._locals:
            return LOCAL, recipient
        if self._virtual and (entry := self.virtual_entry(recipient)) and entry[1]:
            return LOCAL, entry[1] + b"-" + recipient
        return REMOTE, recipient

    def completed(self, recipient: bytes) -> bytes:
        """Return the address with a domain, and without the percent signs of percenthack."""
        at = recipient.rfind(b"@")
        if at < 0:
            at = len(recipient)
            recipient = recipient + b"@" + self._envnoathost
        return self._without_percent(recipient, at) if self._percenthack else recipient

    def virtual_entry(self, recipient: bytes) -> tuple[bytes, bytes] | None:
        """Return key and prepend of the line of virtualdomains that an address falls under, None where none does."""
        return self._entry(virtual_keys(recipient.lower(), recipient.rfind(b"@")))

    def as_sent(self, address: bytes) -> bytes:
        """Return an address without what virtualdomains put in front of it: the one that its sender knows."""
        at = address.rfind(b"@")
        if at < 0 or not self._virtual:
            return address
        entry = self._entry(domain_keys(address[at + 1 :].lower()))
        prepend = entry[1] if entry else b""
        return address[len(prepend) + 1 :] if prepend and address.startswith(prepend + b"-") else address

    def _without_percent(self, address: bytes, at: int) -> bytes:
        while address[at + 1 :].lower() in self._percenthack:
            percent = address.rfind(b"%", 0, at)
            if percent < 0:
                break
            address = address[:percent] + b"@" + address[percent + 1 : at]
            at = percent
        return address

    def _entry(self, keys: Iterable[bytes]) -> tuple[bytes, bytes] | None:
        """Return the first key that has an entry, with it."""
        virtual = self._virtual
        return next(((key, virtual[key]) for key in keys if key in virtual), None)


def virtual_keys(address: bytes, at: int) -> Iterator[bytes]:
    """Yield what virtualdomains may list for an address, in order of precedence."""
    yield address
    yield from domain_keys(address[at + 1 :])


def domain_keys(domain: bytes) -> Iterator[bytes]:
    """Yield the domain, each suffix that begins with a dot, longest first, and the empty key."""
    yield domain
    dot = domain.find(b".", 1)
    while dot >= 0:
        yield domain[dot:]
        dot = domain.find(b".", dot + 1)
    yield b""
