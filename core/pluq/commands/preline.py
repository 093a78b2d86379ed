"""preline [ -frdFRD ] cmd [ arg ... ]

For a line in a .qmail file: runs the command with the message on its standard input, and in front of it the From_ line
(UFLINE), the Return-Path (RPLINE) and the Delivered-To line (DTLINE), which programs made for other mail systems expect.
-f, -r, -d leave one of them out; -F, -R, -D put it back. Exits as the command does.
"""

from __future__ import annotations

import os
import sys

from pluq.commands.children import exit_code, feed, spawn, start_failure
from pluq.commands.options import Options
from pluq.commands.terminal import die, help_asked, or_die

FATAL = "preline: fatal: "
LINES = {"f": b"UFLINE", "r": b"RPLINE", "d": b"DTLINE"}


def usage() -> None:
    die(100, "preline: usage: preline cmd [ arg ... ]")


def main() -> int:
    if help_asked(__doc__):
        return 0
    if any(variable not in os.environb for variable in LINES.values()):
        usage()
    wanted = dict.fromkeys(LINES, True)
    options = Options(sys.argv, "frdFRD")
    for letter, _ in options:
        if letter == "?":
            usage()
        wanted[letter.lower()] = letter.isupper()
    command = options.rest
    if not command:
        usage()
    lines = b"".join(os.environb[variable] for letter, variable in LINES.items() if wanted[letter])
    return run(command, lines)


def run(command: list[str], lines: bytes) -> int:
    reader, writer = os.pipe()
    try:
        child = spawn(command, stdin=reader)
    except OSError as error:
        die(start_failure(error), FATAL, "unable to run ", command[0], ": ", error)
    os.close(reader)
    with or_die(FATAL, "unable to copy input"):
        feed(writer, lines)
    os.close(writer)
    code = exit_code(child)
    if code is None:
        die(111, FATAL, "child crashed")
    return code
