"""qmail-log(5): the lines in which the scheduler tells what it does.

    status: local 1/10 remote 0/20          new msg 42           starting delivery 7: msg 42 to local joe@example.org
    info msg 42: bytes 813 from <s@example.net> qp 99 uid 1000   delivery 7: success: did_1+0+0/          end msg 42

One event is one line. What strangers wrote (addresses, reports) is escaped: a newline becomes `/`, any other byte that is not
plain ASCII, a blank or `%` becomes `_`, so nobody can forge a line.

Source: qmail-log(5); logsafe in qsutil.c.
"""

from __future__ import annotations

from pluq.log.about import About

SAFE = bytes(
    ord("/") if byte == ord("\n") else byte if 33 <= byte <= 126 and byte != ord("%") else ord("_")
    for byte in range(256)
)
"""What each byte of a stranger's text becomes in a line."""

_WORDS = bytes(byte if byte == 32 else SAFE[byte] for byte in range(256))

OUTCOMES = {b"K": b"success", b"Z": b"deferral", b"D": b"failure"}


def escape(text: bytes) -> bytes:
    """Return a stranger's text as it may stand in a line."""
    return text.translate(SAFE)


def status(local: tuple[int, int], remote: tuple[int, int], leaving: bool = False) -> bytes:
    """Return the line that counts deliveries in progress and their limit, of each channel."""
    return b"status: local %d/%d remote %d/%d%b\n" % (*local, *remote, b" exitasap" if leaving else b"")


def new_message(message: int) -> bytes:
    return b"new msg %d\n" % message


def info(message: int, size: int, sender: bytes, qp: int, uid: int) -> bytes:
    """Return the line about a message that was just queued: its size in bytes, its queue process and who ran that."""
    return b"info msg %d: bytes %d from <%b> qp %d uid %d\n" % (message, size, sender.translate(SAFE), qp, uid)


def starting(delivery: int, message: int, channel: bytes, recipient: bytes) -> bytes:
    return b"starting delivery %d: msg %d to %b %b\n" % (delivery, message, channel, recipient.translate(SAFE))


def delivered(delivery: int, outcome: bytes, text: bytes, about: About | None = None) -> bytes:
    """Return the line for a report; `outcome` is its first byte, K, Z or D. Any other outcome is a mangled report.

    `about` is for the other form, which says it all again.
    """
    word = OUTCOMES.get(outcome)
    if word is None:
        return b"delivery %d: report mangled, will defer\n" % delivery
    return b"delivery %d: %b: %b\n" % (delivery, word, text.translate(SAFE))


def bounced(message: int, qp: int) -> bytes:
    return b"bounce msg %d qp %d\n" % (message, qp)


def no_bounce(why: str, file: bytes) -> bytes:
    """Return the line for failure notes that nobody gets: of a "triple bounce", or of what a plugin does not want."""
    return b"%b: discarding %b\n" % (why.encode("utf-8", "replace").translate(_WORDS), file)


def end_message(message: int) -> bytes:
    return b"end msg %d\n" % message


def steered(verb: str, message: int, uid: int) -> bytes:
    """Return the line about what an administrator did to a message (pluq queue): "hold msg 42 uid 0"."""
    return b"%b msg %d uid %d\n" % (verb.encode(), message, uid)


def leaving() -> bytes:
    """Return the last line."""
    return b"status: exiting\n"


def warning(text: str | bytes) -> bytes:
    return _remark(b"warning", text)


def alert(text: str | bytes) -> bytes:
    return _remark(b"alert", text)


def _remark(kind: bytes, text: str | bytes) -> bytes:
    """Return one line whatever the text holds: our own words keep their blanks."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return b"%b: %b\n" % (kind, data.replace(b"\n", b"/"))


def remark(role: str, text: str) -> bytes:
    """Return a line of a role's own; no control character of a stranger gets into it."""
    shown = "".join(char if char.isprintable() else "?" for char in text)
    return f"{role}: {shown}\n".encode("utf-8", "backslashreplace")
