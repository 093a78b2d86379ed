"""except program [ arg ... ]

For a line in a .qmail file: turns an answer round. Exits 100 if the program exits 0, and 0 if it exits with anything but 0 and
111; 111, or a program that was killed, means that the delivery is tried again.
"""

from __future__ import annotations

import sys

from pluq.commands.children import run_condition
from pluq.commands.terminal import die, help_asked

FATAL = "except: fatal: "


def main() -> int:
    if help_asked(__doc__):
        return 0
    program = sys.argv[1:]
    if not program:
        die(100, "except: usage: except program [ arg ... ]")
    code = run_condition(program)
    if code is None:
        die(111, FATAL, "child crashed")
    if code == 111:
        die(111, FATAL, "temporary child error")
    return 100 if code == 0 else 0
