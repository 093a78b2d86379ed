"""The settings of auth: control files, variables of patched qmail, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pluq import setting
from pluq.config.table import nearest

MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS")


def is_zero(text: str) -> bool:
    return text == "0"


def is_one(text: str) -> bool:
    return text == "1"


def is_set(text: str) -> bool:
    """A variable that is there switches on, whatever it holds."""
    return True


def mechanism(text: str) -> str:
    """Return a mechanism in upper case. Raises ValueError for one that nothing here speaks."""
    name = text.upper()
    if name not in MECHANISMS:
        raise ValueError(f"{text!r} is none of {', '.join(MECHANISMS)}{nearest(name, MECHANISMS)}")
    return name


@dataclass(frozen=True)
class Settings:
    smtpauth: str | None = setting(
        None,
        env="SMTPAUTH",
        help="What to offer, in the words of patched qmail: -, '', cram, +cram, and ! to require it.",
    )
    mechanisms: tuple[str, ...] = setting((), parse=mechanism, help="What to offer; empty: what the back end can do.")
    required: bool = setting(False, env="REQUIRE_AUTH", parse_env=is_set, help="Refuse MAIL before a login.")
    without_tls: bool = setting(False, env="FORCETLS", parse_env=is_zero, help="Offer it before TLS too (FORCETLS=0).")
    program: tuple[str, ...] = setting((), help="The checkpassword program and its arguments.")
    protocol: Literal["qmail", "checkpassword", "jms", "cmd5checkpw", "indimail", ""] = setting(
        "", help="What the program reads; empty: as the patch whose order of arguments is used."
    )
    timeout_program: float = setting(30.0, unit="seconds", help="How long the program, or Dovecot, may take.")
    dovecot: str = setting("", help="The socket of Dovecot's auth service, relative to the qmail home.")
    cdb: str = setting(
        "", env="AUTH_CDB", help="A cdb of users with crypt(3) hashes, relative to the qmail home; it decides alone."
    )
    passwords: str = setting("control/passwords", help="The file of passwords, relative to the qmail home.")
    delay: float = setting(5.0, unit="seconds", help="How long the answer to a wrong password waits.")
    failures: int = setting(
        20, unit="attempts", help="Failed logins of one address before it is turned away; 0 for any."
    )
    failures_window: float = setting(600.0, unit="seconds", help="How long failed logins count.")
    force_sender: bool = setting(
        False, env="FORCEAUTHMAILFROM", parse_env=is_one, help="A login may only send as itself, or as send_as says."
    )
    send_as: tuple[str, ...] = setting((), control="sendas", help="Lines LOGIN:SENDER, for force_sender.")
    relay: bool = setting(True, help="Whoever logged in may relay.")
    hide_client: bool = setting(True, help="Leave clients that may relay out of Received, by name and address.")
    old_clients: bool = setting(False, env="OLD_CLIENT", parse_env=is_set, help="Announce AUTH= as well.")
    password_needs_tls: bool = setting(False, help="To relays: never log in before TLS.")
    verify_relay: bool = setting(
        False, help="To relays on port 465: their certificate must be good and bear their name."
    )
