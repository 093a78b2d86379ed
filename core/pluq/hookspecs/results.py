"""Results of authentication: typed values that plugins leave on a transaction and others read.

The core renders all of them in one Authentication-Results field. A `result` is the word of the method's own registry
("pass", "fail", "softfail", "temperror", ...). `properties` are (type, name, value), as in `smtp.mailfrom=...`.

Source: RFC 8601 section 2.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AuthResult:
    """One verdict of one method, as it will stand in Authentication-Results.

    `method` is "spf", "dkim", "dmarc", "arc", "auth", "iprev"...; `domain` is the domain that the verdict speaks for (what
    DMARC aligns), empty where there is none; `reason` is a short text for people.
    """

    method: str
    result: str
    domain: str = ""
    properties: tuple[tuple[str, str, str], ...] = ()
    reason: str = ""
