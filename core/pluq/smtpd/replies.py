"""The replies of qmail-smtpd, to the letter.

Two are ours: what a client hears that sends endless lines or endless commands, where qmail would go on for ever.
"""

from __future__ import annotations

from pluq.hookspecs.verdicts import clean_text

OK = b"250 ok\r\n"
FLUSHED = b"250 flushed\r\n"
GO_AHEAD = b"354 go ahead\r\n"
HELP = b"214 notqmail home page: https://notqmail.org\r\n"
VRFY = b"252 send some mail, i'll try my best\r\n"

UNIMPLEMENTED = b"502 unimplemented (#5.5.1)\r\n"
SYNTAX = b"555 syntax error (#5.5.4)\r\n"
WANT_MAIL = b"503 MAIL first (#5.5.1)\r\n"
WANT_RCPT = b"503 RCPT first (#5.5.1)\r\n"
BAD_SENDER = b"553 sorry, your envelope sender is in my badmailfrom list (#5.7.1)\r\n"
NO_GATEWAY = b"553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)\r\n"

TOO_MANY_HOPS = b"554 too many hops, this message is looping (#5.4.6)\r\n"
TOO_LARGE = b"552 sorry, that message size exceeds my databytes limit (#5.3.4)\r\n"
QUEUE_FAILURE = b"451 qqt failure (#4.3.0)\r\n"

STRAY_NEWLINE = b"451 See https://cr.yp.to/docs/smtplf.html.\r\n"
TIMEOUT = b"451 timeout (#4.4.2)\r\n"
NO_MEMORY = b"421 out of memory (#4.3.0)\r\n"
NO_CONTROLS = b"421 unable to read controls (#4.3.0)\r\n"
NO_ADDRESSES = b"421 unable to figure out my IP addresses (#4.3.0)\r\n"

LINE_TOO_LONG = b"500 line too long (#5.5.2)\r\n"
TOO_MANY_RECIPIENTS = b"452 too many recipients (#4.5.3)\r\n"
TOO_MUCH_JUNK = b"421 too many commands without mail (#4.7.0)\r\n"
GOING_DOWN = b"421 service going down, try again (#4.3.2)\r\n"
TOO_MANY_CONNECTIONS = b"421 too many connections from your address (#4.7.0)\r\n"
TROUBLE = b"451 temporary local problem (#4.3.0)\r\n"


def accepted(when: int, qp: int) -> bytes:
    """Return the reply to a message that is safe in the queue."""
    return b"250 ok %d qp %d\r\n" % (when, qp)


def refused(answer: bytes) -> bytes:
    """Return the reply for an answer of qmail-queue: D and a text is for good, any other letter for now."""
    return (b"554 " if answer.startswith(b"D") else b"451 ") + clean_text(answer[1:]) + b"\r\n"
