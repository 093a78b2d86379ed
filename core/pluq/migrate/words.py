"""The words of shell scripts, as far as run scripts use them: text in, words out. pluq.migrate.grammar makes commands of them.

A word is a list of parts: plain text, $NAME and ${NAME:-word}, $(text) and `text`, ~user. Text that is not closed, and what is
not known, raises Unparsable with its line. Nesting is bounded. The text of a here-document goes with the end of the line that it follows.

Source: POSIX.1-2017, Shell Command Language, sections 2.2, 2.3, 2.6 and 2.7.4.
"""

from __future__ import annotations

import re

from pluq.migrate.syntax import (
    ARITHMETIC,
    COMMAND,
    NAME,
    TEXT,
    TILDE,
    VARIABLE,
    Part,
    Unparsable,
    Word,
)  # fmt: skip

MAX_DEPTH = 40

_BLANK = " \t"
META = " \t\n;&|<>()"
"""What ends a word."""


class WordReader:
    """Reads one word after the other from a script."""

    def __init__(self, text: str, line: int = 1) -> None:
        self.text = text
        self.at = 0
        self.line = line
        self._depth = 0
        self._here: list[tuple[str, bool]] = []

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._fail("nested too deep")

    # -- characters

    def _peek(self, length: int = 1) -> str:
        return self.text[self.at : self.at + length]

    def _take(self, length: int = 1) -> str:
        taken = self.text[self.at : self.at + length]
        self.line += taken.count("\n")
        self.at += length
        return taken

    def _fail(self, why: str, line: int | None = None) -> Unparsable:
        return Unparsable(line or self.line, why)

    def _skip_blanks(self) -> None:
        while True:
            if self._peek() and self._peek() in _BLANK:
                self.at += 1
            elif self._peek(2) == "\\\n":
                self._take(2)
            elif self._peek() == "#":
                while self._peek() and self._peek() != "\n":
                    self.at += 1
            else:
                return

    def _skip_lines(self) -> None:
        while True:
            self._skip_blanks()
            if self._peek() == "\n":
                self._newline()
            elif self._peek() == ";" and self._peek(2) != ";;":
                self._take()
            else:
                return

    def _newline(self) -> None:
        self._take()
        pending, self._here = self._here, []
        for end, tabs in pending:
            self._skip_here_text(end, tabs)

    def _skip_here_text(self, end: str, tabs: bool) -> None:
        begun = self.line
        while self.at < len(self.text):
            stop = self.text.find("\n", self.at)
            stop = len(self.text) if stop < 0 else stop
            line = self.text[self.at : stop]
            self._take(stop - self.at + 1)
            if (line.lstrip("\t") if tabs else line) == end:
                return
        raise self._fail(f"here-document without {end!r}", begun)

    # -- words

    def _word(self) -> Word | None:
        self._skip_blanks()
        line = self.line
        parts: list[Part] = []
        plain: list[str] = []

        def flush() -> None:
            if plain:
                parts.append(Part(TEXT, "".join(plain)))
                plain.clear()

        while self._peek() and self._peek() not in META:
            character = self._peek()
            if character == "'":
                flush()
                parts.append(Part(TEXT, self._single(), quoted=True))
            elif character == '"':
                flush()
                parts += self._double()
            elif character == "\\":
                self._take()
                escaped = self._take()
                if escaped and escaped != "\n":
                    flush()
                    parts.append(Part(TEXT, escaped, quoted=True))
            elif character in "$`":
                flush()
                parts.append(self._expansion(quoted=False))
            elif character == "~" and not parts and (not plain or plain[-1] == "="):
                flush()
                self._take()
                user = re.compile(r"[A-Za-z0-9._-]*").match(self.text, self.at)
                parts.append(Part(TILDE, self._take(len(user[0])) if user else ""))
            else:
                plain.append(self._take())
        flush()
        return Word(tuple(parts), line) if parts else None

    def _single(self) -> str:
        begun = self.line
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise self._fail("a ' that is not closed", begun)
        return self._take(end - self.at + 1)[1:-1]

    def _double(self) -> list[Part]:
        begun = self.line
        self._take()
        parts = [Part(TEXT, "", quoted=True)]
        plain: list[str] = []

        def flush() -> None:
            if plain:
                parts.append(Part(TEXT, "".join(plain), quoted=True))
                plain.clear()

        while True:
            character = self._peek()
            if not character:
                raise self._fail('a " that is not closed', begun)
            if character == '"':
                self._take()
                flush()
                return parts
            if character == "\\" and self._peek(2)[1:] in tuple('$`"\\\n'):
                self._take()
                escaped = self._take()
                plain += [] if escaped == "\n" else [escaped]
            elif character in "$`":
                flush()
                parts.append(self._expansion(quoted=True))
            else:
                plain.append(self._take())

    def _expansion(self, quoted: bool) -> Part:
        if self._peek() == "`":
            return Part(COMMAND, self._backticks(), quoted)
        self._take()
        after = self._peek()
        if after == "(":
            if self._peek(2) == "((":
                return Part(ARITHMETIC, self._parentheses(), quoted)
            return Part(COMMAND, self._parentheses(), quoted)
        if after == "{":
            return self._braces(quoted)
        name = NAME.match(self.text, self.at)
        if name:
            return Part(VARIABLE, self._take(len(name[0])), quoted)
        if after and after in "0123456789@*#?$!-":
            return Part(VARIABLE, self._take(), quoted)
        return Part(TEXT, "$", quoted)

    def _backticks(self) -> str:
        begun = self.line
        self._take()
        source: list[str] = []
        while True:
            character = self._take()
            if not character:
                raise self._fail("a ` that is not closed", begun)
            if character == "`":
                return "".join(source)
            if character == "\\" and self._peek() and self._peek() in "$`\\":
                character = self._take()
            source.append(character)

    def _parentheses(self) -> str:
        """Take "( ... )" and return what is inside; quotes hide parentheses."""
        begun = self.line
        start = self.at + 1
        depth = 0
        while True:
            character = self._peek()
            if not character:
                raise self._fail("a ( that is not closed", begun)
            if character == "'":
                self._single()
                continue
            if character == "\\":
                self._take()
            elif character == "(":
                depth += 1
            elif character == ")":
                depth -= 1
            self._take()
            if depth == 0:
                return self.text[start : self.at - 1]

    def _braces(self, quoted: bool) -> Part:
        self._deeper()
        begun = self.line
        self._take()
        length = self._peek() == "#" and self._peek(2) != "#}"
        if length:
            raise self._fail("${#name} is not followed")
        name = NAME.match(self.text, self.at) or re.compile(r"[0-9@*#?$!-]").match(self.text, self.at)
        if not name:
            raise self._fail("expected a name after ${", begun)
        self._take(len(name[0]))
        operator = re.compile(r":?[-=?+]|[#%]{1,2}").match(self.text, self.at)
        default = None
        if operator:
            self._take(len(operator[0]))
            default = self._to_brace(begun)
        if self._take() != "}":
            raise self._fail("a ${ that is not closed or not known", begun)
        self._depth -= 1
        return Part(VARIABLE, name[0], quoted, operator[0] if operator else "", default)

    def _to_brace(self, begun: int) -> Word:
        parts: list[Part] = []
        while self._peek() != "}":
            character = self._peek()
            if not character:
                raise self._fail("a ${ that is not closed", begun)
            if character == "'":
                parts.append(Part(TEXT, self._single(), quoted=True))
            elif character == '"':
                parts += self._double()
            elif character in "$`":
                parts.append(self._expansion(quoted=False))
            else:
                if character == "\\":
                    self._take()
                parts.append(Part(TEXT, self._take()))
        return Word(tuple(parts), begun)
