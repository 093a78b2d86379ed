"""Command line options as qmail's programs read them.

`-ab -c value -cvalue -- rest`: letters may be joined, a value is the rest of the word or the next word, `--` ends the options,
and so does the first word that does not begin with a hyphen (a lone `-` is such a word). An unknown letter is reported on
standard error, as is an option without its value; what happens then is the program's choice.

Source: subgetopt.c and sgetopt.c of qmail. The standard library's getopt reads `--word` as a long option.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from pluq.commands.terminal import complain

__all__ = ["Options", "program_name"]

UNKNOWN = "?"


def program_name(argv: Sequence[str]) -> str:
    """Return the name that the program was called by, without its folder."""
    return argv[0].rpartition("/")[2] if argv else ""


class Options:
    """Reads the options of `argv`; afterwards `rest` holds the words behind them.

    `letters` names the options, each with a colon behind it if it takes a value. Iteration gives (letter, value) and
    `("?", "")` for a letter that is not known or lacks its value; a caller that goes on after that reads the next one.
    """

    def __init__(self, argv: Sequence[str], letters: str, quiet: bool = False) -> None:
        self.argv = argv
        self.quiet = quiet
        self.index = 1
        self.position = 0
        self.takes_value = {
            letter: letters[place + 1 : place + 2] == ":" for place, letter in enumerate(letters) if letter != ":"
        }

    @property
    def rest(self) -> list[str]:
        """The words that are not options, right after the iteration has ended."""
        return list(self.argv[self.index :])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        while self._at_option():
            yield self._next()

    def skip_word(self) -> None:
        """Take the rest of the present word for an optional value, and drop it."""
        if self.position:
            self.position = len(self.argv[self.index])

    def _at_option(self) -> bool:
        """Move to the next letter; False at the end of the options."""
        if self.position and self.position >= len(self.argv[self.index]):
            self.index += 1
            self.position = 0
        if self.position:
            return True
        word = self.argv[self.index] if self.index < len(self.argv) else ""
        if word[:2] == "--":
            self.index += 1
            return False
        if len(word) < 2 or word[0] != "-":
            return False
        self.position = 1
        return True

    def _next(self) -> tuple[str, str]:
        word = self.argv[self.index]
        letter = word[self.position]
        self.position += 1
        if letter not in self.takes_value:
            self._complain("illegal option", letter)
            return UNKNOWN, ""
        if not self.takes_value[letter]:
            return letter, ""
        value = word[self.position :]
        self.index += 1
        self.position = 0
        if not value:
            if self.index >= len(self.argv):
                self._complain("option requires an argument", letter)
                return UNKNOWN, ""
            value = self.argv[self.index]
            self.index += 1
        return letter, value

    def _complain(self, what: str, letter: str) -> None:
        if not self.quiet:
            # A letter is one byte to qmail.
            complain(program_name(self.argv), f": {what} -- ", os.fsencode(letter)[:1])
