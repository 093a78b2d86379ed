"""What the programs of one session have said, and how each line of theirs is obeyed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pluq import Defer, Disconnect, Phase, Session, Verdict
from pluq.errors import PluqError
from pluq.hookspecs.message import check_field
from pluq.mail.address import MAX_ADDRESS
from pluq_spp.output import commands, refusal
from pluq_spp.sections import Sections

PHASES = {b"M": Phase.MAIL, b"R": Phase.RCPT, b"D": Phase.DATA}

# A program may set these for other programs; what the session itself takes from them was decided when the client came.
SAMPLED = frozenset({"RELAYCLIENT", "DATABYTES"})

# A session may be long, and a program speak at each of its commands.
MAX_LATER = 20
MAX_FIELDS = 1000


@dataclass
class State:
    """One session. `sections` is empty where no programs run, or after one said A. `variables`: None is unset."""

    sections: Sections
    variables: dict[str, str | None] = field(default_factory=dict)
    fields: list[bytes] = field(default_factory=list)
    later: dict[Phase, list[bytes]] = field(default_factory=dict)
    recipients: int = 0
    has_data: bool = False

    def clear(self) -> None:
        """RSET, or the end of a message."""
        self.fields.clear()
        self.later.clear()
        self.recipients = 0
        self.has_data = False


@dataclass
class Answer:
    """What the programs of one section say. `address`: the new one; `is_vouched`: nobody's list shall object.

    `is_final`: no more programs are asked. `results`: variables of other plugins, None is unset.
    """

    session: Session
    state: State
    results: Mapping[str, str | None] = field(default_factory=dict)
    verdict: Verdict | None = None
    address: bytes | None = None
    is_vouched: bool = False
    is_final: bool = False

    def obey(self, entry: str, output: bytes) -> None:
        """Do what the program `entry` said."""
        for letter, text in commands(output):
            action = ACTIONS.get(letter)
            if action is not None:
                action(self, text)
            if letter in (b"E", b"R") and self.verdict is None:
                self.fail(entry, "refused without a reply")
                if letter == b"R":
                    self.verdict = Disconnect(self.verdict, is_quit=True)

    def fail(self, entry: str, reason: str) -> None:
        """A program failed: the client comes back."""
        self.verdict = Defer(451, "4.3.0", f"qmail-spp failure: {entry}: {reason}", once=True)
        self.is_final = True


def _all_off(answer: Answer, text: bytes) -> None:
    answer.state.sections = {}
    answer.is_final = True


def _next(answer: Answer, text: bytes) -> None:
    answer.is_final = True


def _vouch(answer: Answer, text: bytes) -> None:
    answer.is_final = answer.is_vouched = True


def _refuse(answer: Answer, text: bytes) -> None:
    answer.verdict = refusal(text)
    answer.is_final = True


def _refuse_and_close(answer: Answer, text: bytes) -> None:
    reply = refusal(text)
    answer.verdict = None if reply is None else Disconnect(reply, is_quit=True)
    answer.is_final = True


def _close(answer: Answer, text: bytes) -> None:
    answer.verdict = Disconnect(is_quit=True)
    answer.is_final = True


def _print(answer: Answer, text: bytes) -> None:
    answer.session.preface.append(text)


def _refuse_later(answer: Answer, text: bytes) -> None:
    phase = PHASES.get(text[:1])
    if phase is not None:
        lines = answer.state.later.setdefault(phase, [])
        if len(lines) < MAX_LATER:
            lines.append(text[1:])


def _set(answer: Answer, text: bytes) -> None:
    name, equals, value = text.decode("utf-8", "surrogateescape").partition("=")
    if not name or not equals:
        return
    answer.state.variables[name] = value
    if name not in SAMPLED:
        answer.session.environment[name] = value


def _unset(answer: Answer, text: bytes) -> None:
    name = text.decode("utf-8", "surrogateescape")
    answer.state.variables[name] = None
    if name not in SAMPLED:
        answer.session.environment.pop(name, None)


def _add_field(answer: Answer, text: bytes) -> None:
    """Keep a field, or the next line of the one before; what is neither would break the header and is dropped."""
    fields = answer.state.fields
    try:
        if text[:1] in (b" ", b"\t") and fields:
            fields[-1] = check_field(fields[-1] + text)
        elif len(fields) < MAX_FIELDS:
            fields.append(check_field(text))
    except PluqError:
        return


def _change(answer: Answer, text: bytes) -> None:
    if len(text) <= MAX_ADDRESS and b"\r" not in text:
        answer.address = text


ACTIONS: Mapping[bytes, Callable[[Answer, bytes], None]] = {
    b"A": _all_off,
    b"N": _next,
    b"O": _vouch,
    b"E": _refuse,
    b"R": _refuse_and_close,
    b"D": _close,
    b"P": _print,
    b"L": _refuse_later,
    b"S": _set,
    b"U": _unset,
    b"H": _add_field,
    b"C": _change,
}
