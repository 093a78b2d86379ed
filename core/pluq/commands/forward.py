"""forward address ...

For a line in a .qmail file: sends the message on to the addresses, with the Delivered-To line (DTLINE) in front and the sender
that qmail-local has chosen (NEWSENDER). Unlike a forward line, it can be given quotes, variables and conditions by the shell.
"""

from __future__ import annotations

import os
import sys

from pluq.commands.forwarding import forward_message, variable
from pluq.commands.terminal import complain, help_asked

FATAL = "forward: fatal: "


def main() -> int:
    if help_asked(__doc__):
        return 0
    sender = variable("NEWSENDER", FATAL)
    line = variable("DTLINE", FATAL)
    number = forward_message(FATAL, sender, [os.fsencode(word) for word in sys.argv[1:]], line)
    complain("forward: qp ", str(number))
    return 0
