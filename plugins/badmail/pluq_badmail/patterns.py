"""Lists of patterns: POSIX extended regular expressions, or the plain entries of stock qmail.

A line is a pattern, matched anywhere in the address and without regard to case (pluq.config.patterns says how); `!` in front turns it
round: what does not match is refused.

A line that is no regular expression matches nothing, as it did in the patch; `pluq check` names it.

Source: regex(7), the qregex patch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pluq.config.patterns import compile_pattern


@dataclass(frozen=True)
class Rule:
    """One line: `line` as it stands in the file, `pattern` without the `!`."""

    line: bytes

    @property
    def negated(self) -> bool:
        return self.line.startswith(b"!")

    @cached_property
    def fault(self) -> str | None:
        """Why the line is no pattern, None for a good one."""
        return self._compiled[1]

    @cached_property
    def _compiled(self) -> tuple[Any, str | None]:
        try:
            return compile_pattern(self.line[1:] if self.negated else self.line), None
        except ValueError as error:
            return None, str(error)

    def refuses(self, text: bytes) -> bool:
        """Return whether this line refuses `text`."""
        compiled, fault = self._compiled
        return fault is None and (compiled.search(text) is None) is self.negated


@dataclass(frozen=True)
class Rules:
    """A whole list; the first line that refuses wins."""

    rules: tuple[Rule, ...] = ()

    @classmethod
    def of(cls, lines: Iterable[bytes]) -> Rules:
        return cls(tuple(Rule(line) for line in lines))

    def refusing(self, text: bytes) -> bytes | None:
        """Return the line that refuses `text`, None if all let it pass."""
        return next((rule.line for rule in self.rules if rule.refuses(text)), None)


@dataclass(frozen=True)
class PlainList:
    """A list as stock qmail and its wildcard patch read it: `user@host`, `@host`, `.domain` for all below it."""

    entries: frozenset[bytes] = frozenset()

    @classmethod
    def of(cls, lines: Iterable[bytes]) -> PlainList:
        return cls(frozenset(line.lower() for line in lines))

    def refusing(self, text: bytes) -> bytes | None:
        """Return the entry that refuses an address, None if there is none."""
        address = text.lower()
        host = address[address.rfind(b"@") + 1 :] if b"@" in address else b""
        labels = host.split(b".")
        candidates = [address, b"@" + host, *(b"." + b".".join(labels[place:]) for place in range(1, len(labels)))]
        return next((one for one in candidates if one in self.entries), None)
