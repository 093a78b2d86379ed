"""The settings, each under the name, file and variable that patched qmail knows it by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pluq import setting

# Named once more than they occur, whether they occur or not. Content-Type and others of which relays may add one are not in it.
OVERSIGNED = ("from", "reply-to", "to", "cc", "subject")


def is_set(text: str) -> bool:
    """qmail-dkim looks only whether its switches are there."""
    return True


def names(text: str) -> tuple[str, ...]:
    return tuple(name.strip().lower() for name in text.split(":") if name.strip())


@dataclass(frozen=True)
class Settings:
    """Verifying first, then signing."""

    verify: bool = setting(True, help="Verify the signatures of clients that may not relay.")
    max_signatures: int = setting(8, unit="signatures", help="How many of one message are looked at, from the top.")
    fail: Literal["accept", "defer", "reject"] = setting(
        "accept", help="What happens to a signed message none of whose signatures is good."
    )
    letters: str = setting(
        "",
        env="DKIMVERIFY",
        help="Outcomes that refuse a message, as letters of qmail-dkim: upper case for good, lower case for now.",
    )
    signaturedomains: tuple[str, ...] = setting(
        (),
        control="signaturedomains",
        help="Author domains whose outcome always counts, whatever nosignaturedomains says.",
    )
    nosignaturedomains: tuple[str, ...] = setting(
        (), control="nosignaturedomains", help="Author domains that are never refused; * for all."
    )
    honor_body_length: bool = setting(
        False,
        env="HONOR_BODYLENGTHTAG",
        parse_env=is_set,
        help="Believe a signature whose l= leaves the end of the body unsigned.",
    )
    unsigned_subject: bool = setting(
        True, env="UNSIGNED_SUBJECT", parse_env=is_set, help="Believe a signature that does not cover Subject."
    )
    status_field: bool = setting(False, help="Write DKIM-Status as well, for filters that look for it.")

    sign: Literal["relay", "all", "none"] = setting(
        "relay", help="Whose messages a profile signs: clients that may relay or have logged in, all, none."
    )
    key: str = setting(
        "",
        env="DKIMSIGN",
        help="Private key file, % for the domain, its name is the selector; without % it must be there.",
    )
    default_key: str = setting(
        "control/domainkeys/%/default", env="DKIMKEY", help="Where the key is looked for when `key` is not set."
    )
    extra_key: str = setting(
        "", env="DKIMSIGNEXTRA", help="Key of a second signature, Ed25519 beside RSA; % for the domain."
    )
    keys: tuple[str, ...] = setting(
        (), control="dkimkeys", help="Keys of single domains: DOMAIN:FILE[:VARIABLE=VALUE,...], * for every domain."
    )
    ignore_keys: bool = setting(False, env="NODKIMKEYS", parse_env=is_set, help="Do not look at `keys`.")
    filterargs: tuple[str, ...] = setting(
        (),
        control="filterargs",
        help="Lines of spawn-filter; those with qmail-dkim say which deliveries are signed, and how.",
    )
    options: str = setting(
        "", env="DKIMSIGNOPTIONS", help="Options of qmail-dkim: -c form, -i identity, -x seconds, -l, -q."
    )
    extra_options: str = setting("", env="DKIMSIGNOPTIONSEXTRA", help="The same for the second signature.")
    identity: str = setting("", env="DKIMIDENTITY", help="The i= of signatures; left out for other domains.")
    expire: int = setting(0, unit="seconds", env="DKIMEXPIRE", help="How long a signature is good; 0 for ever.")
    fields: Literal["usual", "all"] = setting(
        "usual",
        help="Which fields are signed: those that RFC 6376 advises, or all but trace and X- fields, as qmail-dkim.",
    )
    oversign: tuple[str, ...] = setting(
        OVERSIGNED, help="Fields of which nobody may add another one without breaking the signature."
    )
    exclude: tuple[str, ...] = setting((), env="EXCLUDE_DKIMSIGN", parse_env=names, help="Fields that are not signed.")
    bounce_domain: str = setting(
        "", env="BOUNCEDOMAIN", help="Domain that signs messages without a sender when that of their From has no key."
    )
    forwards: str = setting(
        "",
        help="Domain that signs messages that only pass through; % for the one that From claims, as qmail-dkim does; empty for none.",
    )
    unusable_key: Literal["defer", "send"] = setting(
        "defer", help="What happens when a key is there and cannot be used: keep the message, or send it unsigned."
    )
