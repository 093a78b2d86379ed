"""The grammar of shell scripts, as far as run scripts use it: text in, commands out, one at a time as a shell reads them.

    command  := simple | if | for | case | { list } | ( list ) | name() command
    pipeline := [!] command (| command)*      and-or := pipeline (&& || pipeline)*      list := and-or (; & newline and-or)*
    simple   := NAME=word ... word ... redirections

What is not known raises Unparsable with its line. Nesting is bounded. pluq.migrate.words reads the words.

Source: POSIX.1-2017, Shell Command Language, sections 2.4, 2.7, 2.9 and 2.10.
"""

from __future__ import annotations

import re

from pluq.migrate.syntax import (
    NAME,
    RESERVED,
    AndOr,
    Case,
    Command,
    For,
    Function,
    Group,
    If,
    Pipeline,
    Simple,
    While,
    Word,
    assigned,
    without_prefix,
)  # fmt: skip
from pluq.migrate.words import META, WordReader


class Reader(WordReader):
    """Reads one list after the other from a script."""

    # -- lists

    def next(self) -> AndOr | None:
        """Return the next list's first member, None at the end of the text. Raises Unparsable."""
        self._skip_lines()
        if self.at >= len(self.text):
            return None
        item = self._and_or()
        self._skip_blanks()
        if self._peek() and self._peek() not in ";\n" and not item.items[-1][1].background:
            raise self._fail(f"unexpected {self._peek()!r}")
        return item

    def _list(self, *ends: str) -> list[AndOr]:
        """Read up to one of the reserved words, which is left."""
        self._deeper()
        begun = self.line
        items: list[AndOr] = []
        while True:
            self._skip_lines()
            if self.at >= len(self.text):
                raise self._fail(f"no {ends[0]!r} for what begins here", begun)
            if self._reserved() in ends or (self._peek() == ")" and ")" in ends) or (self._peek(2) in ends):
                self._depth -= 1
                return items
            items.append(self._and_or())

    def _reserved(self) -> str:
        found = re.compile(r"[a-z]+|[{}!]").match(self.text, self.at)
        if not found:
            return ""
        after = self.text[found.end() : found.end() + 1]
        return found[0] if not after or after in META else ""

    def _word_is(self, word: str) -> bool:
        self._skip_blanks()
        if self._reserved() != word:
            return False
        self._take(len(word))
        return True

    def _expect(self, word: str) -> None:
        self._skip_lines()
        if not self._word_is(word):
            raise self._fail(f"expected {word!r}")

    def _and_or(self) -> AndOr:
        items = [("", self._pipeline())]
        while True:
            self._skip_blanks()
            operator = self._peek(2)
            if operator not in ("&&", "||"):
                break
            self._take(2)
            self._skip_lines()
            items.append((operator, self._pipeline()))
        if self._peek() == "&" and self._peek(2) != "&&":
            self._take()
            items[-1][1].background = True
        return AndOr(items)

    def _pipeline(self) -> Pipeline:
        negated = self._word_is("!")
        commands = [self._command()]
        while True:
            self._skip_blanks()
            if self._peek() != "|" or self._peek(2) == "||":
                return Pipeline(commands, negated)
            self._take()
            self._skip_lines()
            commands.append(self._command())

    # -- commands

    def _command(self) -> Command:
        self._deeper()
        try:
            self._skip_blanks()
            word = self._reserved()
            if word in ("if", "for", "case", "while", "until"):
                self._take(len(word))
                command = self._compound(word)
            elif self._peek() in ("(", "{") and (self._peek() == "(" or word == "{"):
                end = ")" if self._take() == "(" else "}"
                command = Group(self._list(end))
                self._take()
            elif word in RESERVED:
                raise self._fail(f"unexpected {word!r}")
            else:
                return self._simple()
            self._redirections()
            return command
        finally:
            self._depth -= 1

    def _compound(self, word: str) -> Command:
        if word == "if":
            return self._if()
        if word == "for":
            return self._for()
        if word == "case":
            return self._case()
        return self._loop(word)

    def _loop(self, word: str) -> While:
        """Read a loop. It is no fault of the text; who would run it decides."""
        test = self._list("do")
        self._expect("do")
        body = self._list("done")
        self._expect("done")
        return While(word, test, body)

    def _if(self) -> If:
        branches = []
        while True:
            test = self._list("then")
            self._expect("then")
            branches.append((test, self._list("elif", "else", "fi")))
            if self._word_is("elif"):
                continue
            otherwise: list[AndOr] = []
            if self._word_is("else"):
                otherwise = self._list("fi")
            self._expect("fi")
            return If(branches, otherwise)

    def _for(self) -> For:
        self._skip_blanks()
        name = NAME.match(self.text, self.at)
        if not name:
            raise self._fail("expected a name after 'for'")
        self._take(len(name[0]))
        words = []
        self._skip_lines()
        if self._word_is("in"):
            while (word := self._word()) is not None:
                words.append(word)
        self._expect("do")
        body = self._list("done")
        self._expect("done")
        return For(name[0], words, body)

    def _case(self) -> Case:
        subject = self._word()
        if subject is None:
            raise self._fail("expected a word after 'case'")
        self._expect("in")
        branches: list[tuple[list[Word], list[AndOr]]] = []
        while True:
            self._skip_lines()
            if self._word_is("esac"):
                return Case(subject, branches)
            if self._peek() == "(":
                self._take()
            patterns = []
            while (pattern := self._word()) is not None:
                patterns.append(pattern)
                self._skip_blanks()
                if self._peek() != "|":
                    break
                self._take()
            if not patterns or self._peek() != ")":
                raise self._fail("expected a pattern and ')'")
            self._take()
            branches.append((patterns, self._list(";;", "esac")))
            if self._peek(2) == ";;":
                self._take(2)

    def _simple(self) -> Command:
        self._skip_blanks()
        command = Simple(self.line)
        begun = self.at
        while True:
            if self._redirections():
                continue
            word = self._word()
            if word is None:
                break
            name = assigned(word)
            if name is not None and not command.words:
                command.assignments.append((name, without_prefix(word, len(name) + 1)))
            else:
                command.words.append(word)
                if len(command.words) == 1 and not command.assignments and self._FUNCTION.match(self.text, self.at):
                    return self._function(word)
        if not command.words and not command.assignments and self.at == begun:
            raise self._fail(f"unexpected {self._peek()!r}" if self._peek() else "a command is missing")
        return command

    _FUNCTION = re.compile(r"[ \t]*\([ \t]*\)")

    def _function(self, word: Word) -> Function:
        name = word.plain
        if name is None or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
            raise self._fail("expected the name of a function")
        self._take(self.text.index(")", self.at) - self.at + 1)
        self._skip_lines()
        return Function(name, self._command())

    _REDIRECTION = re.compile(r"[0-9]*(<<<|<<-|<<|<>|>>|>&|<&|>\||<|>)")

    def _redirections(self) -> bool:
        """Pass over redirections; say whether there was one."""
        seen = False
        while True:
            self._skip_blanks()
            found = self._REDIRECTION.match(self.text, self.at)
            if not found:
                return seen
            seen = True
            self._take(len(found[0]))
            target = self._word()
            if target is None:
                raise self._fail("a redirection to nothing")
            if found[1] in ("<<", "<<-"):
                self._here.append(("".join(part.text for part in target.parts), found[1] == "<<-"))
