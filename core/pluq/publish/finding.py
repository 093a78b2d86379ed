"""One thing to publish, and what was found of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from pluq.dns import Resolver, Status


class State(Enum):
    """Whether what was found will do."""

    OK = "ok"
    MISSING = "missing"
    DIFFERENT = "different"
    OPTIONAL = "optional"  # not there; mail works without it
    UNKNOWN = "unknown"  # nobody could tell


@dataclass(frozen=True)
class Finding:
    """A record: its name and type, what it is for, what is there, what to publish instead, and why."""

    state: State
    name: str
    rdtype: str
    what: str
    found: Sequence[str] = ()
    publish: str = ""
    why: str = ""


async def texts(resolver: Resolver, name: str, begin: bytes = b"") -> list[bytes]:
    """Return the TXT records of a name that begin so, in any case. Raises TemporaryFailure."""
    answer = await resolver.lookup(name, "TXT")
    return [text for text in answer.records if text.lower().startswith(begin.lower())]


async def addresses(resolver: Resolver, name: str) -> list[str]:
    """Return the addresses of a host, IPv4 first. Raises TemporaryFailure."""
    return [address for rdtype in ("A", "AAAA") for address in (await resolver.lookup(name, rdtype)).records]


async def exists(resolver: Resolver, name: str, rdtype: str) -> bool:
    return (await resolver.lookup(name, rdtype)).status is Status.FOUND


def shown(data: bytes) -> str:
    """Return a stranger's record as it may be printed."""
    return "".join(chr(byte) if 32 <= byte < 127 else f"\\{byte:03}" for byte in data)


def tags(text: bytes) -> dict[str, str]:
    """Return the tags of "v=DMARC1; p=none", names in lower case; of two with one name the first counts."""
    found: dict[str, str] = {}
    for part in text.decode("ascii", "replace").split(";"):
        name, equals, value = part.partition("=")
        if equals:
            found.setdefault(name.strip().lower(), value.strip())
    return found
