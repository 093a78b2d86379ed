"""What the shell does itself: export, test, `.`, exit. The others of its commands change nothing that matters here.

Each is called with the shell, the arguments, the standard input and the line, and returns whether it succeeded.

Source: POSIX.1-2017, Shell Command Language, section 2.14, and test(1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from pluq.migrate import syntax
from pluq.migrate.filters import UNKNOWN
from pluq.migrate.syntax import Unparsable

if TYPE_CHECKING:
    from pluq.migrate.shell import Shell


class Stop(Exception):
    """exec or exit: nothing of the script comes after it."""


def _export(shell: Shell, arguments: list[str], stdin: str, line: int) -> bool:
    for word in arguments:
        name, equals, value = word.partition("=")
        if not syntax.NAME.fullmatch(name):
            continue
        if equals:
            shell.assign(name, value, line, exported=True)
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
    path = shell.absolute(shell.known(arguments[0], line)) if arguments else ""
    text = shell.world.text(path)
    if text is None:
        raise Unparsable(line, f"{path or 'a file'} cannot be read")
    shell.outcome.sourced.append(path)
    shell.source(text, path)
    return True


def _exit(shell: Shell, arguments: list[str], stdin: str, line: int) -> bool:
    shell.outcome.stopped = (shell.path, line)
    raise Stop


def _cd(shell: Shell, arguments: list[str], stdin: str, line: int) -> bool:
    path = shell.absolute(shell.known(arguments[0], line)) if arguments else "/root"
    if shell.world.kind(path) != "folder":
        return False
    shell.folder = path
    return True


def _eval(shell: Shell, arguments: list[str], stdin: str, line: int) -> bool:
    """Follow eval of what envdir and a program print that writes `export NAME=value` lines, as qmail-ldap's run scripts have it."""
    argv = shell.substituted[-1].argv if shell.substituted and UNKNOWN in "".join(arguments) else ()
    words = [word.rpartition("/")[2] for word in argv]
    if "envdir" not in words or not any("export " in word for word in argv):
        raise Unparsable(line, "eval is not followed")
    folder = shell.absolute(next(word for word in argv[words.index("envdir") + 1 :] if not word.startswith("-")))
    for name in shell.world.names(folder):
        text = shell.world.text(f"{folder}/{name}")
        if text and syntax.NAME.fullmatch(name):
            shell.assign(name, text.partition("\n")[0].rstrip(" \t"), 0, exported=True, path=f"{folder}/{name}")
    return True


def _read(shell: Shell, arguments: list[str], stdin: str, line: int) -> bool:
    for name in arguments:
        if syntax.NAME.fullmatch(name):
            shell.assign(name, UNKNOWN, line)
    return True


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
        return self.shell.known(self.words[self.at - 1], self.line)

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

BUILTINS: dict[str, Callable[[Shell, list[str], str, int], bool]] = {
    "export": _export,
    "read": _read,
    "readonly": _nothing,
    "unset": _unset,
    ".": _dot,
    "source": _dot,
    "exit": _exit,
    "return": _nothing,
    "cd": _cd,
    "eval": _eval,
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
