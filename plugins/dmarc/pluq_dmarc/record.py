"""DMARC policy records: `v=DMARC1; p=reject; sp=quarantine; aspf=s`.

v= comes first and is exact; unknown tags are ignored, and so is a bad value of a tag that has a default. A bad p=, sp= or np= makes the
record one that only wants reports (p=none), or none at all where it wants none. pct= is gone from the standard; a record that still
has less than 100 there is not yet meant for all mail, and counts as one in test mode.

Source: RFC 9989 sections 4.7, 4.8 and 4.10.1; RFC 7489 section 6.3 (pct).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

POLICIES = ("none", "quarantine", "reject")

# A record of more octets than this is nobody's honest policy.
MAX_RECORD = 4096

_VERSION = re.compile(r"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_REPORT_URI = re.compile(r"mailto:[^\s@,]+@[^\s@,]+", re.IGNORECASE)


@dataclass(frozen=True)
class Record:
    """One record. `sp` and `np` None: as the next weaker tag says. `psd` is "y", "n" or "u"."""

    p: str = "none"
    sp: str | None = None
    np: str | None = None
    strict_dkim: bool = False
    strict_spf: bool = False
    testing: bool = False
    psd: str = "u"
    rua: str = ""

    def for_subdomain(self, exists: bool) -> str:
        """Return the policy for a subdomain without a record of its own."""
        inherited = self.sp or self.p
        return inherited if exists else self.np or inherited


def is_record(text: bytes) -> bool:
    """Return whether a TXT record claims to be a DMARC record."""
    return _VERSION.match(text[:64].decode("latin-1")) is not None


def parse_record(text: bytes) -> Record | None:
    """Return the record, None for one that is to be ignored."""
    if len(text) > MAX_RECORD or not is_record(text):
        return None
    tags: dict[str, str] = {}
    for part in text.decode("latin-1").split(";")[1:]:
        name, equals, value = part.partition("=")
        if equals:
            tags.setdefault(name.strip(" \t").lower(), value.strip(" \t"))
    rua = tags.get("rua", "")
    policies = {name: tags[name].lower() for name in ("p", "sp", "np") if name in tags}
    if not set(policies.values()) <= set(POLICIES):
        if not _REPORT_URI.search(rua):
            return None
        policies = {}
    return Record(
        p=policies.get("p", "none"),
        sp=policies.get("sp"),
        np=policies.get("np"),
        strict_dkim=tags.get("adkim", "").lower() == "s",
        strict_spf=tags.get("aspf", "").lower() == "s",
        testing=tags.get("t", "").lower() == "y" or is_partial(tags.get("pct", "")),
        psd=psd if (psd := tags.get("psd", "").lower()) in ("y", "n") else "u",
        rua=rua,
    )


def is_partial(pct: str) -> bool:
    return pct.isdecimal() and len(pct) <= 3 and int(pct) < 100


def applied(policy: str, testing: bool) -> str:
    """Return the policy that is meant: in test mode one level less."""
    return POLICIES[max(POLICIES.index(policy) - 1, 0)] if testing else policy
