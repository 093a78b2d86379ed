"""qmail-tcpto: print the addresses that lately did not answer.

One line each: `192.0.2.1 timed out 500 seconds ago; # recent timeouts: 2`. Source: qmail-tcpto(8).
"""

from __future__ import annotations

import os
import sys
import time

from pluq.commands.terminal import help_asked
from pluq.config import Home
from pluq.remote.tcpto import parse_records, read_locked
from pluq.store.oserror import error_text

# qmail prints the age as an unsigned number: a time in the future is a very large one.
UNSIGNED = 1 << 64


def main() -> int:
    if help_asked(__doc__):
        return 0
    doing = "chdir"
    try:
        os.chdir(Home.from_environment().queue + "/lock")
        doing = "open tcpto"
        descriptor = os.open("tcpto", os.O_RDWR)
        doing = "read tcpto"
        data = read_locked(descriptor)
    except OSError as error:
        sys.stdout.write(f"fatal: unable to {doing}: {error_text(error.errno)}\n")
        return 111
    now = int(time.time())
    for record in parse_records(data):
        if 1 <= record.count < 128:
            age = (now - record.when) % UNSIGNED
            sys.stdout.write(f"{record.address} timed out {age} seconds ago; # recent timeouts: {record.count}\n")
    return 0
