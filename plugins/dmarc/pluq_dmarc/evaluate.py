"""Whether SPF or DKIM speak for an author: the heart of DMARC.

An identifier is a domain that SPF or a signature passed for. It is aligned with the author's domain when both are the same (strict) or
have the same organizational domain (relaxed). One that is aligned and passed is enough. One that would be aligned and could not be looked
up leaves the question open: temperror, never fail.

Source: RFC 9989 sections 4.4, 4.10.2 and 5.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pluq import AuthResult
from pluq.errors import TemporaryFailure
from pluq_dmarc.author import normal_domain
from pluq_dmarc.discover import Finder, Policy
from pluq_dmarc.record import applied


@dataclass(frozen=True)
class Identifier:
    """A domain that a method spoke of, and what it said: "pass" or "temperror"."""

    method: str
    domain: str
    result: str


@dataclass(frozen=True)
class Finding:
    """What was found for one author. `policy` is what its domain wants done with a failure; "" where that is not known."""

    domain: str
    result: str
    policy: str = ""
    reason: str = ""

    def as_result(self) -> AuthResult:
        """Return it for Authentication-Results."""
        properties = (("header", "from", self.domain), ("policy", "dmarc", self.policy))
        return AuthResult("dmarc", self.result, self.domain, properties, self.reason)

    def excused(self) -> AuthResult:
        """Return it for mail of a trusted forwarder: the reason says why nothing follows from it."""
        return (self if self.result in ("pass", "none") else replace(self, reason="trusted forwarder")).as_result()


def identifiers(results: Iterable[AuthResult]) -> list[Identifier]:
    """Return what the plugins for SPF and DKIM found that matters here, each once."""
    found: dict[Identifier, None] = {}
    for one in results:
        domain = normal_domain(one.domain)
        if one.method in ("spf", "dkim") and one.result in ("pass", "temperror") and domain is not None:
            found[Identifier(one.method, domain, one.result)] = None
    return list(found)


async def evaluate(author: str, known: Iterable[Identifier], finder: Finder) -> Finding:
    """Return the finding for one author's domain."""
    try:
        policy = await finder.policy(author)
    except TemporaryFailure:
        return Finding(author, "temperror", reason="the policy could not be looked up")
    if policy is None:
        return Finding(author, "none")
    wanted = applied(policy.wanted, policy.record.testing)
    open_questions = False
    for one in known:
        try:
            if not await is_aligned(one, author, policy, finder):
                continue
        except TemporaryFailure:
            open_questions = True
            continue
        if one.result == "pass":
            return Finding(author, "pass", wanted)
        open_questions = True
    if open_questions:
        return Finding(author, "temperror", wanted, "SPF or DKIM could not be looked up")
    return Finding(author, "fail", wanted)


async def is_aligned(one: Identifier, author: str, policy: Policy, finder: Finder) -> bool:
    """Return whether a domain may speak for an author. Raises TemporaryFailure."""
    if one.domain == author:
        return True
    if policy.record.strict_spf if one.method == "spf" else policy.record.strict_dkim:
        return False
    organization = await finder.organizational(author)
    # What is not below it cannot have it for its own: no question need be asked.
    is_below = one.domain == organization or one.domain.endswith("." + organization)
    return is_below and await finder.organizational(one.domain) == organization
