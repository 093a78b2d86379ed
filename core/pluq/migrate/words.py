"""The grammar of shell scripts, as far as run scripts use it: text in, commands out, one at a time as a shell reads them.

    command  := simple | if | for | case | { list } | ( list ) | name() command
    pipeline := [!] command (| command)*      and-or := pipeline (&& || pipeline)*      list := and-or (; & newline and-or)*
    simple   := NAME=word ... word ... redirections

A word is a list of parts: plain text, $NAME and ${NAME:-word}, $(text) and `text`, ~user. Text that is not closed, and what is
not known, raises Unparsable with its line. Nesting is bounded.

Source: POSIX.1-2017, Shell Command Language, sections 2.2 to 2.10.
"""

from __future__ import annotations

import re

from pluq.migrate.syntax import (
    ARITHMETIC,
    COMMAND,
    NAME,
    RESERVED,
    TEXT,
    TILDE,
    VARIABLE,
    AndOr,
    Case,
    Command,
    For,
    Function,
    Group,
    If,
    Part,
    Pipeline,
    Simple,
    Unparsable,
    While,
    Word,
    assigned,
    without_prefix,
)  # fmt: skip

MAX_DEPTH = 40

_BLANK = " \t"
_META = " \t\n;&|<>()"


class Reader:
    """Reads one list after the other from a script."""

    def __init__(self, text: str, line: int = 1) -> None:
        self.text = text
        self.at = 0
        self.line = line
        self._depth = 0
        self._here: list[tuple[str, bool]] = []

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

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._fail("nested too deep")

    def _list(self, *ends: str) -> list[AndOr]:
        """Read up to one of the reserved words, which is taken."""
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
        return found[0] if not after or after in _META else ""

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

        while self._peek() and self._peek() not in _META:
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
