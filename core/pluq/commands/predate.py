"""predate child [ arg ... ]

Runs a program with its own standard input, and a Date field in local time in front of it. Exits as the program does.
"""

from __future__ import annotations

import os
import sys

from pluq.commands.children import exit_code, feed, spawn
from pluq.commands.terminal import die, help_asked, or_die

FATAL = "predate: fatal: "


def main() -> int:
    if help_asked(__doc__):
        return 0
    command = sys.argv[1:]
    if not command:
        die(100, "predate: usage: predate child")
    reader, writer = os.pipe()
    with or_die(FATAL, "unable to run ", command[0]):
        child = spawn(command, stdin=reader)
    os.close(reader)
    try:
        feed(writer, date_field())
    except OSError:
        pass  # the child decides what a message that it did not read to the end means
    os.close(writer)
    code = exit_code(child)
    if code is None:
        die(111, FATAL, "child crashed")
    return code


def date_field() -> bytes:
    import time

    from pluq.mail.date import date822

    return b"Date: %s\n" % date822(time.time(), local=True)
