"""What a qmail-spp program says: lines, each a letter and a text.

    A N O           the session needs no more programs; this command needs no more; and nobody's lists either
    E R D           refuse with the text; refuse and hang up; hang up
    P text          print it in front of the reply
    LM LR LD text   refuse MAIL, RCPT, DATA with the text when they come
    S name=value    U name      set and unset a variable
    H field         a field for the header
    C address       the sender or recipient is this one

The first line of A N O E R D is the last that counts. Other letters say nothing.

Source: spp() of the qmail-spp patch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pluq import Defer, Reject

FINAL = b"ANOERD"
_REPLY = re.compile(rb"([2-5][0-9][0-9])(?:[ -](.*))?", re.DOTALL)


def commands(output: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield letter and text of each line, the last of them a final one if there is any."""
    for line in output.split(b"\n"):
        line = line.partition(b"\0")[0].rstrip(b"\r")
        if not line:
            continue
        yield line[:1], line[1:]
        if line[:1] in FINAL:
            return


def refusal(text: bytes) -> Reject | Defer | None:
    """Return the verdict whose reply is `text`; None where that is no reply (550 and so on, and words)."""
    found = _REPLY.fullmatch(text)
    if found is None:
        return None
    code, words = int(found[1]), found[2] or b""
    return Defer(code, None, words, once=True) if code // 100 == 4 else Reject(code, None, words, once=True)
