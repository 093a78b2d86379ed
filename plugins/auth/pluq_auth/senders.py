"""Which senders a login may use: its own name, and what the site's table adds.

    LOGIN:joe@example.org        an address, whatever its case
    LOGIN:@example.org           every address of a domain
    LOGIN:<>                     the empty sender, of bounces and receipts
    *:@lists.example.org         for everybody who logged in

As in patched qmail the name itself is compared byte by byte, and the empty sender is nobody's.
"""

from __future__ import annotations

from collections.abc import Sequence

EVERYBODY = "*"


class SendAs:
    """The table, from its lines. Raises ValueError for a line without a colon."""

    def __init__(self, lines: Sequence[str]) -> None:
        self._allowed: dict[bytes, set[bytes]] = {}
        for line in lines:
            login, colon, sender = line.rpartition(":")
            if not colon or not login or not sender:
                raise ValueError(f"expected LOGIN:SENDER, not {line!r}")
            name = login.encode("utf-8", "surrogateescape")
            self._allowed.setdefault(name, set()).add(sender.encode("utf-8", "surrogateescape").lower())

    def allows(self, login: bytes, sender: bytes) -> bool:
        """Return whether a login may use a sender (without brackets)."""
        if sender and sender == login:
            return True
        wanted = {sender.lower() or b"<>"}
        if b"@" in sender:
            wanted.add(b"@" + sender.lower().rpartition(b"@")[2])
        return any(not wanted.isdisjoint(self._allowed.get(name, ())) for name in (login, EVERYBODY.encode()))
