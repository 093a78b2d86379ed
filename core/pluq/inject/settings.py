"""What the person who sends has decided: their name, their address, the QMAILINJECT letters; and the host's control files.

    From field       QMAILNAME MAILNAME NAME    QMAILUSER MAILUSER USER LOGNAME    QMAILHOST MAILHOST
    Return-Path      -                          QMAILSUSER, else as above          QMAILSHOST, else as above
    completion       QMAILDEFAULTDOMAIN QMAILDEFAULTHOST QMAILPLUSDOMAIN QMAILIDHOST, else control/defaultdomain, defaulthost,
                     plusdomain, idhost, else control/me, else the literal names of the settings
    QMAILINJECT      c name in a comment, s f i drop Return-Path From Message-ID, r m make the sender different for each
                     recipient or message
    QMAILMFTFILE     mailing lists to which followups go (Mail-Followup-To)

The first variable that is set counts, even if it is empty.

Source: qmail-inject(8); getcontrols and main in qmail-inject.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pluq.inject.rewrite import Completion
from pluq.store.control import ControlFiles, read_lines

__all__ = ["Author", "Settings", "followup_lists", "read_settings"]

Environment = Mapping[bytes, bytes]


def first_set(environment: Environment, *names: bytes) -> bytes | None:
    """Return the value of the first variable that is set."""
    return next((environment[name] for name in names if name in environment), None)


@dataclass(frozen=True)
class Author:
    """Who writes. The sender fields are for the envelope, the others for the From field."""

    name: bytes | None
    user: bytes
    host: bytes | None
    sender_user: bytes
    sender_host: bytes | None

    @classmethod
    def from_environment(cls, environment: Environment) -> Author:
        user = first_set(environment, b"QMAILUSER", b"MAILUSER", b"USER", b"LOGNAME")
        user = b"anonymous" if user is None else user
        host = first_set(environment, b"QMAILHOST", b"MAILHOST")
        return cls(
            name=first_set(environment, b"QMAILNAME", b"MAILNAME", b"NAME"),
            user=user,
            host=host,
            sender_user=environment.get(b"QMAILSUSER", user),
            sender_host=environment.get(b"QMAILSHOST", host) if host is not None else environment.get(b"QMAILSHOST"),
        )


@dataclass(frozen=True)
class Settings:
    """All that the header depends on, apart from the message, the clock and the process id."""

    author: Author
    completion: Completion
    id_host: bytes
    lists: frozenset[bytes]
    """Addresses of mailing lists, in lower case."""
    letters: frozenset[str] = frozenset()
    """The letters of QMAILINJECT."""
    local_dates: bool = False
    brackets_are_null: bool = False
    """Whether the sender <> given as an argument means the null sender, as programs made for Sendmail mean it."""


def followup_lists(environment: Environment) -> frozenset[bytes]:
    """Return the lists that the file QMAILMFTFILE names, relative to the present folder. Raises ConfigError."""
    path = environment.get(b"QMAILMFTFILE")
    lines = read_lines(path.decode(errors="surrogateescape")) if path is not None else None
    return frozenset(line.lower() for line in lines or ())


def read_settings(
    environment: Environment,
    controls: ControlFiles,
    lists: frozenset[bytes],
    local_dates: bool = False,
    brackets_are_null: bool = False,
) -> Settings:
    """Read the control files, where the environment does not settle it. Raises ConfigError and Unparsable."""
    me = controls.me()

    def setting(variable: bytes, name: str) -> bytes:
        line = controls.line(name)
        if line is None:
            line = name.encode() if me is None else me
        return environment.get(variable, line)

    default_domain = setting(b"QMAILDEFAULTDOMAIN", "defaultdomain")
    default_host = setting(b"QMAILDEFAULTHOST", "defaulthost")
    plus_domain = setting(b"QMAILPLUSDOMAIN", "plusdomain")
    return Settings(
        author=Author.from_environment(environment),
        completion=Completion.of(default_host, default_domain, plus_domain),
        id_host=setting(b"QMAILIDHOST", "idhost").partition(b"\0")[0],
        lists=lists,
        letters=frozenset(environment.get(b"QMAILINJECT", b"").decode("latin-1")),
        local_dates=local_dates,
        brackets_are_null=brackets_are_null,
    )
