"""taps: copies of messages, by sender or recipient, or of every message.

    taps:  A:joe@:archive@example.org        mail from and to joe
           F:!@example\\.org$:watch@x         mail from anybody who is not at example.org
           T:^(ann|bob)@:archive@x           mail to ann or bob
           T:chief@:                         no copy of mail to the chief, whatever later lines say
           joe@:archive@x                    as A, the older form

A message gets one copy at most: its addresses are looked at in order, the sender first, and the first that a line fits decides, with the first
line that fits it. The copy stands behind that address. An empty pattern fits everything. The pattern ends at the last colon of the line. Copies of every message (QUEUE_EXTRA in qmail's extra.h, at run time) stand before
all other recipients.

Source: the qmail-taps-extended patch; qmail's FAQ 8.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from pluq import Envelope, Plugin, hook, setting
from pluq.errors import ConfigError

BOTH, SENDER, RECIPIENT = b"A", b"F", b"T"
LETTERS = (BOTH, SENDER, RECIPIENT)


def encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class Tap(NamedTuple):
    """One line: whose address it looks at, the pattern, whether that is turned round, and who gets the copy (empty: nobody)."""

    letter: bytes
    pattern: Any
    negated: bool
    copy_to: bytes

    def fits(self, letter: bytes, address: bytes) -> bool:
        if self.letter not in (BOTH, letter):
            return False
        return (self.pattern.search(address) is None) is self.negated


def parse(line: bytes) -> Tap:
    """Return what a line says. Raises ValueError with a sentence for a person."""
    from pluq.config.patterns import compile_pattern

    letter, rule, copy_to = split(line)
    if letter not in LETTERS:
        raise ValueError(f"{line.decode('utf-8', 'replace')!r} is not LETTER:PATTERN:ADDRESS")
    negated = rule.startswith(b"!")
    try:
        return Tap(letter, compile_pattern(rule[1:] if negated else rule), negated, copy_to)
    except ValueError as error:
        raise ValueError(f"{line.decode('utf-8', 'replace')!r}: {error}") from None


def split(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Return letter, pattern and address; no letter where the line is no rule. As the patch does, what else stands before the first
    colon is passed over."""
    head, _, rest = line.partition(b":")
    if b":" in rest:
        rule, _, copy_to = rest.rpartition(b":")
        return head[:1], rule, copy_to
    is_older = head and rest and head not in LETTERS
    return BOTH if is_older else b"", head, rest


@dataclass(frozen=True)
class Settings:
    taps: tuple[str, ...] = setting(
        (),
        control="taps",
        help="Lines LETTER:PATTERN:ADDRESS; the letter is F for senders, T for recipients, A for both.",
    )
    extra: tuple[str, ...] = setting((), control="extraqueue", help="Addresses that get a copy of every message.")


class Taps(Plugin[Settings]):
    """Send copies of messages to an archive or to somebody who watches."""

    name = "taps"

    @cached_property
    def lines(self) -> list[Tap]:
        return [parse(encode(line)) for line in self.settings.taps]

    @cached_property
    def extra(self) -> list[bytes]:
        return [encode(address) for address in self.settings.extra]

    @hook
    def check(self) -> Sequence[str]:
        return list(self.faults())

    def faults(self) -> Iterator[str]:
        for line in self.settings.taps:
            try:
                parse(encode(line))
            except ValueError as error:
                yield f"taps: {error}"

    @hook
    def start(self) -> None:
        """Refuse to run with a line that says nothing: an archive with holes is worse than mail that waits."""
        for fault in self.faults():
            raise ConfigError(self.context.home.control("taps"), fault)

    @hook
    def queue_envelope(self, envelope: Envelope) -> None:
        place, copies = self.copies(envelope)
        envelope.recipients[place:place] = copies
        envelope.recipients[:0] = self.extra

    def copies(self, envelope: Envelope) -> tuple[int, list[bytes]]:
        """Return who gets a copy by a line, and the place among the recipients."""
        for place, (letter, address) in enumerate(addresses(envelope)):
            for tap in self.lines:
                if tap.fits(letter, address):
                    return place, [tap.copy_to] if tap.copy_to else []
        return 0, []


def addresses(envelope: Envelope) -> Iterator[tuple[bytes, bytes]]:
    yield SENDER, envelope.sender
    for recipient in envelope.recipients:
        yield RECIPIENT, recipient
