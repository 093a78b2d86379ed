"""Control files: the administrator's settings, one file each.

Three forms (qmail-control(5)): a line (the first one, trailing blanks stripped), a number (the digits the first line begins
with), a list (one item a line, empty lines and lines beginning with # left out). A file that does not exist is None, which
means "the default"; a file that exists and cannot be read is a ConfigError: nothing runs half configured.

Source: qmail-control(5).
"""

from __future__ import annotations

import os

from pluq.errors import ConfigError

BLANKS = b"\n \t"
# qmail's numbers wrap at 64 bits: ten to the 64th is zero there, so no digit before the last 64 counts. Python reads at most 4300.
DIGITS = 64


def read_file(path: str) -> bytes | None:
    """Return the whole file, or None where there is none. Raises ConfigError for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(path, os.strerror(error.errno or 0)) from error


def first_line(data: bytes) -> bytes:
    """Return the first line without its trailing newlines, blanks and tabs."""
    return data.split(b"\n", 1)[0].rstrip(BLANKS)


def list_lines(data: bytes) -> list[bytes]:
    """Return the lines that say something: neither empty nor a comment. A line with NULs is several items, as in qmail."""
    return [line for _, line in numbered_lines(data)]


def numbered_lines(data: bytes) -> list[tuple[int, bytes]]:
    """Return the items of `list_lines`, each with the number of its line (from 1)."""
    stripped = ((number, line.rstrip(BLANKS)) for number, line in enumerate(data.split(b"\n"), 1))
    says = ((number, line) for number, line in stripped if line and not line.startswith((b"#", b"\0")))
    return [(number, item) for number, line in says for item in line.split(b"\0")]


def leading_int(line: bytes) -> int | None:
    """Return the number that the line begins with, or None where it begins with something else."""
    digits = len(line) - len(line.lstrip(b"0123456789"))
    return int(line[:digits][-DIGITS:]) if digits else None


def read_line(path: str) -> bytes | None:
    """Return the first line of a control file; None where there is no file."""
    data = read_file(path)
    return None if data is None else first_line(data)


def read_lines(path: str) -> list[bytes] | None:
    """Return the items of a control file; None where there is no file."""
    data = read_file(path)
    return None if data is None else list_lines(data)


def read_int(path: str) -> int | None:
    """Return the number in a control file; None where there is no file or it does not begin with a digit."""
    line = read_line(path)
    return None if line is None else leading_int(line)


class ControlFiles:
    """The control directory of one qmail home, read when asked: a reload makes a new reader, or asks again."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}"

    def line(self, name: str) -> bytes | None:
        return read_line(self.path(name))

    def lines(self, name: str) -> list[bytes] | None:
        return read_lines(self.path(name))

    def number(self, name: str, default: int) -> int:
        """Return the number in the file, `default` where there is none."""
        value = read_int(self.path(name))
        return default if value is None else value

    def me(self) -> bytes | None:
        """Return the name of this host, control/me, on which other settings fall back."""
        return self.line("me")

    def line_or_me(self, name: str) -> bytes | None:
        """Return the first line of the file, else control/me, else None."""
        value = self.line(name)
        return self.me() if value is None else value
