"""An explanation for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pluq.explain.step import EXIT_CODES, Outcome, Step, worst

ENDS = {
    Outcome.FINE: "would be taken and delivered",
    Outcome.WARNING: "would be taken and delivered; mind the warnings",
    Outcome.DEFERRED: "would be put off",
    Outcome.REFUSED: "would be refused",
}
INDENT = "  "


def lines(title: str, steps: Sequence[Step]) -> Iterator[str]:
    """Yield the explanation as text: a sentence a step, and in brackets what made the decision."""
    yield f"{title}: {ENDS[worst(steps)]}"
    for step in steps:
        mark = "" if step.outcome is Outcome.FINE else f"{step.outcome.value}: "
        by = f"  [{step.by}]" if step.by else ""
        yield f"{INDENT * (step.depth + 1)}{mark}{step.what}{by}"


def as_json(asked: dict[str, Any], steps: Sequence[Step]) -> dict[str, Any]:
    """Return the explanation as one object: what was asked, how it ends, the exit code, and the steps."""
    outcome = worst(steps)
    return {
        **asked,
        "outcome": outcome.value,
        "exit": EXIT_CODES[outcome],
        "steps": [step.as_json() for step in steps],
    }
