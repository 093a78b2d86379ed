"""What every small program says and how it ends: one line on standard error, an exit code, help when asked.

Words from the command line and the environment are bytes for which Python has made up characters; they are written as they came.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from pluq.store.oserror import error_text

__all__ = ["complain", "die", "help_asked", "or_die", "print_bytes"]

Part = str | bytes | OSError


def complain(*parts: Part) -> None:
    """Write the parts and a newline to standard error, at once; an OSError is said in qmail's words."""
    os.write(2, b"".join(as_bytes(part) for part in parts) + b"\n")


def as_bytes(part: Part) -> bytes:
    if isinstance(part, OSError):
        part = error_text(part.errno)
    return os.fsencode(part)


def die(code: int, *parts: Part) -> NoReturn:
    """Complain and end the program."""
    complain(*parts)
    raise SystemExit(code)


@contextmanager
def or_die(*parts: Part) -> Iterator[None]:
    """Turn a system error in the block into the end of the program: `parts: reason`, and exit code 111."""
    try:
        yield
    except OSError as error:
        die(111, *parts, ": ", error)


def print_bytes(chunks: Iterable[bytes]) -> None:
    """Write bytes to standard output as long as somebody reads them."""
    try:
        for chunk in chunks:
            while chunk:
                chunk = chunk[os.write(1, chunk) :]
    except BrokenPipeError:
        return


def help_asked(manual: str | None) -> bool:
    """Print the program's manual, its module's docstring, if `--help` is all that it was given."""
    if sys.argv[1:] != ["--help"]:
        return False
    sys.stdout.write(f"{manual}")
    return True
