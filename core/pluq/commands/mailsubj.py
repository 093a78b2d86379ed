"""mailsubj subject [ recipient ... ]

Sends standard input as the body of a message with this subject to these recipients.
"""

from __future__ import annotations

import os
import sys

from pluq.commands.children import exit_code, feed, spawn
from pluq.commands.terminal import die, help_asked, or_die
from pluq.config import Home


def main() -> int:
    if help_asked(__doc__):
        return 0
    words = [os.fsencode(word) for word in sys.argv[1:]]
    if not words:
        die(100, "mailsubj: usage: mailsubj subject [ recipient ... ]")
    header = b"Subject: %s\n%s\n\n" % (words[0], b" ".join((b"To:", *words[1:])))
    reader, writer = os.pipe()
    with or_die("mailsubj: fatal: unable to run qmail-inject"):
        child = spawn([f"{Home.from_environment().bin}/qmail-inject"], stdin=reader)
        os.close(reader)
        feed(writer, header)
    os.close(writer)
    code = exit_code(child)
    return 111 if code is None else code
