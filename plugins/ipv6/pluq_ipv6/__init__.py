"""ipv6: AAAA addresses on the way out.

Listening on IPv6 is a matter of the profile's `listen`; the session, its environment and the rules follow the connection. What
this plugin adds is the other direction: without it a host is tried at its IPv4 addresses alone, as stock qmail does.

The addresses of one host are tried alternately, the preferred family first, so that a broken IPv6 path costs one connection
attempt and not all of them (RFC 8305 without its parallel start: mail can wait).

Source: RFC 5321 section 5, RFC 3596, RFC 8305 section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Literal

from pluq import Delivery, Plugin, hook, setting
from pluq.dns import NoRecords
from pluq.errors import TemporaryFailure


@dataclass(frozen=True)
class Settings:
    prefer: Literal["ipv6", "ipv4"] = setting("ipv6", help="Which family of a host's addresses is tried first.")


def interleave(first: Sequence[str], second: Sequence[str]) -> list[str]:
    """Return one of the first, one of the second, and so on; what is left comes at the end."""
    pairs = chain.from_iterable(zip_longest(first, second))
    return [address for address in pairs if address is not None]


class Ipv6(Plugin[Settings]):
    """Deliver to hosts by IPv6 as well."""

    name = "ipv6"

    @hook
    async def remote_addresses(self, delivery: Delivery, host: bytes, addresses: list[str]) -> list[str]:
        """Add the AAAA addresses. A failing lookup is no reason to wait while there is an IPv4 address to try."""
        try:
            found = [str(address) for address in await self.context.resolver().aaaa(host)]
        except NoRecords:
            return addresses
        except TemporaryFailure:
            if addresses:
                return addresses
            raise
        old = [address for address in addresses if address not in found]
        return interleave(found, old) if self.settings.prefer == "ipv6" else interleave(old, found)
