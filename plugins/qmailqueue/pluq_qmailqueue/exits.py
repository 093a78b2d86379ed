"""What the exit codes of queue programs mean, and how a program gives its own reason.

Stock codes are those of pluq.queue.refusal. Patches added some, and two ways to say more: with 82 or 88 the reason stands on descriptor
4 (simscan and most wrappers), on 6 (notqmail), or on the one that ERROR_FD names (qmail-dkim). First D or Z, then the text; a letter that
is not D means Z. A reason of fewer than three bytes is none.

Source: qmail_close in qmail.c of the combined patches; qmail-queue(8) of notqmail.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pluq.hookspecs import clean_text
from pluq.queue.refusal import CUSTOM_LIMIT, CUSTOM_MINIMUM, EXEC_ERROR, TEXTS, QueueRefusal

CUSTOM_CODES = frozenset({82, 88})
ERROR_FDS = (4, 6)

ADDED = {
    58: "Zqq trouble creating child (#4.3.0)",
    59: "Zqq trouble creating pipes (#4.3.0)",
    70: "Zqq trouble with pid file (#4.3.0)",
    122: "Zqq waitpid surprise (#4.3.0)",
    123: "Zqq crashed (#4.3.0)",
}
# One program's own code: to all others it is any permanent problem.
SIGNER = "qmail-dkim"
NO_KEY = 32
NO_KEY_TEXT = "DPrivate key file does not exist (#5.3.5)"


def refused(code: int, said: Mapping[int, bytes], program: str) -> QueueRefusal:
    """Return the refusal for an exit code that is not 0, and what the program wrote on its descriptors for reasons."""
    if code in CUSTOM_CODES:
        reason = next((text for text in map(reason_of, said.values()) if text), None)
        if reason is None:
            return QueueRefusal(code, verdict=TEXTS[EXEC_ERROR])
        return QueueRefusal(code, reason, reason.decode("utf-8", "surrogateescape"))
    if code == NO_KEY and os.path.basename(program) == SIGNER:
        return QueueRefusal(code, verdict=NO_KEY_TEXT)
    return QueueRefusal(code, verdict=ADDED.get(code))


def reason_of(text: bytes) -> bytes:
    """Return a reason that can stand in a reply, nothing for what is none."""
    text = text.partition(b"\0")[0][:CUSTOM_LIMIT]
    return clean_text(text) if len(text) >= CUSTOM_MINIMUM else b""


def error_fds(environment: Mapping[str, str]) -> tuple[int, ...]:
    """Return the descriptors that a program may write its reason on: 4, 6, and what ERROR_FD says."""
    text = environment.get("ERROR_FD", "")
    wanted = int(text) if text.isascii() and text.isdigit() and len(text) < 3 else 0
    extra = (wanted,) if 2 <= wanted < 20 and wanted not in ERROR_FDS else ()
    return (*extra, *ERROR_FDS)
