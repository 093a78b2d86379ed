"""Steps of an explanation, and how they end. Values only; they cross process borders as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Outcome(Enum):
    """What a step means for the message; the worst of all steps is how it ends."""

    FINE = "fine"
    WARNING = "warning"
    DEFERRED = "deferred"
    REFUSED = "refused"


ORDER = (Outcome.FINE, Outcome.WARNING, Outcome.DEFERRED, Outcome.REFUSED)
# 75 is EX_TEMPFAIL, as qmail-local has it.
EXIT_CODES = {Outcome.FINE: 0, Outcome.WARNING: 0, Outcome.DEFERRED: 75, Outcome.REFUSED: 1}


@dataclass(frozen=True)
class Step:
    """One decision: a sentence, what made it ("control/rcpthosts:3", "plugin spf (smtp_mail)"), how it ends.

    `depth` counts the forwards that led here.
    """

    what: str
    by: str = ""
    outcome: Outcome = Outcome.FINE
    depth: int = 0

    @property
    def is_end(self) -> bool:
        """True if nothing follows."""
        return self.outcome in (Outcome.DEFERRED, Outcome.REFUSED)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "outcome": self.outcome.value}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Step:
        return cls(value["what"], value["by"], Outcome(value["outcome"]), value["depth"])


@dataclass(frozen=True)
class Found:
    """What one stage found, and what the next one needs of it (texts by name)."""

    steps: Sequence[Step]
    facts: dict[str, Any]


def worst(steps: Iterable[Step]) -> Outcome:
    return max((step.outcome for step in steps), key=ORDER.index, default=Outcome.FINE)


def failed(letter_and_text: bytes, by: str = "", depth: int = 0) -> Step:
    """Return the step for a report in qmail's form: Z or D, and a text."""
    outcome = Outcome.REFUSED if letter_and_text[:1] == b"D" else Outcome.DEFERRED
    return Step(" ".join(text(letter_and_text[1:]).split()), by, outcome, depth)


def text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")
