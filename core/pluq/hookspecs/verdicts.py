"""Verdicts: what a plugin may say of a session, a recipient or a message.

`None` is no opinion: the next plugin is asked, and when all say None the core answers as stock qmail would, byte for byte.

Accept      ends the plugin chain; the core's own checks still follow. `relay=True` overrides rcpthosts and needs the
            permission "relay" in the plugin's class.
Reject      permanent, 5xx        Defer       temporary, 4xx
Disconnect  hang up, after a reply or without one
Discard     say "ok" and queue nothing
Later       a verdict that is shown at a later phase (qmail-spp's LM, LR, LD)

A reply is one line, `code text (#enhanced)`, as qmail writes it. Whatever a plugin puts into a text, no CR, LF or NUL reaches
the wire: `reply_line` is the only place that makes reply bytes.

Source: RFC 5321 section 4.2, RFC 3463, qmail-smtpd's replies.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

# What may not stand in a reply line: it would end it, or hide what follows it in a log.
_UNSAFE = bytes.maketrans(bytes(range(32)) + b"\x7f", b"?" * 9 + b" " + b"?" * 22 + b"?")

# RFC 5321 section 4.5.3.1.5 allows 512 octets with CRLF.
MAX_REPLY_LINE = 510


class Phase(Enum):
    """A moment of the session at which a verdict can be shown."""

    CONNECT = "connect"
    HELO = "helo"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class Accept:
    """Stop asking plugins. With `relay` the recipient is taken although rcpthosts does not list it."""

    relay: bool = False


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse for good. `enhanced` None leaves the "(#5.x.x)" out.

    `once`: a refusal of the connection or of HELO is said once, and what the client does next is judged for itself.
    """

    code: int = 554
    enhanced: str | None = "5.7.1"
    text: str | bytes = "refused"
    once: bool = False

    def __post_init__(self) -> None:
        _check_reply(self, "Defer", 400)


@dataclass(frozen=True, slots=True)
class Defer:
    """Refuse for now; a client that queues will come back. `once` as in Reject."""

    code: int = 451
    enhanced: str | None = "4.3.0"
    text: str | bytes = "temporary local problem"
    once: bool = False

    def __post_init__(self) -> None:
        _check_reply(self, "Reject", 500)


def _check_reply(verdict: Reject | Defer, other: str, others: int) -> None:
    """Raise TypeError or ValueError, in words for the plugin's author, where this can be no reply; `others` are codes of the `other` verdict."""
    name, code = type(verdict).__name__, verdict.code
    if not isinstance(code, int):
        raise TypeError(f"{name}(code, enhanced, text): the code is a number, not {code!r}")
    if not 0 < code < 600 or others <= code < others + 100:
        raise ValueError(
            f"{name}: {code} is no code of a {name}{f'; {other} has it' if code in range(400, 600) else ''}"
        )
    if not isinstance(verdict.enhanced, str | None):
        raise TypeError(
            f'{name}(code, enhanced, text): the enhanced code is text, as "5.7.1", or None; not {verdict.enhanced!r}'
        )
    if not isinstance(verdict.text, str | bytes):
        raise TypeError(f"{name}(code, enhanced, text): the text is str or bytes, not {verdict.text!r}")


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection after `reply`, or at once and silently. `is_quit`: the session counts as ended by the client's QUIT."""

    reply: Reject | Defer | None = None
    is_quit: bool = False


@dataclass(frozen=True, slots=True)
class Discard:
    """Answer the message with success and queue nothing. `text` is for the log."""

    text: str | bytes = "discarded"


@dataclass(frozen=True, slots=True)
class Later:
    """Keep `verdict` and show it at `phase`, for the first command of that phase."""

    phase: Phase
    verdict: Reject | Defer | Disconnect


Verdict = Accept | Reject | Defer | Disconnect | Discard | Later

# The answer when a plugin fails and the site did not say that it may be skipped: nothing is lost, the client comes back.
PLUGIN_FAILED = Defer(451, "4.3.0", "temporary local problem, try again later")


def clean_text(text: str | bytes) -> bytes:
    """Return `text` as bytes that can stand in one reply or log line: control characters become question marks."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return data.translate(_UNSAFE)


def reply_line(verdict: Reject | Defer) -> bytes:
    """Return the reply as qmail writes it, with CRLF: `553 text (#5.7.1)`."""
    tail = b"" if verdict.enhanced is None else b" (#%s)" % clean_text(verdict.enhanced)
    head = b"%d %s" % (verdict.code, clean_text(verdict.text))
    return head[: MAX_REPLY_LINE - len(tail)] + tail + b"\r\n"
