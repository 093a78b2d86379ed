"""maildirmake name

Makes a maildir: the folder, and in it tmp, new and cur, for nobody but its owner.
"""

from __future__ import annotations

import os
import sys

from pluq.commands.terminal import die, help_asked, or_die


def main() -> int:
    if help_asked(__doc__):
        return 0
    if len(sys.argv) < 2:
        die(100, "maildirmake: usage: maildirmake name")
    os.umask(0o077)
    name = sys.argv[1]
    for folder in (name, *(f"{name}/{part}" for part in ("tmp", "new", "cur"))):
        with or_die("maildirmake: fatal: unable to mkdir ", folder):
            os.mkdir(folder, 0o700)
    return 0
