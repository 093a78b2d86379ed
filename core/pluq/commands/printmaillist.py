"""printmaillist

Prints the addresses and files of a binary mailing list on standard input, as setmaillist reads them.
"""

from __future__ import annotations

import sys

from pluq.commands.databases import failures_end
from pluq.commands.terminal import help_asked, or_die, print_bytes

FATAL = "printmaillist: fatal: "


def main() -> int:
    if help_asked(__doc__):
        return 0
    from pluq.mail.forwarding import print_maillist

    with or_die(FATAL, "unable to read input"):
        data = sys.stdin.buffer.read()
    with failures_end(FATAL):
        print_bytes(print_maillist(data))
    return 0
