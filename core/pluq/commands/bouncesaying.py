"""bouncesaying error [ program [ arg ... ] ]

For a line in a .qmail file: `|bouncesaying 'This address is gone'`. Prints the error and exits 100, so that the message bounces.
With a program, only if that exits 0; if it exits 111, or is killed, the delivery is tried again; after any other code the next
line of the .qmail file has its turn.
"""

from __future__ import annotations

import sys

from pluq.commands.children import run_condition
from pluq.commands.terminal import complain, die, help_asked

FATAL = "bouncesaying: fatal: "


def main() -> int:
    if help_asked(__doc__):
        return 0
    words = sys.argv[1:]
    if not words:
        die(100, "bouncesaying: usage: bouncesaying error [ program [ arg ... ] ]")
    if words[1:]:
        code = run_condition(words[1:])
        if code is None:
            die(111, FATAL, "child crashed")
        if code == 111:
            die(111, FATAL, "temporary child error")
        if code != 0:
            return 0
    complain(words[0])
    return 100
