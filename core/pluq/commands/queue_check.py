"""pluq queue check: say what is wrong with the queue directory, and mend it with --repair.

Missing folders are made, owners and modes set right, messages named by their inode numbers again (after a restore from a backup
they are not), files that belong to no message put aside in queue/stray. Nothing is deleted. The scheduler and the queue daemon
must not be running.

Exit codes: 0 nothing is wrong, or all of it was mended; 1 something is wrong; 111 the queue is in use, or something failed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pluq.config import Home

FAULTS = 1
FAILED = 111


def main() -> int:
    import argparse
    import os

    from pluq.commands.help_text import HelpText
    from pluq.config import Home
    from pluq.errors import TemporaryFailure, in_words
    from pluq.supervisor.queue_check import unused

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    parser.add_argument("--repair", action="store_true", help="mend what is wrong")
    parser.add_argument("--split", metavar="N", type=int, help="number of folders below mess/ (default: as it looks)")
    options = parser.parse_args()
    home = Home(os.path.abspath(options.home)) if options.home else Home.from_environment()
    try:
        with unused(home):
            return check(home, options.split, options.repair)
    except TemporaryFailure as error:
        sys.stderr.write(f"pluq queue check: {in_words(error)}\n")
    except OSError as error:
        sys.stderr.write(f"pluq queue check: {error.filename}: {error.strerror}\n")
    return FAILED


def check(home: Home, split: int | None, repair: bool) -> int:
    """Tell every finding, repair it if asked; return the exit code."""
    import os

    from pluq.supervisor.queue_check import QueueCheck

    count = 0
    for findings in QueueCheck(home, home.ids(), split).steps():
        for finding in findings:
            count += 1
            print(finding)
            if repair:
                finding.repair()
        if findings and repair:
            os.sync()  # a step relies on what the one before it has done
    if not count:
        print(f"{home.queue}: nothing is wrong")
    elif not repair:
        print(f"{home.queue}: {count} fault{'s' * (count != 1)}; --repair mends {'them' if count != 1 else 'it'}")
    return FAULTS if count and not repair else 0
