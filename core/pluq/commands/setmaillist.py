"""setmaillist bin tmp

Compiles a mailing list from standard input, one address or file to a line, into the binary mailing list `bin` for fastforward, by
way of `tmp`. A mistake in the list leaves the old one in place.
"""

from __future__ import annotations

import os
import sys

from pluq.commands.databases import failures_end, replace_file
from pluq.commands.terminal import die, help_asked, or_die

FATAL = "setmaillist: fatal: "


def main() -> int:
    if help_asked(__doc__):
        return 0
    from pluq.mail.forwarding import compile_maillist

    os.umask(0o033)
    if len(sys.argv) < 3:
        die(100, "setmaillist: usage: setmaillist list.bin list.tmp")
    with or_die(FATAL, "unable to read input"):
        lines = sys.stdin.buffer.readlines()
    with failures_end(FATAL):
        replace_file(FATAL, sys.argv[1], sys.argv[2], compile_maillist(lines))
    return 0
