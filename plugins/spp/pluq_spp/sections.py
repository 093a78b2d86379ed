"""control/smtpplugins: which programs run at which command.

    [connection]                    a section, named by the first letter in the brackets: c h m r p d a
    plugins/first                   a program, without arguments; relative to the qmail home
    :echo "H X-Rule: $RULE"         a command line for /bin/sh

Lines that begin with # say nothing, and so do those before the first section and in an unknown one.

Source: spp_init of the qmail-spp patch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from pluq.execvp import SHELL


class Section(Enum):
    """The moments of a session, by the letter of their section."""

    CONNECTION = b"c"
    HELO = b"h"
    AUTH = b"a"
    MAIL = b"m"
    RCPT = b"r"
    PASS = b"p"
    DATA = b"d"


Sections = Mapping[Section, tuple[str, ...]]


def parse_sections(lines: Iterable[bytes]) -> Sections:
    """Return the entries of each section, in order. `lines` have neither comments nor blanks at their ends."""
    letters = {one.value: one for one in Section}
    found: dict[Section, tuple[str, ...]] = {}
    section: Section | None = None
    for line in lines:
        if line.startswith(b"["):
            section = letters.get(line[1:2])
        elif section is not None:
            found[section] = (*found.get(section, ()), line.decode("utf-8", "surrogateescape"))
    return found


def command_line(entry: str) -> list[str]:
    """Return argv of an entry: a blank in the name of a program belongs to it."""
    return [SHELL, "-c", entry[1:]] if entry.startswith(":") else [entry]
