"""setforward cdb tmp

Compiles a table of forwarding instructions from standard input into the database `cdb` for fastforward, by way of `tmp`. A mistake
in the table leaves the old database in place.
"""

from __future__ import annotations

import sys

from pluq.commands.databases import failures_end, replace_cdb
from pluq.commands.terminal import die, help_asked, or_die

FATAL = "setforward: fatal: "


def main() -> int:
    if help_asked(__doc__):
        return 0
    from pluq.mail.forwarding import compile_forward

    if len(sys.argv) < 3:
        die(100, "setforward: usage: setforward data.cdb data.tmp")
    with or_die(FATAL, "unable to read input"):
        table = sys.stdin.buffer.read()
    with failures_end(FATAL):
        replace_cdb(FATAL, sys.argv[1], sys.argv[2], compile_forward(table))
    return 0
