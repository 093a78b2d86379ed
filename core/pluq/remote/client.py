"""The SMTP client as a state table: replies in, bytes to send and a report out. No sockets, no clock.

    GREETING  220?   ->  HELO   250?   ->  MAIL  ->  RCPT...  ->  DATA  ->  BODY  ->  FINAL  ->  DONE
                                            ^                                                     |
                                            +----------- (RSET) next message on the connection ---+

STEPS says for each state which codes go on and what is reported else; greeting and HELO are asked by the connection, once, and
`Dialogue` takes one message from MAIL to the final reply. With `pipelining` MAIL to DATA leave as one group (RFC 2920), the
replies are judged in the same order; without, each command waits for its reply, and every byte is qmail-remote's.

What can be lost: until the final dot is handed out (`critical`) the peer cannot have accepted the message, so it may be tried
again elsewhere. After that only the reply tells; a connection that dies then is reported as a possible duplicate.

Source: RFC 5321 section 4.1.1; RFC 2920; qmail-remote.c of qmail for the texts and for what counts as a success.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from pluq.errors import ProtocolError
from pluq.mail.address import quote_box
from pluq.remote import report
from pluq.wire.smtp import END_OF_DATA, Reply

CLOSING = 421


class State(Enum):
    """What the next reply answers, or what the peer waits for (BODY)."""

    GREETING = auto()
    HELO = auto()
    RSET = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    BODY = auto()
    FINAL = auto()
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """Which codes let the dialogue go on, and the report else: D for codes from `permanent_from` on, Z below."""

    good: range
    complaint: bytes
    permanent_from: float = 500

    def letter(self, code: int) -> bytes:
        return b"D" if code >= self.permanent_from else b"Z"


# qmail takes every code below 400 for a yes once the session stands: 251, 299 and 350 are no reasons to lose a message.
YES = range(400)
NEVER = float("inf")

STEPS = {
    State.GREETING: Step(range(220, 221), b"Connected to %b but greeting failed", NEVER),
    State.HELO: Step(range(250, 251), b"Connected to %b but my name was rejected", NEVER),
    State.MAIL: Step(YES, b"Connected to %b but sender was rejected"),
    State.RCPT: Step(YES, b"%b does not like recipient"),
    State.DATA: Step(YES, b"%b failed on DATA command"),
    State.FINAL: Step(YES, b"%b failed after I sent the message"),
}
ACCEPTED = b"%b accepted message"


_MAIL, _RCPT, _DATA, _FINAL = (STEPS[state] for state in (State.MAIL, State.RCPT, State.DATA, State.FINAL))


def judge(step: Step, partner: bytes, reply: Reply) -> bytes | None:
    """Return None if the reply lets the dialogue go on, else the record that reports it."""
    if reply.code in step.good:
        return None
    return report.peer_said(step.letter(reply.code), step.complaint % partner, reply.text)


def smtp_address(address: bytes, utf8: bool = False) -> bytes:
    """Return an envelope address as qmail-remote writes it between the brackets: only a box before an @ is quoted."""
    box, at, domain = address.rpartition(b"@")
    return quote_box(box, utf8) + at + domain if at else address


def is_unsafe(*addresses: bytes) -> bool:
    """Whether an address would break out of its command line."""
    together = b"".join(addresses)
    return b"\n" in together or b"\r" in together


class Dialogue:
    """One message through one connection.

    `partner` is the peer's address as it stands in reports. `body` is the message in wire form without the final dot: bytes,
    or pieces of a large one. `parameters` are those of MAIL; with SMTPUTF8 among them letters beyond ASCII need no quotes. `reset`: the last message left a transaction open.

    The owner sends what `start`, `answer` and `more` return. After `answer`, while `state` is BODY, it calls `more` as fast as
    the connection takes it. At DONE `records` is the report. `usable` says whether the connection may carry another message,
    `reset_needed` what that one must begin with; `in_message` that the peer waits for the rest of a message that it must never
    get, so that nothing at all may be sent any more.
    """

    __slots__ = (
        "_accepted",
        "_body",
        "_commands",
        "_expected",
        "_failed",
        "_pipelining",
        "_position",
        "critical",
        "in_message",
        "last_code",
        "partner",
        "records",
        "reset_needed",
        "state",
        "usable",
    )

    def __init__(
        self,
        partner: bytes,
        sender: bytes,
        recipients: Sequence[bytes],
        body: bytes | Iterator[bytes],
        *,
        parameters: Sequence[bytes] = (),
        pipelining: bool = False,
        reset: bool = False,
    ) -> None:
        self.partner = partner
        self.records: list[bytes] = []
        self.critical = False
        self.usable = True
        self.in_message = False
        self.reset_needed = False
        self.last_code = 0
        self._body = body
        self._pipelining = pipelining
        self._accepted = 0
        self._failed = False
        self._position = 0
        self._expected = [State.MAIL, *[State.RCPT] * len(recipients), State.DATA]
        utf8 = b"SMTPUTF8" in parameters
        self._commands = [
            b"MAIL FROM:<%b>%b\r\n" % (smtp_address(sender, utf8), b"".join(b" " + one for one in parameters)),
            *[b"RCPT TO:<%b>\r\n" % smtp_address(recipient, utf8) for recipient in recipients],
            b"DATA\r\n",
        ]
        if reset:
            self._expected.insert(0, State.RSET)
            self._commands.insert(0, b"RSET\r\n")
        self.state = self._expected[0]

    @property
    def may_try_again(self) -> bool:
        """True if the peer hung up, or said that it will, before it could have the message."""
        return not self.critical and not self.usable and self.last_code in (0, CLOSING)

    def start(self) -> bytes:
        """Return what to send first."""
        return b"".join(self._commands) if self._pipelining else self._commands[0]

    def answer(self, reply: Reply) -> bytes:
        """Take the next reply; return what to send now, b"" for nothing yet."""
        self.last_code = reply.code
        if reply.code == CLOSING:
            self.usable = False
        if self.state is State.FINAL:
            self._take_final(reply)
            return b""
        if self.state is State.DATA:
            self._take_data(reply)
            return b""
        if self.state is State.RCPT:
            self._take_recipient(reply)
        elif self.state is State.MAIL:
            self._take_sender(reply)
        return self._next()

    def more(self) -> bytes:
        """Return the next piece of the message. The last one is the final dot."""
        if isinstance(self._body, bytes):
            piece: bytes | None = self._body + END_OF_DATA
            final = True
        else:
            try:
                piece = next(self._body, None)
            except ProtocolError:
                return self._give_up(report.PARTIAL_LINE)
            except OSError:
                return self._give_up(report.CANNOT_READ)
            final = piece is None
        if final:
            self.critical = True
            self.state = State.FINAL
        return piece if piece is not None else END_OF_DATA

    def lost(self) -> None:
        """The connection is gone, or the peer has been silent for too long."""
        self.usable = False
        if not self._failed:
            self.last_code = 0
            self.records.append(report.connection_died(self.partner, self.critical))
        self.state = State.DONE

    # -- one reply

    def _take_sender(self, reply: Reply) -> None:
        record = judge(_MAIL, self.partner, reply)
        if record is None:
            self.reset_needed = True
        else:
            self._fail(record)

    def _take_recipient(self, reply: Reply) -> None:
        if self._failed:
            return
        record = judge(_RCPT, self.partner, reply)
        if record is None:
            self._accepted += 1
            self.records.append(b"r")
        else:
            self.records.append((b"h" if record.startswith(b"D") else b"s") + record[1:])
        if self._expected[self._position + 1] is State.DATA and not self._accepted:
            self._fail(b"DGiving up on %b.\n" % self.partner)

    def _take_data(self, reply: Reply) -> None:
        self.state = State.DONE
        if self._failed:  # sent ahead of a refusal
            # A peer that wants a message without recipients gets none, not even a dot: it hears nothing more from us.
            self.in_message = reply.code in YES
            self.usable = self.usable and not self.in_message
            return
        record = judge(_DATA, self.partner, reply)
        if record is None:
            self.state = State.BODY
        else:
            self._fail(record)

    def _take_final(self, reply: Reply) -> None:
        record = judge(_FINAL, self.partner, reply)
        self.records.append(record or report.peer_said(b"K", ACCEPTED % self.partner, reply.text))
        self.reset_needed = False
        self.state = State.DONE

    # -- moving on

    def _next(self) -> bytes:
        """Go to the next command. After a failure the replies to what was sent ahead are still taken."""
        self._position += 1
        if self._failed and not (self._pipelining and self.usable):
            self.state = State.DONE
            return b""
        self.state = self._expected[self._position]
        return b"" if self._pipelining else self._commands[self._position]

    def _fail(self, record: bytes) -> None:
        self._failed = True
        self.records.append(record)

    def _give_up(self, record: bytes) -> bytes:
        """End in the middle of the message: the peer must never see a final dot."""
        self._fail(record)
        self.usable = False
        self.in_message = True
        self.state = State.DONE
        return b""
