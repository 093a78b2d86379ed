"""MTA-STS: the TXT record that says that there is a policy, and the policy.

    _mta-sts.example.org.  TXT  "v=STSv1; id=20260501T000000"

    version: STSv1
    mode: enforce                    or testing, or none
    mx: mail.example.org
    mx: *.example.net                one label in the place of the star
    max_age: 604800                  seconds

Unknown keys are ignored; of a key that may stand once the first counts. Source: RFC 8461 sections 3.1, 3.2 and 4.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from pluq.errors import ProtocolError

MODES = ("enforce", "testing", "none")

# RFC 8461 section 3.2: about a year.
MAX_AGE = 31557600
MAX_POLICY = 65536

_ID = re.compile(rb"id=([A-Za-z0-9]{1,32})\Z")
_VERSION = re.compile(rb"v=STSv1[ \t]*\Z")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\Z")


@dataclass(frozen=True)
class Policy:
    """What a domain wants. `max_age` is in seconds; `exchangers` are names, or patterns with "*." in front."""

    mode: str
    exchangers: tuple[str, ...] = ()
    max_age: int = 0

    def covers(self, host: str) -> bool:
        """Return whether a host may be an exchanger of the domain."""
        name = host.lower().removesuffix(".")
        above = "*." + name.partition(".")[2]
        return any(pattern in (name, above) for pattern in self.exchangers)


def is_host_name(name: str) -> bool:
    """Return whether this is a name in DNS, lower case: nothing that could leave a folder, and no address."""
    return _HOST.match(name) is not None and not name.rpartition(".")[2].isdecimal()


def policy_id(texts: Iterable[bytes]) -> str | None:
    """Return the id in the TXT records of _mta-sts.DOMAIN; None where there is no policy, or more than one record says so."""
    records = [fields for text in texts if _VERSION.match((fields := text[:1024].split(b";"))[0])]
    if len(records) != 1:
        return None
    found = [match[1] for field in records[0][1:] if (match := _ID.match(field.strip(b" \t")))]
    return found[0].decode("ascii") if found else None


def parse_policy(body: bytes) -> Policy:
    """Return the policy in a file. Raises ProtocolError."""
    if len(body) > MAX_POLICY:
        raise ProtocolError("the policy is too long")
    first: dict[str, str] = {}
    exchangers: list[str] = []
    for line in body.decode("utf-8", "replace").replace("\r\n", "\n").split("\n"):
        key, colon, value = (part.strip(" \t") for part in line.partition(":"))
        if colon and key == "mx":
            exchangers.append(parse_pattern(value))
        elif colon:
            first.setdefault(key, value)
    age = first.get("max_age", "")
    if first.get("version") != "STSv1" or first.get("mode") not in MODES:
        raise ProtocolError("not a policy of this version, or without a mode")
    if not age.isascii() or not age.isdecimal() or len(age) > 10:
        raise ProtocolError("the policy has no max_age")
    if not exchangers and first["mode"] != "none":
        raise ProtocolError("the policy names no mx")
    return Policy(first["mode"], tuple(exchangers), min(int(age), MAX_AGE))


def parse_pattern(value: str) -> str:
    """Return an exchanger's name or pattern in lower case. Raises ProtocolError."""
    pattern = value.lower().removesuffix(".")
    if not is_host_name(pattern.removeprefix("*.")):
        raise ProtocolError("the policy has an mx that is no host name")
    return pattern
