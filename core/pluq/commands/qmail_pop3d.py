"""qmail-pop3d Maildir

Serve the Maildir to a POP3 client on descriptors 0 and 1, after qmail-popup and checkpassword. Not as root.
"""

from __future__ import annotations

import os
import sys
import time

CAPABILITIES = (b"TOP", b"UIDL", b"USER", b"PIPELINING", b"EXPIRE NEVER")


def main() -> int:
    from pluq.commands.terminal import help_asked

    if help_asked(__doc__):
        return 0
    if os.getuid() == 0:
        sys.stderr.write("qmail-pop3d invoked as uid 0, terminating\n")
        return 1
    from pluq.errors import TemporaryFailure
    from pluq.pop3.descriptors import Descriptors, Gone
    from pluq.pop3.dialogue import converse, error
    from pluq.pop3.maildrop import MaildirDrop
    from pluq.pop3.transaction import Transaction

    client = Descriptors()
    capabilities = CAPABILITIES if os.environ.get("PLUQ_PROFILE") else ()
    try:
        if not enter(sys.argv[1:2]):
            client.write(error(b"this user has no $HOME/Maildir"))
            return 0
        try:
            maildrop = MaildirDrop(b".", int(time.time()))
        except TemporaryFailure:
            client.write(error(b"unable to scan $HOME/Maildir"))
            return 0
        converse(Transaction(maildrop, capabilities), client.read, client.write)
    except Gone:
        pass
    return 0


def enter(directory: list[str]) -> bool:
    """Change to the one directory of the list; False if there is none or it cannot be entered."""
    try:
        os.chdir(directory[0])
    except (IndexError, OSError):
        return False
    return True
