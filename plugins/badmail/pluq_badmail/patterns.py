"""Lists of patterns: POSIX extended regular expressions, or the plain entries of stock qmail.

A line is a pattern, matched anywhere in the address and without regard to case; `!` in front turns it round: what does not match is
refused. The engine is RE2, whose time is linear in the address whatever the pattern, so that no line of a list and no address of a
stranger can stop the server. POSIX is translated where RE2 differs: in brackets a backslash is a backslash, `{,n}` counts from 0,
`\\<` and `\\>` are word limits, and a backslash before any other letter that POSIX leaves undefined is that letter.

A line that is no regular expression matches nothing, as it did in the patch; `pluq check` names it.

Source: regex(7), the qregex patch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import re2

# The GNU extensions that regcomp(3) knows and RE2 writes the same way.
GNU_ESCAPES = b"wWsSbB"
_TOKEN = re.compile(rb"\\.|\[\^?\]?(?:\[[:.=].*?[:.=]\]|[^\]])*\]|\{,|.", re.DOTALL)


def to_re2(pattern: bytes) -> bytes:
    """Return the RE2 form of a POSIX extended regular expression."""
    return b"".join(_translate(token) for token in _TOKEN.findall(pattern))


def _translate(token: bytes) -> bytes:
    if token == b"{,":
        return b"{0,"
    if token in (rb"\<", rb"\>"):
        return rb"\b"
    if len(token) == 2 and token[:1] == b"\\" and token[1:].isalnum() and token[1] not in GNU_ESCAPES:
        return token[1:]
    if len(token) > 1 and token[:1] == b"[":
        return _translate_bracket(token)
    return token


def _translate_bracket(token: bytes) -> bytes:
    negated = b"^" if token[1:2] == b"^" else b""
    inner = token[1 + len(negated) : -1].replace(b"\\", rb"\\")
    if inner.startswith(b"]"):
        inner = rb"\]" + inner[1:]
    return b"[" + negated + re.sub(rb"\[(?![:.=])", rb"\\[", inner) + b"]"


def compile_pattern(pattern: bytes) -> Any:
    """Return the compiled pattern. Raises ValueError for what is no regular expression."""
    options = re2.Options()
    options.case_sensitive = False
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    options.log_errors = False
    try:
        return re2.compile(to_re2(pattern), options)
    except re2.error as error:
        raise ValueError(str(error)) from None


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
