"""condredirect newaddress program [ arg ... ]

For a line in a .qmail file: runs the program with the message on its standard input. If it exits 0, the message goes to the new
address, and the rest of the .qmail file is left out (exit 99). If it exits 111, or is killed, the delivery is tried again; after
any other code the next line has its turn.
"""

from __future__ import annotations

import os
import sys

from pluq.commands.children import run_condition
from pluq.commands.forwarding import forward_message, variable
from pluq.commands.terminal import complain, die, help_asked, or_die

FATAL = "condredirect: fatal: "


def main() -> int:
    if help_asked(__doc__):
        return 0
    if len(sys.argv) < 3:
        die(100, "condredirect: usage: condredirect newaddress program [ arg ... ]")
    code = run_condition(sys.argv[2:])
    if code is None:
        die(111, FATAL, "child crashed")
    if code == 111:
        die(111, FATAL, "temporary child error")
    return redirect(sys.argv[1]) if code == 0 else 0


def redirect(address: str) -> int:
    with or_die(FATAL, "unable to rewind"):
        os.lseek(0, 0, os.SEEK_SET)
    sender = variable("SENDER", FATAL)
    line = variable("DTLINE", FATAL)
    number = forward_message(FATAL, sender, [os.fsencode(address)], line)
    complain("condredirect: qp ", str(number))
    return 99
