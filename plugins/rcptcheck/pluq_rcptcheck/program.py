"""RCPTCHECK: a program of the site decides on a recipient.

It gets SENDER, RECIPIENT, HELO and USE_FD4=1; RCPTFOUND=1 where we found the recipient, RCPTHOSTS=1 where rcpthosts lists its domain. What
it writes on descriptor 1 goes to the log. Its exit code decides; with 100 and 113 it may write the reply on descriptor 4, a whole one.

    100   no such mailbox          113   too much for this client: hang up
    111   cannot be known: hang up 120   it could not be run: hang up; so does a crash, and silence for too long
    others take the recipient

Source: the RCPTCHECK patch, in the form of the combined qmail.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pluq import Defer, Disconnect, Reject, Verdict
from pluq.children import Ended, run

NO_MAILBOX = Reject(550, "5.1.1", "sorry, no mailbox here by that name.")
UNVERIFIED = Disconnect(Defer(421, "4.3.0", "unable to verify recipient"))
NOT_RUN = Disconnect(Defer(421, "4.3.0", "unable to execute recipient check"))
OVER_LIMIT = Disconnect(Defer(421, "4.3.0", "you have exceeded your messaging limits"))
BAD_TEXT = Defer(451, "4.4.2", "temporary problem")

REFUSED, LATER, TOO_MUCH, EXEC_FAILED = 100, 111, 113, 120
CLOSING = 421
TEXT_FD = 4

_REPLY = re.compile(rb"([45][0-9][0-9])[ -]([^\n]*[^ \n][^\n]*)")


async def ask_program(program: str, environment: Mapping[str, str], folder: str, seconds: float) -> Verdict | None:
    """Return what the program says."""
    merged = {**os.environ, **environment}
    try:
        ended = await run([program], environment=merged, folder=folder, seconds=seconds, outputs=(TEXT_FD,))
    except OSError:
        return NOT_RUN
    return verdict_of(ended)


def verdict_of(ended: Ended) -> Verdict | None:
    if ended.is_late:
        return UNVERIFIED
    if ended.code < 0 or ended.code == EXEC_FAILED:
        return NOT_RUN
    if ended.code == LATER:
        return UNVERIFIED
    if ended.code not in (REFUSED, TOO_MUCH):
        return None
    text = ended.said[TEXT_FD].partition(b"\0")[0].rstrip(b"\r\n")
    if text:
        return reply_of(text)
    return NO_MAILBOX if ended.code == REFUSED else OVER_LIMIT


def reply_of(text: bytes) -> Verdict:
    """Return the verdict that a text of the program is. It is one line, a code from 400 to 599 and words."""
    found = _REPLY.fullmatch(text)
    if found is None:
        return BAD_TEXT
    code, words = int(found[1]), found[2]
    reply = Defer(code, None, words) if code < 500 else Reject(code, None, words)
    return Disconnect(reply) if code == CLOSING else reply
