"""What a session may log in with, and whether it must: SMTPAUTH as patched qmail reads it.

    unset, - or 0           nothing                     any other text, also none   LOGIN PLAIN
    cram...                 CRAM-MD5                    +cram...                    LOGIN PLAIN CRAM-MD5
    !                       LOGIN PLAIN, and a login is required before MAIL
    !cram... !+cram...      as without the mark, and required

Source: Hoffmann's SMTP AUTH patch for qmail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PASSWORD = ("LOGIN", "PLAIN")
CRAM = ("CRAM-MD5",)


@dataclass(frozen=True, slots=True)
class Offer:
    """Mechanisms in the order in which they are announced; `required`: no MAIL without a login."""

    mechanisms: tuple[str, ...] = ()
    required: bool = False


def parse_smtpauth(text: str) -> Offer:
    """Return what SMTPAUTH asks for."""
    word = text.lower()
    if word in ("-", "0"):
        return Offer()
    required = word == "!" or word.startswith(("!cram", "!+cram"))
    if required:
        word = word[1:]
    if word.startswith("+cram"):
        return Offer(PASSWORD + CRAM, required)
    return Offer(CRAM if word.startswith("cram") else PASSWORD, required)


def split_arguments(arguments: Sequence[str], is_program: bool) -> tuple[str | None, list[str]]:
    """Return the host name and the checking program in qmail-smtpd's arguments, which two families of patches order differently.

    Without a slash, the first of several is a host name, unless it is a program of that name (`is_program`).
    """
    if len(arguments) > 1 and "/" not in arguments[0] and not is_program:
        return arguments[0], list(arguments[1:])
    return None, list(arguments)
