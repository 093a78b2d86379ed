"""What follows from the findings: a result, a field, a refusal.

Refusing is off unless the site asks for it. Where a signature may still turn out good (DNS failed), a refusal is only for now.
Refusals and DKIM-Status have the words of qmail-dkim, which sites search for.

Source: RFC 8601 section 2.7.1; qmail-dkim(8).
"""

from __future__ import annotations

from typing import NamedTuple

from pluq import AuthResult, Defer, HeaderField, Reject
from pluq.signatures.finding import Code, Finding, summary
from pluq_dkim.settings import Settings
from pluq_dkim.sign import author_domain

# How DKIM-Status begins, by letter, and what stands before a sentence.
WORDS = {"AEF": "good", "IU": "bad", "J": "non-participant", "K": "revoked", "PQR": "no key", "S": "no signature"}
OTHER_WORD = "bad format"
PREFIXES = {"A": "", "S": "", "E": "signature result: ", "U": "signature verify error: "}
OTHER_PREFIX = "signature error: "


class Outcome(NamedTuple):
    """What the signatures of a message come to. `letter` as in DKIMVERIFY; "" where qmail-dkim would be satisfied."""

    letter: str
    enhanced: str
    sentence: str


THIRD_PARTY = Outcome("F", "7.0", "signature result: 3rd-party signature")


def as_result(finding: Finding) -> AuthResult:
    """Return a finding for Authentication-Results."""
    properties = (
        ("header", "d", finding.domain),
        ("header", "i", finding.identity),
        ("header", "s", finding.selector),
        ("header", "a", finding.algorithm),
        ("header", "b", finding.value),
    )
    return AuthResult("dkim", finding.code.result, finding.domain, properties, finding.reason)


def verdict(findings: list[Finding], fields: list[HeaderField], settings: Settings) -> Reject | Defer | None:
    """Return the refusal that the site wants for these findings, None to go on."""
    author = author_domain(fields) or ""
    outcome = outcome_of(findings, author)
    action = action_for(summary(findings).code.result, outcome.letter, settings)
    if action is None or is_exempt(author, settings):
        return None
    text = f"qmail-dkim: {outcome.sentence}"
    if action == "defer" or any(one.code is Code.DNS_FAILED for one in findings):
        return Defer(451, f"4.{outcome.enhanced}", text)
    return Reject(554, f"5.{outcome.enhanced}", text)


def outcome_of(findings: list[Finding], author: str) -> Outcome:
    """Return what the findings come to for a message of this author domain."""
    code = summary(findings).code
    good = [one.domain for one in findings if one.code.result == "pass"]
    if good and author and not any(author == domain or author.endswith("." + domain) for domain in good):
        return THIRD_PARTY
    return Outcome(code.letter, code.enhanced, PREFIXES.get(code.letter, OTHER_PREFIX) + code.sentence)


def action_for(result: str, letter: str, settings: Settings) -> str | None:
    """Return "reject" or "defer" for the outcome of a message, None to take it."""
    if letter and letter in settings.letters:
        return "reject"
    if letter and letter.lower() in settings.letters:
        return "defer"
    if result in ("pass", "none", "neutral") or settings.fail == "accept":
        return None
    return settings.fail


def is_exempt(domain: str, settings: Settings) -> bool:
    """Return whether messages of this author domain are never refused."""
    always = {one.lower() for one in settings.signaturedomains}
    never = {one.lower() for one in settings.nosignaturedomains}
    return domain not in always and ("*" in never or domain in never)


def status_field(findings: list[Finding], fields: list[HeaderField]) -> bytes:
    """Return the DKIM-Status field of qmail-dkim."""
    letter, _, sentence = outcome_of(findings, author_domain(fields) or "")
    word = next((word for letters, word in WORDS.items() if letter and letter in letters), OTHER_WORD)
    detail = "" if letter == "A" else f" ({sentence})"
    return f"DKIM-Status: {word}{detail}\n".encode("ascii")
