"""What a run script would set and start, found without running anything.

The script's text is interpreted as far as run scripts go: assignments, export, `. file`, if, for, case, && and ||, tests, and in
$(...) the few programs that read files of the site (FILTERS and INFORMERS). Every other program is noted in `started` and counts as
successful; what it would print is UNKNOWN, and so is all that is made of it. A test of something unknown, and text that is not
shell, is a fault; nothing is guessed.

The site is seen through a `World` only, so that the interpreter itself does no I/O. Steps, values and depth are bounded.

Source: POSIX.1-2017, Shell Command Language.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from pluq.migrate import syntax
from pluq.migrate.builtins import BUILTINS, Stop
from pluq.migrate.filters import FILTERS, UNKNOWN
from pluq.migrate.grammar import Reader
from pluq.migrate.outcome import Fault, Outcome, Started, Variable, World
from pluq.migrate.syntax import Unparsable, Word

MAX_STEPS = 20_000
MAX_VALUE = 64 << 10
MAX_SOURCES = 8
MAX_FAULTS = 50
MAX_FIELDS = 10_000


class Shell:
    """One run of one script."""

    world: World

    def __init__(self, world: World, folder: str, variables: dict[str, Variable] | None = None) -> None:
        self.world = world
        self.folder = folder
        self.variables = dict(variables or {})
        self.outcome = Outcome()
        self.path = ""
        self.arguments: list[str] = []
        self.substituted: list[Started] = []
        self._functions: dict[str, syntax.Command] = {}
        self._steps = 0
        self._depth = 0
        self.line = 0

    def run(self, text: str, path: str, line: int = 1) -> Outcome:
        """Interpret a script; its faults are in the outcome."""
        try:
            self.source(text, path, line)
        except Stop:
            pass
        except RecursionError:
            self._fault(self.line, "nested too deep")
        return self.outcome

    def source(self, text: str, path: str, line: int = 1) -> None:
        outer, self.path = self.path, path
        self._depth += 1
        try:
            if self._depth > MAX_SOURCES:
                raise Unparsable(self.line, "files that read each other")
            reader = Reader(text.replace("\r", "").replace(UNKNOWN, ""), line)
            while self._one(reader):
                pass
        finally:
            self.path = outer
            self._depth -= 1

    def _one(self, reader: Reader) -> bool:
        """Read and evaluate one list. A fault of evaluation costs only this list, one of the text the rest."""
        try:
            item = reader.next()
        except Unparsable as fault:
            self._fault(fault.line, fault.why)
            return False
        if item is None:
            return False
        try:
            self._and_or(item)
        except Unparsable as fault:
            self._fault(fault.line, fault.why)
        return self._steps <= MAX_STEPS

    def _fault(self, line: int, why: str) -> None:
        if len(self.outcome.faults) < MAX_FAULTS:
            self.outcome.faults.append(Fault(self.path, line, why))

    def _tick(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise Unparsable(self.line, "too many steps")

    # -- lists and compounds; each returns whether it succeeded

    def _body(self, items: Sequence[syntax.AndOr]) -> bool:
        done = True
        for item in items:
            done = self._and_or(item)
        return done

    def _and_or(self, item: syntax.AndOr) -> bool:
        done = True
        for operator, pipeline in item.items:
            if (operator == "&&" and not done) or (operator == "||" and done):
                continue
            done = self._pipeline(pipeline)
        return done

    def _pipeline(self, pipeline: syntax.Pipeline) -> bool:
        done, text = True, ""
        last = len(pipeline.commands) - 1
        for position, command in enumerate(pipeline.commands):
            try:
                done, text = self._command(command, text, captured=position < last)
            except Stop:
                # exec and exit in the background or in a pipeline end a shell of their own.
                if not pipeline.background and not last:
                    raise
                text = UNKNOWN
        return done != pipeline.negated

    def _command(self, command: syntax.Command, stdin: str, captured: bool) -> tuple[bool, str]:
        self._tick()
        match command:
            case syntax.Simple():
                return self._simple(command, stdin, captured)
            case syntax.If():
                for test, body in command.branches:
                    if self._test_list(test):
                        return self._body(body), ""
                return self._body(command.otherwise), ""
            case syntax.For():
                self._for(command)
            case syntax.Case():
                self._case(command)
            case syntax.While():
                raise Unparsable(self.line, f"{command.kind!r} loops are not followed")
            case syntax.Group():
                return self._body(command.body), ""
            case syntax.Function():
                self._functions[command.name] = command.body
        return True, ""

    def _test_list(self, items: Sequence[syntax.AndOr]) -> bool:
        before = len(self.outcome.started)
        done = self._body(items)
        if len(self.outcome.started) > before:
            program = self.outcome.started[-1]
            raise Unparsable(program.line, f"what {program.argv[0]!r} would answer is not known")
        return done

    def _for(self, command: syntax.For) -> None:
        for value in [value for word in command.words for value in self._fields(word)]:
            self.assign(command.name, value, self.line)
            self._body(command.body)

    def _case(self, command: syntax.Case) -> None:
        subject = self.known(self._text(command.word), command.word.line)
        for patterns, body in command.branches:
            if any(fnmatch.fnmatchcase(subject, self._text(pattern)) for pattern in patterns):
                self._body(body)
                return

    # -- simple commands

    def _simple(self, command: syntax.Simple, stdin: str, captured: bool) -> tuple[bool, str]:
        self.line = command.line
        argv = [value for word in command.words for value in self._fields(word)]
        if len(argv) > MAX_FIELDS:
            raise Unparsable(command.line, "too many words")
        values = [(name, self._text(word), word.line) for name, word in command.assignments]
        if not argv:
            for name, value, line in values:
                self.assign(name, value, line)
            return True, ""
        if argv[0] in self._functions and self._depth < MAX_SOURCES:
            return self._call(self._functions[argv[0]], argv[1:])
        builtin = BUILTINS.get(argv[0])
        if builtin is not None and argv[0] != "exec":
            for name, value, line in values:
                self.assign(name, value, line)
            return builtin(self, argv[1:], stdin, command.line), ""
        filtered = self._filter(argv, stdin)
        if filtered is not None:
            return filtered
        extra = {name: Variable(value, True, self.path, line) for name, value, line in values}
        for name, variable in extra.items():
            self.outcome.assigned[name, self.path] = variable
        self._start(argv[1:] if argv[0] == "exec" else argv, extra, command.line, replaces=argv[0] == "exec")
        return True, UNKNOWN if captured else ""

    def _call(self, body: syntax.Command, arguments: list[str]) -> tuple[bool, str]:
        outer, self.arguments = self.arguments, arguments
        self._depth += 1
        try:
            return self._command(body, "", captured=False)
        finally:
            self.arguments = outer
            self._depth -= 1

    def _start(self, argv: list[str], extra: dict[str, Variable], line: int, replaces: bool) -> None:
        if replaces and not argv:
            return
        for word in argv:
            if UNKNOWN in word:
                self._fault(line, f"a value in the command line of {argv[0].replace(UNKNOWN, '?')!r} is not known")
                break
        self.outcome.started.append(
            Started(tuple(argv), {**self.variables, **extra}, self.path, line, replaces, self.folder)
        )
        if replaces:
            raise Stop

    def assign(self, name: str, value: str, line: int, exported: bool | None = None, path: str = "") -> None:
        if len(value) > MAX_VALUE:
            raise Unparsable(line, f"the value of {name} is too long")
        before = self.variables.get(name)
        keep = before.exported if before else False
        variable = Variable(value, keep if exported is None else exported, path or self.path, line)
        self.variables[name] = variable
        self.outcome.assigned[name, variable.path] = variable

    def known(self, text: str, line: int) -> str:
        if UNKNOWN in text:
            raise Unparsable(line, "a test of something that is not known")
        return text

    # -- words

    def _text(self, word: Word) -> str:
        """Return the word expanded, as one text."""
        value = "".join(self._part(part, word.line) for part in word.parts)
        if len(value) > MAX_VALUE:
            raise Unparsable(word.line, "a value is too long")
        return value

    def _fields(self, word: Word) -> list[str]:
        """Return the word expanded and split at the blanks of what was expanded outside of quotes."""
        fields: list[str] = []
        current: str | None = None
        for part in word.parts:
            if part.kind == syntax.VARIABLE and part.text == "@" and part.quoted:
                fields += self.arguments
                continue
            value = self._part(part, word.line)
            if part.quoted or part.kind in (syntax.TEXT, syntax.TILDE):
                current = (current or "") + value
                continue
            pieces = value.split()
            if value[:1].isspace() and current is not None:
                fields.append(current)
                current = None
            for piece in pieces[:-1]:
                fields.append((current or "") + piece)
                current = None
            if pieces:
                current = (current or "") + pieces[-1]
                if value[-1:].isspace():
                    fields.append(current)
                    current = None
        if current is not None:
            fields.append(current)
        if sum(map(len, fields)) > MAX_VALUE:
            raise Unparsable(word.line, "a value is too long")
        return fields

    def _part(self, part: syntax.Part, line: int) -> str:
        self._tick()
        if part.kind == syntax.TEXT:
            return part.text
        if part.kind == syntax.TILDE:
            user = self.world.user(part.text or "root")
            return user.home if user else f"~{part.text}"
        if part.kind == syntax.COMMAND:
            return self._substitute(part.text, line)
        if part.kind == syntax.ARITHMETIC:
            return UNKNOWN
        return self._variable(part, line)

    def _variable(self, part: syntax.Part, line: int) -> str:
        found = self.variables.get(part.text)
        self.outcome.expanded.add(part.text)
        value = found.value if found else self._special(part.text)
        operator, default = part.operator, part.default
        if not operator or default is None:
            return value or ""
        if operator[0] in "#%":
            return self._trimmed(value or "", operator, self._text(default))
        empty = value is None or (operator.startswith(":") and value == "")
        if operator.endswith("+"):
            return "" if empty else self._text(default)
        if not empty:
            return value or ""
        if operator.endswith("?"):
            raise Unparsable(line, f"{part.text} has no value")
        text = self._text(default)
        if operator.endswith("="):
            self.assign(part.text, text, line)
        return text

    def _special(self, name: str) -> str | None:
        if name.isdigit():
            index = int(name) - 1
            return self.arguments[index] if 0 <= index < len(self.arguments) else None
        if name in ("@", "*"):
            return " ".join(self.arguments)
        if name == "#":
            return str(len(self.arguments))
        return {"?": "0", "$": "1", "PWD": self.folder}.get(name)

    def _trimmed(self, value: str, operator: str, pattern: str) -> str:
        """Cut what matches the pattern from the front (#) or the end (%), the longest for a doubled operator."""
        ends = range(len(value) + 1)
        if operator[0] == "#":
            cuts = [(value[:end], value[end:]) for end in ends]
        else:
            cuts = [(value[end:], value[:end]) for end in reversed(ends)]
        if len(operator) == 2:
            cuts.reverse()
        if len(value) > 1024:
            raise Unparsable(self.line, "a value is too long to cut")
        return next((rest for cut, rest in cuts if fnmatch.fnmatchcase(cut, pattern)), value)

    def _substitute(self, source: str, line: int) -> str:
        inner = Shell(self.world, self.folder, self.variables)
        inner.path, inner.arguments, inner._depth = self.path, self.arguments, self._depth + 1
        inner._steps, inner._functions, inner.line = self._steps, self._functions, line
        if inner._depth > MAX_SOURCES:
            raise Unparsable(line, "commands nested too deep")
        reader = Reader(source, line)
        text = ""
        try:
            while (item := reader.next()) is not None:
                text += inner._printed(item)
        except Stop:
            pass
        self._steps = inner._steps
        self.substituted = inner.outcome.started
        self.outcome.read += inner.outcome.read
        self.outcome.expanded |= inner.outcome.expanded
        return text.rstrip("\n")

    def _printed(self, item: syntax.AndOr) -> str:
        """Return what a list would print."""
        text, done = "", True
        for operator, pipeline in item.items:
            if (operator == "&&" and not done) or (operator == "||" and done):
                continue
            output = ""
            for command in pipeline.commands:
                done, output = self._command(command, output, captured=True)
            text += output
        return text

    # -- programs that only read

    def _filter(self, argv: list[str], stdin: str) -> tuple[bool, str] | None:
        """Return the success and output of a program that is known; None for any other."""
        program = FILTERS.get(argv[0].rpartition("/")[2])
        if program is None:
            return None
        if any(UNKNOWN in word for word in argv[1:]):
            return True, UNKNOWN
        return program(self, argv[1:], stdin)

    def input(self, names: Sequence[str], stdin: str) -> str | None:
        """Return the text of files, or of what came through the pipe; None if a file is not there."""
        if not names:
            return stdin
        texts = []
        for name in names:
            path = self.absolute(name)
            self.outcome.read.append(path)
            text = self.world.text(path)
            if text is None:
                return None
            texts.append(text)
        return "".join(texts).replace(UNKNOWN, "").replace("\r", "")

    def absolute(self, path: str) -> str:
        return path if path.startswith("/") else f"{self.folder}/{path}"
