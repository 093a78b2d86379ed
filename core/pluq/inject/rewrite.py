"""Completing addresses: what qmail-inject makes of `ann`, `bob@host` and `carl@sub+`.

    @route:box@host     box@host          an RFC 822 source route is dropped
    box@host.           box@host          so is a dot or an at-sign at the end
    box                 box@DEFAULTHOST
    box@sub+            box@sub.PLUSDOMAIN
    box@host            box@host.DEFAULTDOMAIN

in this order, each step on what the one before left; a host in brackets needs no domain. `<>` stays empty, and an address at the
host `[]` (VERP patterns) stays as it is.

Source: qmail-header(5), qmail-inject(8); the rw functions of qmail-inject.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from pluq.errors import PermanentFailure
from pluq.mail.address import quote
from pluq.mail.tokens import AT, ATOM, COLON, DOT, LITERAL, Token, parse, unquote

__all__ = ["Completion", "Unparsable", "complete_address", "parse_or_fail"]


class Unparsable(PermanentFailure):
    """A line or an address whose quotes or brackets do not match. `line` is what could not be read."""

    def __init__(self, line: bytes) -> None:
        super().__init__("unable to parse this line", "5.6.0")
        self.line = line


def parse_or_fail(line: bytes) -> list[Token]:
    """Return the tokens of a line; raises Unparsable."""
    tokens = parse(line)
    if tokens is None:
        raise Unparsable(line)
    return tokens


@dataclass(frozen=True)
class Completion:
    """What is put behind incomplete addresses, as tokens that begin with the at-sign or dot."""

    default_host: list[Token]
    default_domain: list[Token]
    plus_domain: list[Token]

    @classmethod
    def of(cls, default_host: bytes, default_domain: bytes, plus_domain: bytes) -> Completion:
        """Take the three settings as the control files give them. Raises Unparsable."""
        # defaultdomain is read first, as in qmail: where several are bad, it is the one reported
        domain = parse_or_fail(b"." + default_domain)
        return cls(parse_or_fail(b"@" + default_host), domain, parse_or_fail(b"." + plus_domain))

    def __call__(self, address: list[Token]) -> list[Token]:
        """Return the address with whatever it lacks."""
        if not address or is_at_empty_literal(address):
            return address
        for step in (without_route, without_final_dot, without_final_at):
            address = step(address)
            if not address:
                return address
        return self.with_domain(self.with_plus_domain(self.with_host(address)))

    def with_host(self, address: list[Token]) -> list[Token]:
        if any(token.kind == AT for token in address):
            return address
        return address + self.default_host

    def with_plus_domain(self, address: list[Token]) -> list[Token]:
        kind, text = address[-1]
        if kind != ATOM or not text.endswith(b"+"):
            return address
        return [*address[:-1], Token(ATOM, text[:-1]), *self.plus_domain]

    def with_domain(self, address: list[Token]) -> list[Token]:
        return address if has_complete_host(address) else address + self.default_domain


def is_at_empty_literal(address: list[Token]) -> bool:
    """Say whether the address ends in @[]."""
    return len(address) > 1 and address[-2].kind == AT and address[-1] == (LITERAL, b"")


def without_route(address: list[Token]) -> list[Token]:
    """Drop `@host,@host:` from the front; all of it where no colon ends the route."""
    if address[0].kind != AT:
        return address
    for place, token in enumerate(address):
        if token.kind == COLON:
            return address[place + 1 :]
    return []


def without_final_dot(address: list[Token]) -> list[Token]:
    return address[:-1] if address[-1].kind == DOT else address


def without_final_at(address: list[Token]) -> list[Token]:
    return address[:-1] if address[-1].kind == AT else address


def has_complete_host(address: list[Token]) -> bool:
    """Say whether the part behind the last at-sign has a dot or is an address literal."""
    for token in reversed(address):
        if token.kind in (DOT, LITERAL):
            return True
        if token.kind == AT:
            return False
    return False


def complete_address(address: bytes, completion: Completion) -> bytes:
    """Return an unquoted envelope address completed: what a user gave as an argument. Raises Unparsable."""
    return unquote(completion(parse_or_fail(quote(address))))
