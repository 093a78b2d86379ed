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
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from pluq.migrate import words as grammar
from pluq.migrate.words import Unparsable, Word

UNKNOWN = "\0"  # no value of a shell can hold it
MAX_STEPS = 20_000
MAX_VALUE = 64 << 10
MAX_SOURCES = 8
MAX_FAULTS = 50
MAX_FIELDS = 10_000


class User(Protocol):
    @property
    def line(self) -> str: ...

    @property
    def uid(self) -> int: ...

    @property
    def gid(self) -> int: ...

    @property
    def home(self) -> str: ...


class World(Protocol):
    """What a script can see of the site. Paths are absolute."""

    def text(self, path: str) -> str | None: ...

    def kind(self, path: str) -> str:
        """Return "file", "folder", "other", or "" where there is nothing."""

    def executable(self, path: str) -> bool: ...

    def user(self, name: str) -> User | None: ...

    def group_id(self, name: str) -> int | None: ...

    def hostname(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Variable:
    """A value, whether children see it, and the file and line that set it."""

    value: str
    exported: bool
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Started:
    """A program that would be started. `replaces`: by exec."""

    argv: tuple[str, ...]
    variables: dict[str, Variable]
    path: str
    line: int
    replaces: bool
    folder: str


@dataclass(frozen=True, slots=True)
class Fault:
    path: str
    line: int
    why: str


@dataclass
class Outcome:
    """What came of a script. `assigned`: the last value of each name in each file."""

    started: list[Started] = field(default_factory=list)
    assigned: dict[tuple[str, str], Variable] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    sourced: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    stopped: tuple[str, int] | None = None


class _Stop(Exception):
    """exec or exit: nothing of the script comes after it."""


class Shell:
    """One run of one script."""

    def __init__(self, world: World, folder: str, variables: dict[str, Variable] | None = None) -> None:
        self.world = world
        self.folder = folder
        self.variables = dict(variables or {})
        self.outcome = Outcome()
        self.path = ""
        self.arguments: list[str] = []
        self._functions: dict[str, grammar.Command] = {}
        self._steps = 0
        self._depth = 0
        self._line = 0

    def run(self, text: str, path: str, line: int = 1) -> Outcome:
        """Interpret a script; its faults are in the outcome."""
        try:
            self._source(text, path, line)
        except _Stop:
            pass
        except RecursionError:
            self._fault(self._line, "nested too deep")
        return self.outcome

    def _source(self, text: str, path: str, line: int = 1) -> None:
        outer, self.path = self.path, path
        self._depth += 1
        try:
            if self._depth > MAX_SOURCES:
                raise Unparsable(self._line, "files that read each other")
            reader = grammar.Reader(text.replace("\r", "").replace(UNKNOWN, ""), line)
            while self._one(reader):
                pass
        finally:
            self.path = outer
            self._depth -= 1

    def _one(self, reader: grammar.Reader) -> bool:
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
            raise Unparsable(self._line, "too many steps")

    # -- lists and compounds; each returns whether it succeeded

    def _body(self, items: Sequence[grammar.AndOr]) -> bool:
        done = True
        for item in items:
            done = self._and_or(item)
        return done

    def _and_or(self, item: grammar.AndOr) -> bool:
        done = True
        for operator, pipeline in item.items:
            if (operator == "&&" and not done) or (operator == "||" and done):
                continue
            done = self._pipeline(pipeline)
        return done

    def _pipeline(self, pipeline: grammar.Pipeline) -> bool:
        done, text = True, ""
        last = len(pipeline.commands) - 1
        for position, command in enumerate(pipeline.commands):
            done, text = self._command(command, text, captured=position < last)
        return done != pipeline.negated

    def _command(self, command: grammar.Command, stdin: str, captured: bool) -> tuple[bool, str]:
        self._tick()
        match command:
            case grammar.Simple():
                return self._simple(command, stdin, captured)
            case grammar.If():
                for test, body in command.branches:
                    if self._test_list(test):
                        return self._body(body), ""
                return self._body(command.otherwise), ""
            case grammar.For():
                self._for(command)
            case grammar.Case():
                self._case(command)
            case grammar.Group():
                return self._body(command.body), ""
            case grammar.Function():
                self._functions[command.name] = command.body
        return True, ""

    def _test_list(self, items: Sequence[grammar.AndOr]) -> bool:
        before = len(self.outcome.started)
        done = self._body(items)
        if len(self.outcome.started) > before:
            program = self.outcome.started[-1]
            raise Unparsable(program.line, f"what {program.argv[0]!r} would answer is not known")
        return done

    def _for(self, command: grammar.For) -> None:
        for value in [value for word in command.words for value in self._fields(word)]:
            self._assign(command.name, value, self._line)
            self._body(command.body)

    def _case(self, command: grammar.Case) -> None:
        subject = self._known(self._text(command.word), command.word.line)
        for patterns, body in command.branches:
            if any(fnmatch.fnmatchcase(subject, self._text(pattern)) for pattern in patterns):
                self._body(body)
                return

    # -- simple commands

    def _simple(self, command: grammar.Simple, stdin: str, captured: bool) -> tuple[bool, str]:
        self._line = command.line
        argv = [value for word in command.words for value in self._fields(word)]
        if len(argv) > MAX_FIELDS:
            raise Unparsable(command.line, "too many words")
        values = [(name, self._text(word), word.line) for name, word in command.assignments]
        if not argv:
            for name, value, line in values:
                self._assign(name, value, line)
            return True, ""
        if argv[0] in self._functions and self._depth < MAX_SOURCES:
            return self._call(self._functions[argv[0]], argv[1:])
        builtin = _BUILTINS.get(argv[0])
        if builtin is not None and argv[0] != "exec":
            for name, value, line in values:
                self._assign(name, value, line)
            return builtin(self, argv[1:], stdin, command.line), ""
        filtered = self._filter(argv, stdin)
        if filtered is not None:
            return filtered
        extra = {name: Variable(value, True, self.path, line) for name, value, line in values}
        for name, variable in extra.items():
            self.outcome.assigned[name, self.path] = variable
        self._start(argv[1:] if argv[0] == "exec" else argv, extra, command.line, replaces=argv[0] == "exec")
        return True, UNKNOWN if captured else ""

    def _call(self, body: grammar.Command, arguments: list[str]) -> tuple[bool, str]:
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
            raise _Stop

    def _assign(self, name: str, value: str, line: int, exported: bool | None = None) -> None:
        if len(value) > MAX_VALUE:
            raise Unparsable(line, f"the value of {name} is too long")
        before = self.variables.get(name)
        keep = before.exported if before else False
        variable = Variable(value, keep if exported is None else exported, self.path, line)
        self.variables[name] = variable
        self.outcome.assigned[name, self.path] = variable

    def _known(self, text: str, line: int) -> str:
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
            if part.kind == grammar.VARIABLE and part.text == "@" and part.quoted:
                fields += self.arguments
                continue
            value = self._part(part, word.line)
            if part.quoted or part.kind in (grammar.TEXT, grammar.TILDE):
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

    def _part(self, part: grammar.Part, line: int) -> str:
        self._tick()
        if part.kind == grammar.TEXT:
            return part.text
        if part.kind == grammar.TILDE:
            user = self.world.user(part.text or "root")
            return user.home if user else f"~{part.text}"
        if part.kind == grammar.COMMAND:
            return self._substitute(part.text, line)
        return self._variable(part, line)

    def _variable(self, part: grammar.Part, line: int) -> str:
        found = self.variables.get(part.text)
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
            self._assign(part.text, text, line)
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
            raise Unparsable(self._line, "a value is too long to cut")
        return next((rest for cut, rest in cuts if fnmatch.fnmatchcase(cut, pattern)), value)

    def _substitute(self, source: str, line: int) -> str:
        inner = Shell(self.world, self.folder, self.variables)
        inner.path, inner.arguments, inner._depth = self.path, self.arguments, self._depth + 1
        inner._steps, inner._functions, inner._line = self._steps, self._functions, line
        if inner._depth > MAX_SOURCES:
            raise Unparsable(line, "commands nested too deep")
        reader = grammar.Reader(source, line)
        text = ""
        try:
            while (item := reader.next()) is not None:
                text += inner._printed(item)
        except _Stop:
            pass
        self._steps = inner._steps
        self.outcome.read += inner.outcome.read
        return text.rstrip("\n")

    def _printed(self, item: grammar.AndOr) -> str:
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
        program = _FILTERS.get(argv[0].rpartition("/")[2])
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


# -- builtins: (shell, arguments, stdin, line) -> whether it succeeded


def _export(shell: Shell, arguments: list[str], stdin: str, line: int) -> bool:
    for word in arguments:
        name, equals, value = word.partition("=")
        if not grammar.NAME.fullmatch(name):
            continue
        if equals:
            shell._assign(name, value, line, exported=True)
        elif name in shell.variables:
            shell.variables[name] = variable = replace(shell.variables[name], exported=True)
            shell.outcome.assigned[name, variable.path] = variable
    return True


def _unset(shell: Shell, arguments: list[str], stdin: str, line: int) -> bool:
    for name in arguments:
        variable = shell.variables.pop(name, None)
        if variable is not None:
            shell.outcome.assigned.pop((name, variable.path), None)
    return True


def _dot(shell: Shell, arguments: list[str], stdin: str, line: int) -> bool:
    path = shell.absolute(shell._known(arguments[0], line)) if arguments else ""
    text = shell.world.text(path)
    if text is None:
        raise Unparsable(line, f"{path or 'a file'} cannot be read")
    shell.outcome.sourced.append(path)
    shell._source(text, path)
    return True


def _exit(shell: Shell, arguments: list[str], stdin: str, line: int) -> bool:
    shell.outcome.stopped = (shell.path, line)
    raise _Stop


def _cd(shell: Shell, arguments: list[str], stdin: str, line: int) -> bool:
    path = shell.absolute(shell._known(arguments[0], line)) if arguments else "/root"
    if shell.world.kind(path) != "folder":
        return False
    shell.folder = path
    return True


def _refuse(shell: Shell, arguments: list[str], stdin: str, line: int) -> bool:
    raise Unparsable(line, "eval is not followed")


def _nothing(shell: Shell, arguments: list[str], stdin: str, line: int) -> bool:
    return True


def _false(shell: Shell, arguments: list[str], stdin: str, line: int) -> bool:
    return False


def _test(shell: Shell, arguments: list[str], stdin: str, line: int) -> bool:
    words = arguments[:-1] if arguments[-1:] in (["]"], ["]]"]) else arguments
    return _Expression(shell, words, line).value()


class _Expression:
    """The expression of [ ]: ! before -a before -o."""

    def __init__(self, shell: Shell, words: list[str], line: int) -> None:
        self.shell, self.words, self.line, self.at = shell, words, line, 0

    def value(self) -> bool:
        if not self.words:
            return False
        done = self._either()
        if self.at != len(self.words):
            raise Unparsable(self.line, "a test that is not understood")
        return done

    def _either(self) -> bool:
        done = self._both()
        while self._is("-o") or self._is("||"):
            done = self._both() or done
        return done

    def _both(self) -> bool:
        done = self._one()
        while self._is("-a") or self._is("&&"):
            done = self._one() and done
        return done

    def _is(self, word: str) -> bool:
        if self.words[self.at : self.at + 1] == [word]:
            self.at += 1
            return True
        return False

    def _take(self) -> str:
        if self.at >= len(self.words):
            raise Unparsable(self.line, "a test that is not complete")
        self.at += 1
        return self.shell._known(self.words[self.at - 1], self.line)

    def _one(self) -> bool:
        if len(self.words) - self.at > 1 and self._is("!"):
            return not self._one()
        binary = self.words[self.at + 1 : self.at + 2]
        if binary and binary[0] in _COMPARE and len(self.words) - self.at >= 3:
            left, operator, right = self._take(), self._take(), self._take()
            return self._compare(left, operator, right)
        word = self._take()
        if word in _UNARY and self.at < len(self.words):
            return _UNARY[word](self.shell, self._take())
        return bool(word)

    def _compare(self, left: str, operator: str, right: str) -> bool:
        compare = _COMPARE[operator]
        if not operator.startswith("-"):
            return compare(left, right)
        try:
            return compare(int(left), int(right))
        except ValueError:
            raise Unparsable(self.line, f"{left!r} {operator} {right!r} compares no numbers") from None


_COMPARE: dict[str, Callable[..., bool]] = {
    "=": lambda a, b: a == b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "-eq": lambda a, b: a == b,
    "-ne": lambda a, b: a != b,
    "-lt": lambda a, b: a < b,
    "-le": lambda a, b: a <= b,
    "-gt": lambda a, b: a > b,
    "-ge": lambda a, b: a >= b,
}


def _kind(shell: Shell, path: str) -> str:
    return shell.world.kind(shell.absolute(path)) if path else ""


_UNARY: dict[str, Callable[[Shell, str], bool]] = {
    "-n": lambda shell, text: text != "",
    "-z": lambda shell, text: text == "",
    "-f": lambda shell, path: _kind(shell, path) == "file",
    "-d": lambda shell, path: _kind(shell, path) == "folder",
    "-e": lambda shell, path: _kind(shell, path) != "",
    "-p": lambda shell, path: False,
    "-S": lambda shell, path: False,
    "-r": lambda shell, path: _kind(shell, path) != "",
    "-w": lambda shell, path: _kind(shell, path) != "",
    "-s": lambda shell, path: bool(path) and bool(shell.world.text(shell.absolute(path))),
    "-x": lambda shell, path: _kind(shell, path) == "folder" or shell.world.executable(shell.absolute(path)),
}

_BUILTINS: dict[str, Callable[[Shell, list[str], str, int], bool]] = {
    "export": _export,
    "readonly": _nothing,
    "unset": _unset,
    ".": _dot,
    "source": _dot,
    "exit": _exit,
    "return": _nothing,
    "cd": _cd,
    "eval": _refuse,
    "exec": _nothing,
    "[": _test,
    "[[": _test,
    "test": _test,
    ":": _nothing,
    "true": _nothing,
    "/bin/true": _nothing,
    "false": _false,
    "set": _nothing,
    "shift": _nothing,
    "trap": _nothing,
    "umask": _nothing,
    "ulimit": _nothing,
    "wait": _nothing,
}


# -- programs that read: (shell, arguments, stdin) -> success and output

Output = tuple[bool, str]
_UNREADABLE: Output = (False, "")


def _cat(shell: Shell, arguments: list[str], stdin: str) -> Output:
    text = shell.input([word for word in arguments if word != "-"], stdin)
    return _UNREADABLE if text is None else (True, text)


def _lines(arguments: list[str]) -> tuple[int, list[str]]:
    """Return the number and files of `-n 1 file`, `-n1 file`, `-1 file`."""
    count, names, rest = 10, [], list(arguments)
    while rest:
        word = rest.pop(0)
        digits = re.fullmatch(r"-n?([0-9]+)", word)
        if digits:
            count = int(digits[1])
        elif word == "-n" and rest and rest[0].isdigit():
            count = int(rest.pop(0))
        elif not word.startswith("-"):
            names.append(word)
    return count, names


def _head(shell: Shell, arguments: list[str], stdin: str) -> Output:
    count, names = _lines(arguments)
    text = shell.input(names, stdin)
    return _UNREADABLE if text is None else (True, "".join(text.splitlines(keepends=True)[:count]))


def _tail(shell: Shell, arguments: list[str], stdin: str) -> Output:
    count, names = _lines(arguments)
    text = shell.input(names, stdin)
    return _UNREADABLE if text is None else (True, "".join(text.splitlines(keepends=True)[-count:] if count else []))


# What run scripts grep for: words, with the anchors; a full regular expression of a stranger could run for ever.
_GREP_PATTERN = re.compile(r"(\^?)([^][*+?(){}|\\^$.]*|(?:\\[.#]|[^][*+?(){}|\\^$.])*)(\$?)")


def _grep(shell: Shell, arguments: list[str], stdin: str) -> Output:
    flags = "".join(word[1:] for word in arguments if word.startswith("-") and word != "-e")
    plain = [word for word in arguments if not word.startswith("-")]
    found = _GREP_PATTERN.fullmatch(plain[0]) if plain else None
    if found is None or set(flags) - set("vqEFihs"):
        return True, UNKNOWN
    text = shell.input(plain[1:], stdin)
    if text is None or UNKNOWN in text:
        return _UNREADABLE if text is None else (True, UNKNOWN)
    body = found[2].replace("\\", "")

    def matches(line: str) -> bool:
        body_of = body.lower() if "i" in flags else body
        line = line.lower() if "i" in flags else line
        if found[1] and found[3]:
            return line == body_of
        if found[1]:
            return line.startswith(body_of)
        return line.endswith(body_of) if found[3] else body_of in line

    chosen = [line for line in text.splitlines() if matches(line) != ("v" in flags)]
    return bool(chosen), "" if "q" in flags else "".join(f"{line}\n" for line in chosen)


def _cut(shell: Shell, arguments: list[str], stdin: str) -> Output:
    text = " ".join(arguments)
    delimiter = re.search(r"-d ?(\S)", text)
    number = re.search(r"-f ?([0-9]+)(?![0-9,-])", text)
    if not delimiter or not number or UNKNOWN in stdin:
        return True, UNKNOWN
    index = int(number[1]) - 1
    lines = [line.split(delimiter[1]) for line in stdin.splitlines()]
    return True, "".join(f"{parts[index] if index < len(parts) else ''}\n" for parts in lines if index >= 0)


def _id(shell: Shell, arguments: list[str], stdin: str) -> Output:
    names = [word for word in arguments if not word.startswith("-")]
    flags = "".join(word[1:] for word in arguments if word.startswith("-"))
    user = shell.world.user(names[0] if names else "root")
    if user is None:
        return _UNREADABLE
    if "n" in flags:
        return True, user.line.partition(":")[0] + "\n"
    return (True, f"{user.gid if 'g' in flags else user.uid}\n") if flags else (True, UNKNOWN)


def _getent(shell: Shell, arguments: list[str], stdin: str) -> Output:
    if len(arguments) == 2 and arguments[0] == "passwd":
        user = shell.world.user(arguments[1])
        return (True, user.line + "\n") if user else _UNREADABLE
    if len(arguments) == 2 and arguments[0] == "group":
        gid = shell.world.group_id(arguments[1])
        return (True, f"{arguments[1]}:x:{gid}:\n") if gid is not None else _UNREADABLE
    return True, UNKNOWN


def _hostname(shell: Shell, arguments: list[str], stdin: str) -> Output:
    name = shell.world.hostname()
    return True, UNKNOWN if name is None else name + "\n"


def _echo(shell: Shell, arguments: list[str], stdin: str) -> Output:
    words = arguments[1:] if arguments[:1] == ["-n"] else arguments
    return True, " ".join(words) + ("" if words is not arguments else "\n")


def _printf(shell: Shell, arguments: list[str], stdin: str) -> Output:
    if len(arguments) == 2 and arguments[0] in ("%s", "%s\\n"):
        return True, arguments[1]
    return True, arguments[0] if len(arguments) == 1 and not set(arguments[0]) & set("%\\") else UNKNOWN


def _basename(shell: Shell, arguments: list[str], stdin: str) -> Output:
    name = arguments[0].rstrip("/").rpartition("/")[2] if arguments else ""
    return True, (name.removesuffix(arguments[1]) if len(arguments) > 1 else name) + "\n"


def _dirname(shell: Shell, arguments: list[str], stdin: str) -> Output:
    return True, (arguments[0].rstrip("/").rpartition("/")[0] or "." if arguments else ".") + "\n"


def _pwd(shell: Shell, arguments: list[str], stdin: str) -> Output:
    return True, shell.folder + "\n"


_FILTERS: dict[str, Callable[[Shell, list[str], str], Output]] = {
    "cat": _cat,
    "head": _head,
    "tail": _tail,
    "grep": _grep,
    "egrep": _grep,
    "cut": _cut,
    "id": _id,
    "getent": _getent,
    "hostname": _hostname,
    "echo": _echo,
    "printf": _printf,
    "basename": _basename,
    "dirname": _dirname,
    "pwd": _pwd,
}
