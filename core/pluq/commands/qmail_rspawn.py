"""qmail-rspawn: deliver to other hosts as qmail-send asks, by one qmail-remote for each recipient.

Started by qmail-start, as qmailr; speaks the spawn protocol on descriptors 0 and 1. The variable QMAILREMOTE names another
program to run. Source: qmail-rspawn(8).
"""

from __future__ import annotations

import contextlib
import os

from pluq.commands.terminal import help_asked
from pluq.config import Home
from pluq.remote.spawner import Spawner, remote_program
from pluq.remote.tcpto import clear


def main() -> int:
    if help_asked(__doc__):
        return 0
    home = Home.from_environment()
    directory = home.queue + "/mess"
    try:
        os.chdir(directory)
    except OSError:
        return 111
    with contextlib.suppress(OSError):  # as in qmail: a bummer, not a reason to stop the mail
        clear(f"{home.queue}/lock/tcpto")
    Spawner(remote_program(home, os.environ), os.fsencode(directory), home.ids().uid["qmailq"]).run()
    return 0
