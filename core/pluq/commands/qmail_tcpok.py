"""qmail-tcpok: forget which addresses did not answer, so that all are tried again.

Source: qmail-tcpok(8).
"""

from __future__ import annotations

import os

from pluq.commands.terminal import complain, help_asked
from pluq.config import Home
from pluq.remote.tcpto import clear

FATAL = "qmail-tcpok: fatal: unable to "


def main() -> int:
    if help_asked(__doc__):
        return 0
    home = Home.from_environment()
    try:
        os.chdir(home.path)
    except OSError as error:
        complain(FATAL, "chdir to ", home.path, ": ", error)
        return 111
    lock = home.queue + "/lock"
    try:
        os.chdir(lock)
    except OSError as error:
        complain(FATAL, "chdir to ", lock, ": ", error)
        return 111
    try:
        clear("tcpto")
    except OSError as error:
        complain(FATAL, "write ", lock, "/tcpto: ", error)
        return 111
    return 0
