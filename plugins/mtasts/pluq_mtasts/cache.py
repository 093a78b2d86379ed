"""Policies that are known: one file a domain in the plugin's folder, and those in use in memory.

    fetched ID LENGTH     seconds since the epoch, id of the TXT record, octets of what follows
    (the policy as it was fetched)

A file is replaced whole and synced, so a policy that was once seen holds for its max_age, whatever happens to this machine. One that cannot
be read counts as none and is fetched again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from pluq.errors import ProtocolError
from pluq.store.durable import write_file_durably
from pluq_mtasts.policy import MAX_POLICY, Policy, parse_policy

# Domains in memory; a site that writes to more of them reads some files twice.
MAX_KEPT = 10_000


@dataclass(frozen=True)
class Known:
    """A policy, the id that announced it, and when it was fetched, in seconds since the epoch."""

    policy: Policy
    id: str
    fetched: int

    def holds(self, now: float) -> bool:
        return now < self.fetched + self.policy.max_age


def encode(known: Known, body: bytes) -> bytes:
    """Return the octets of a file."""
    return b"%d %s %d\n" % (known.fetched, known.id.encode("ascii"), len(body)) + body


def decode(data: bytes) -> Known | None:
    """Return what is in a file, None if that is nothing whole."""
    head, _, body = data.partition(b"\n")
    words = head.split(b" ")
    if len(words) != 3 or not words[0].isdigit() or not words[2].isdigit() or len(words[0] + words[2]) > 40:
        return None
    try:
        policy = parse_policy(body)
    except ProtocolError:
        return None
    return Known(policy, words[1].decode("ascii", "replace"), int(words[0])) if len(body) == int(words[2]) else None


class Cache:
    """The policies of one host. `get` and `put` take a domain that is a host name in lower case."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._kept: dict[str, Known | None] = {}

    def get(self, domain: str) -> Known | None:
        """Return what is known of a domain, however old."""
        if domain not in self._kept:
            self._keep(domain, self._read(domain))
        return self._kept[domain]

    def put(self, domain: str, known: Known, body: bytes) -> None:
        """Remember a policy, also beyond a restart. Raises OSError; it is remembered in memory even so."""
        self._keep(domain, known)
        write_file_durably(self._path(domain), encode(known, body), 0o600)

    def _keep(self, domain: str, known: Known | None) -> None:
        if len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[domain] = known

    def _read(self, domain: str) -> Known | None:
        try:
            with open(self._path(domain), "rb") as file:
                return decode(file.read(MAX_POLICY + 200))
        except FileNotFoundError:
            return None

    def _path(self, domain: str) -> str:
        return os.path.join(self.folder, domain)
