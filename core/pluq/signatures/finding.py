"""What can be said of one signature: a word of Authentication-Results, a letter of DKIMVERIFY, and a sentence.

The letters and their meaning are those of qmail-dkim, which refuses a message by the letters that the site lists: upper case for good, lower
case for now. What qmail-dkim believes, and we do not, has none. The words are RFC 8601's: `policy` is a good signature that is not good enough for us.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Code(Enum):
    """(result, letter, enhanced code without its class, sentence)."""

    GOOD = "pass", "A", "7.0", "good"
    TESTING = "pass", "A", "7.0", "good, with a key in test mode"
    EXTRA = "pass", "E", "7.0", "signature verified but it did not include all of the body"
    BAD_SYNTAX = "permerror", "H", "7.5", "DKIM-Signature could not parse or has bad tags/values"
    BAD_VERSION = "permerror", "W", "7.6", "incompatible v="
    OLD_ALGORITHM = "policy", "", "7.7", "rsa-sha1 is not accepted"
    BAD_ALGORITHM = "policy", "H", "7.5", "algorithm is not accepted"
    WRONG_ALGORITHM = "permerror", "V", "7.7", "key doesn't match signature a="
    BAD_IDENTITY = "permerror", "Y", "7.7", "i= is not within d="
    STRICT_IDENTITY = "permerror", "Y", "7.7", "key wants i= to be d="
    UNSIGNED_FROM = "permerror", "X", "7.7", "not all message's From headers in signature"
    UNSIGNED_SUBJECT = "policy", "H", "7.5", "Subject is not signed"
    DOUBLED = "policy", "", "7.7", "a signed header field is there again, unsigned"
    EXPIRED = "permerror", "K", "7.5", "x= is old"
    FUTURE = "permerror", "", "7.5", "t= is in the future"
    SHORT_BODY = "permerror", "U", "7.7", "body is shorter than l="
    PARTIAL_BODY = "policy", "U", "7.7", "body is longer than l="
    NO_KEY = "permerror", "Q", "7.0", "no key for signature"
    BAD_KEY = "permerror", "R", "7.5", "selector p= value invalid or wrong format"
    BAD_RECORD = "permerror", "L", "7.5", "selector doesn't parse or contains invalid values"
    WEAK_KEY = "policy", "R", "7.5", "key is too short"
    HUGE_KEY = "policy", "R", "7.5", "key is too long"
    REVOKED = "permerror", "N", "7.5", "selector p= empty"
    DNS_FAILED = "temperror", "P", "7.0", "temporary dns failure requesting selector"
    BODY_CHANGED = "fail", "U", "7.7", "message body does not hash to bh value"
    BAD_SIGNATURE = "fail", "I", "7.5", "RSA/ED25519 verify failed"
    FAILED_TESTING = "neutral", "J", "7.5", "RSA/ED25519 verify failed but testing"
    NO_SIGNATURE = "none", "S", "7.5", "no signatures"

    def __init__(self, result: str, letter: str, enhanced: str, sentence: str) -> None:
        self.result = result
        self.letter = letter
        self.enhanced = enhanced
        self.sentence = sentence


class Unacceptable(Exception):
    """A signature or key that is not to be believed. `detail` goes into the reason."""

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(code.sentence, detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True)
class Finding:
    """The outcome for one signature. `domain`, `selector`, `identity`, `algorithm` are "" as far as they could not be read."""

    code: Code
    detail: str = ""
    domain: str = ""
    selector: str = ""
    identity: str = ""
    algorithm: str = ""
    value: str = ""

    @property
    def reason(self) -> str:
        """Why it is no plain pass, for people."""
        if self.code is Code.GOOD:
            return ""
        return f"{self.code.sentence}: {self.detail}" if self.detail else self.code.sentence


NO_SIGNATURE = Finding(Code.NO_SIGNATURE)


def summary(findings: list[Finding]) -> Finding:
    """Return the finding that speaks for the message: a pass, else what may still become one, else the first failure."""
    for result in ("pass", "temperror"):
        for finding in findings:
            if finding.code.result == result:
                return finding
    return findings[0] if findings else NO_SIGNATURE
