"""qmail-pw2u: turn a passwd file on standard input into lines for users/assign."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pluq.store.passwd import Assignments

LETTERS = "/ohHuUc:C"
BLOCK_BYTES = 8192
HOMES = {"o": 2, "h": 1, "H": 0}


def main() -> int:
    from pluq.config import Home
    from pluq.errors import ConfigError
    from pluq.store.passwd import Assignments, BadHome, NoUser

    rules = Assignments()
    if not read_options(rules, sys.argv):
        return 100
    home = Home.from_environment()
    if not os.path.isdir(home.path):
        return fail(b"unable to chdir")
    try:
        read_files(rules, home.users)
        text = accounts(rules)
        if not rules.has_alias:
            return fail(b"unable to find alias user")
        text += b"".join(rules.subuser(line) for line in lines_of(f"{home.users}/subusers"))
        write(text + b"".join(lines_of(f"{home.users}/append")) + b".\n")
    except IsADirectoryError:  # it could be opened, says qmail
        return fail(b"unable to read input")
    except (ConfigError, OSError):
        return fail(b"unable to read controls")
    except BadHome as bad:
        return fail(b"unable to stat " + bad.args[0])
    except NoUser as bad:
        return fail(b"unable to find %b user for subuser" % bad.args[0])
    return 0


def read_options(rules: Assignments, argv: Sequence[str]) -> bool:
    """Set the rules as the options say; False at an option that does not exist."""
    from pluq.commands.options import Options

    for letter, value in Options(argv, LETTERS):
        if letter == "?":
            return False
        if letter == "/":
            rules.dash = b"-/"
        elif letter in HOMES:
            rules.homes = HOMES[letter]
        elif letter in "uU":
            rules.allow_upper = letter == "u"
        else:
            rules.break_character = os.fsencode(value)[:1]
    return True


def read_files(rules: Assignments, folder: str) -> None:
    """Read include, exclude and mailnames. Raises ConfigError."""
    from pluq.store.control import read_lines
    from pluq.store.passwd import mailnames_of

    included = read_lines(f"{folder}/include")
    rules.include = None if included is None else frozenset(name.lower() for name in included)
    rules.exclude = frozenset(name.lower() for name in read_lines(f"{folder}/exclude") or ())
    rules.mailnames = mailnames_of(read_lines(f"{folder}/mailnames"))


def accounts(rules: Assignments) -> bytes:
    """Write the assignments of the accounts before more is read; return those of a last line without a newline.

    What a failure finds unwritten stays so, as with qmail's buffers: the output then has no last line, and nobody takes it.
    """
    rest = b""
    while block := os.read(0, BLOCK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        write(b"".join(rules.account(line + b"\n") for line in lines))
    return rules.account(rest)


def lines_of(path: str) -> list[bytes]:
    try:
        with open(path, "rb") as file:
            return file.readlines()
    except FileNotFoundError:
        return []


def write(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def fail(why: bytes) -> int:
    sys.stderr.buffer.write(b"qmail-pw2u: fatal: %b\n" % why)
    return 111
