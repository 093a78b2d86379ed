"""Filters of qmail-qfilter: programs that change or refuse a message before it is queued.

    descriptor 0   the message             1   the new message; nothing: as it was
    descriptor 3   the envelope            4   the new envelope; nothing: as it was
    descriptor 5   the name of another queue program

    exit 0   go on with the next filter      31, 100   refused for good
    exit 99  drop the message and say ok     82, 88    refused, the reason stands on descriptor 6 (D or Z, text)
    others   refused for now

A line is a command with its arguments, or `domain:command[:NAME=value,...]`: that is for messages from or to the domain (* for all), with
these variables. Every line that fits is run, in order.

Source: qmail-qfilter(1); control/qfilters of the combined patches.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pluq.errors import ProtocolError

DROP = 99
PERMANENT = frozenset({31, 100})
REASON_FD = 6
PROGRAM_FD = 5

_DOMAIN_LINE = re.compile(r"(\*|[A-Za-z0-9._-]*):([^:]+)(?::(.*))?")


@dataclass(frozen=True)
class Filter:
    """One line. `domain` None fits every message; `variables` are added to the program's environment."""

    argv: tuple[str, ...]
    domain: str | None = None
    variables: tuple[tuple[str, str], ...] = field(default_factory=tuple)

    def fits(self, addresses: Iterable[bytes]) -> bool:
        if self.domain is None:
            return True
        wanted = self.domain.lower().encode()
        return any(address.rpartition(b"@")[2].lower() == wanted for address in addresses)


def parse_filter(line: str) -> Filter:
    """Return the filter of a line. Raises ValueError for one without a command."""
    domain, command, variables = None, line, ""
    found = _DOMAIN_LINE.fullmatch(line)
    if found is not None:
        domain, command, variables = found[1], found[2], found[3] or ""
    argv = tuple(shlex.split(command))
    if not argv:
        raise ValueError(f"no command in {line!r}")
    pairs = (pair.partition("=") for pair in variables.split(",") if "=" in pair)
    return Filter(argv, None if domain in (None, "", "*") else domain, tuple((name, value) for name, _, value in pairs))


def parse_envelope(data: bytes) -> tuple[bytes, Sequence[bytes]]:
    """Return sender and recipients of an envelope that a filter wrote. Raises ProtocolError."""
    parts = data.rstrip(b"\0").split(b"\0")
    if not parts[0].startswith(b"F") or not data.endswith(b"\0") or not all(part[:1] == b"T" for part in parts[1:]):
        raise ProtocolError("not an envelope")
    return parts[0][1:], [part[1:] for part in parts[1:]]
