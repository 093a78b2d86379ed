"""What follows from the findings: a result, a field, a refusal.

Refusing is off unless the site asks for it. Where a signature may still turn out good (DNS failed), a refusal is only for now.

Source: RFC 8601 section 2.7.1; qmail-dkim(8).
"""

from __future__ import annotations

from pluq import AuthResult, Defer, HeaderField, Reject
from pluq.signatures.finding import Code, Finding, summary
from pluq_dkim.settings import Settings
from pluq_dkim.sign import author_domain

STATUS_WORDS = {"pass": "good        ", "none": "no signature"}


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
    chosen = summary(findings)
    action = action_for(chosen, settings)
    if action is None or is_exempt(author_domain(fields) or "", settings):
        return None
    text = f"qmail-dkim: {chosen.code.sentence}"
    if action == "defer" or any(one.code is Code.DNS_FAILED for one in findings):
        return Defer(451, f"4.{chosen.code.enhanced}", text)
    return Reject(554, f"5.{chosen.code.enhanced}", text)


def action_for(chosen: Finding, settings: Settings) -> str | None:
    """Return "reject" or "defer" for the outcome of a message, None to take it."""
    letter = chosen.code.letter
    for one in letters_of(letter, chosen):
        if one in settings.letters:
            return "reject"
        if one.lower() in settings.letters:
            return "defer"
    if chosen.code.result in ("pass", "none", "neutral") or settings.fail == "accept":
        return None
    return settings.fail


def letters_of(letter: str, chosen: Finding) -> str:
    """Return the letters that stand for an outcome: its own, and for a signed message without a good signature T and G as well."""
    return letter if chosen.code.result in ("pass", "none", "temperror") else letter + "GT"


def is_exempt(domain: str, settings: Settings) -> bool:
    """Return whether messages of this author domain are never refused."""
    always = {one.lower() for one in settings.signaturedomains}
    never = {one.lower() for one in settings.nosignaturedomains}
    return domain not in always and ("*" in never or domain in never)


def status_field(findings: list[Finding]) -> bytes:
    """Return the DKIM-Status field of qmail-dkim."""
    chosen = summary(findings)
    words = STATUS_WORDS.get(chosen.code.result) or chosen.code.sentence
    return f"DKIM-Status: {words}\n".encode("ascii")
