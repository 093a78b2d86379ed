"""Who may connect: tcprules, and how many connections at a time.

The rules of a profile are control/tcp.smtp.cdb (tcp.qmtp.cdb, tcp.qmqp.cdb, tcp.pop3.cdb), as tcprules makes it for tcpserver; where
there is no such file, control/tcp.smtp in its text form. Their variables (RELAYCLIENT, DATABYTES, QMAILQUEUE...) join those that tcpserver would set.

Limits: so many connections in all (control/concurrencyincoming), beyond which clients wait in the kernel's queue as they do with
tcpserver -c; and so many from one address, beyond which one hears 421. A rule may set MAXCONNIP for its clients, as for the
patched tcpserver; 0 means no limit, and so does an address of this machine.

Source: tcpserver(1), tcprules(1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pluq.listen.fresh import Fresh
from pluq.store.tcprules import ALLOW, Instructions, Lookup, decode, find_rule, rules_from_cdb, rules_from_text

# tcpserver's 40 is what a machine can bear in processes. A session here costs 4 KiB idle and at worst some 200 KiB: 1000 stay
# within 200 MB, and within the descriptors that a process gets by default (1024).
DEFAULT_CONCURRENCY = 1000


def no_rules(address: bytes) -> bytes | None:
    """The rules where there is no file: everybody may come."""
    return None


def nobody(address: bytes) -> bytes | None:
    """The rules where there is no file, for a protocol that trusts whoever comes."""
    return b"D\0"


class Rules:
    """The rules of one profile. `path` is that of the text form, `missing` stands for the file where there is none."""

    def __init__(self, path: str, log: Callable[[str], None], missing: Lookup = no_rules) -> None:
        self._path = path
        self._missing = missing
        self._lookup: Fresh[Lookup] = Fresh([f"{path}.cdb", path], self._read, log)
        self.renew = self._lookup.renew

    def _read(self) -> Lookup:
        return rules_from_cdb(f"{self._path}.cdb") or rules_from_text(self._path) or self._missing

    def find(self, now: float, ip: str) -> Instructions:
        """Return the instructions for a client. Raises ConfigError where the cdb is broken."""
        rule = self.rule(now, ip)
        return ALLOW if rule is None else decode(rule[1])

    def rule(self, now: float, ip: str) -> tuple[bytes, bytes] | None:
        """Return address and data of the rule for a client, None where there is none. Raises ConfigError as `find`."""
        lookup = self._lookup.get(now)
        return None if lookup is no_rules else find_rule(lookup, ip.encode("ascii", "replace"))


def is_here(ip: str) -> bool:
    return ip.startswith("127.") or ip == "::1"


def own_limit(ip: str, environment: Mapping[str, str], per_address: int) -> int:
    """Return how many connections a client may have, 0 for any number: what its rule says, else what the profile says."""
    text = environment.get("MAXCONNIP")
    if text is not None and text.isascii() and text.isdigit():
        return int(text)
    return per_address if per_address and not is_here(ip) else 0


class Places:
    """How many connections each address has."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def take(self, ip: str, environment: Mapping[str, str], per_address: int) -> bool:
        """Take a place for a client; False where it has all of its own."""
        taken = self._taken.get(ip, 0)
        if taken and 0 < own_limit(ip, environment, per_address) <= taken:
            return False
        self._taken[ip] = taken + 1
        return True

    def give_back(self, ip: str) -> None:
        taken = self._taken.get(ip, 0)
        if taken > 1:
            self._taken[ip] = taken - 1
        else:
            self._taken.pop(ip, None)
