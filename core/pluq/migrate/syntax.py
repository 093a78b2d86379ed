"""What a shell script consists of: words, commands and lists, as values.

A word is a list of parts: plain text, $NAME and ${NAME:-word}, $(text) and `text`, ~user. pluq.migrate.words reads them.

Source: POSIX.1-2017, Shell Command Language, sections 2.2 to 2.10.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TEXT = "text"
VARIABLE = "variable"
COMMAND = "command"
ARITHMETIC = "arithmetic"
TILDE = "tilde"

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
RESERVED = ("then", "else", "elif", "fi", "do", "done", "esac", "}")


class Unparsable(Exception):
    """What this shell does not understand. `line` counts from 1."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line
        self.why = why


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a word. `text` is plain text, a variable's or user's name, or the source of a command."""

    kind: str
    text: str
    quoted: bool = False
    operator: str = ""
    default: Word | None = None


@dataclass(frozen=True, slots=True)
class Word:
    parts: tuple[Part, ...]
    line: int

    @property
    def plain(self) -> str | None:
        """Its text where nothing of it is quoted or expanded, else None."""
        if all(part.kind == TEXT and not part.quoted for part in self.parts):
            return "".join(part.text for part in self.parts)
        return None


@dataclass(slots=True)
class Simple:
    line: int
    assignments: list[tuple[str, Word]] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    background: bool = False


@dataclass(slots=True)
class Pipeline:
    commands: list[Command]
    negated: bool = False
    background: bool = False


@dataclass(slots=True)
class AndOr:
    """Pipelines with the operator that stands before each ("" before the first)."""

    items: list[tuple[str, Pipeline]]


@dataclass(slots=True)
class If:
    branches: list[tuple[list[AndOr], list[AndOr]]]
    otherwise: list[AndOr]


@dataclass(slots=True)
class For:
    name: str
    words: list[Word]
    body: list[AndOr]


@dataclass(slots=True)
class While:
    """`while` and `until`."""

    kind: str
    test: list[AndOr]
    body: list[AndOr]


@dataclass(slots=True)
class Case:
    word: Word
    branches: list[tuple[list[Word], list[AndOr]]]


@dataclass(slots=True)
class Group:
    body: list[AndOr]


@dataclass(slots=True)
class Function:
    name: str
    body: Command


Command = Simple | If | For | While | Case | Group | Function


def assigned(word: Word) -> str | None:
    """Return NAME where the word begins with an unquoted NAME=, else None."""
    first = word.parts[0]
    found = ASSIGNMENT.match(first.text) if first.kind == TEXT and not first.quoted else None
    return found[0][:-1] if found else None


def without_prefix(word: Word, length: int) -> Word:
    """Return the word without its first characters, which are plain."""
    first = word.parts[0]
    rest = first.text[length:]
    parts = ((Part(TEXT, rest),) if rest else ()) + word.parts[1:]
    return Word(parts, word.line)
