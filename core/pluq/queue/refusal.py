"""What qmail-queue's exit codes mean, in one place.

A program that queues a message exits with 0 (it is in the queue, durably) or with a code between 11 and 120. Codes 11 to 40
are permanent, all others temporary. 82 means: the reason was written to descriptor 6, first its class D or Z, then the text.
A negative code is the signal that killed the program.

Source: qmail-queue(8); qmail_close in qmail.c of notqmail.
"""

from __future__ import annotations

from typing import NamedTuple

from pluq.errors import PluqError

__all__ = ["CUSTOM", "TEXTS", "QueueRefusal", "Receipt", "code_of", "explain"]

ADDRESS_TOO_LONG = 11
REFUSED = 31
OUT_OF_MEMORY = 51
TIMEOUT = 52
WRITE_ERROR = 53
READ_ERROR = 54
NO_CONFIGURATION = 55
CONNECT_ERROR = 56
HOME_ERROR = 61
QUEUE_ERROR = 62
PID_ERROR = 63
MESS_ERROR = 64
INTD_ERROR = 65
TODO_ERROR = 66
LATER = 71
CONNECTION_LOST = 74
BUG = 81
CUSTOM = 82
BAD_ENVELOPE = 91
EXEC_ERROR = 120

TEXTS = {
    11: "Denvelope address too long for qq (#5.1.3)",
    31: "Dmail server permanently rejected message (#5.3.0)",
    51: "Zqq out of memory (#4.3.0)",
    52: "Zqq timeout (#4.3.0)",
    53: "Zqq write error or disk full (#4.3.0)",
    54: "Zqq read error (#4.3.0)",
    55: "Zqq unable to read configuration (#4.3.0)",
    56: "Zqq trouble making network connection (#4.3.0)",
    61: "Zqq trouble in home directory (#4.3.0)",
    62: "Zqq trouble creating files in queue (#4.3.0)",
    63: "Zqq trouble creating files in queue (#4.3.0)",
    64: "Zqq trouble creating files in queue (#4.3.0)",
    65: "Zqq trouble creating files in queue (#4.3.0)",
    66: "Zqq trouble creating files in queue (#4.3.0)",
    71: "Zmail server temporarily rejected message (#4.3.0)",
    72: "Zconnection to mail server timed out (#4.4.1)",
    73: "Zconnection to mail server rejected (#4.4.1)",
    74: "Zcommunication with mail server failed (#4.4.2)",
    81: "Zqq internal bug (#4.3.0)",
    91: "Zqq internal bug (#4.3.0)",
    115: "Denvelope address too long for qq (#5.1.3)",
    120: "Zunable to exec qq (#4.3.0)",
}
CRASHED = "Zqq crashed (#4.3.0)"
PERMANENT = "Dqq permanent problem (#5.3.0)"
TEMPORARY = "Zqq temporary problem (#4.3.0)"
# A custom reason shorter than this says nothing; a longer one is cut here.
CUSTOM_MINIMUM = 3
CUSTOM_LIMIT = 255


class Receipt(NamedTuple):
    """The message is in the queue. `qp` is the number that its log lines carry."""

    qp: int


def explain(code: int, custom: bytes | None = None) -> str:
    """Return class (D or Z) and reason for an exit code that is not 0."""
    if code == CUSTOM and custom is not None and len(custom) >= CUSTOM_MINIMUM:
        return custom.decode("utf-8", "surrogateescape")
    if code < 0:
        return CRASHED
    return TEXTS.get(code) or (PERMANENT if ADDRESS_TOO_LONG <= code <= 40 else TEMPORARY)


_CODES = {text: code for code, text in reversed(TEXTS.items())}


def code_of(verdict: str) -> int:
    """Return the exit code for a QMQP verdict that is not K: of a known text its own, else 31 or 71."""
    return _CODES.get(verdict, REFUSED if verdict[:1] == "D" else LATER)


class QueueRefusal(PluqError):
    """The message was not queued. `code` is qmail-queue's exit code, `text` what it wrote as its own reason (code 82).

    `verdict` is D or Z, then the reason, as qmail_close gives it; whoever speaks another dialect of exit codes gives it.
    """

    def __init__(self, code: int, text: bytes | None = None, verdict: str | None = None) -> None:
        self.verdict = explain(code, text) if verdict is None else verdict
        super().__init__(self.verdict[1:])
        self.code = code
        self.text = text

    @property
    def permanent(self) -> bool:
        return self.verdict[:1] == "D"
