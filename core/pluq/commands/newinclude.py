"""newinclude list

Compiles an :include: file into a binary mailing list for fastforward: list.bin, by way of list.tmp. A mistake in the file leaves the
old list in place.
"""

from __future__ import annotations

import os
import sys

from pluq.commands.databases import failures_end, read_defaults, replace_file
from pluq.commands.terminal import die, help_asked, or_die

FATAL = "newinclude: fatal: "


def main() -> int:
    if help_asked(__doc__):
        return 0
    from pluq.mail.aliases import compile_include

    os.umask(0o033)
    if len(sys.argv) < 2:
        die(100, "newinclude: usage: newinclude list")
    path = sys.argv[1]
    with failures_end(FATAL):
        defaults = read_defaults(FATAL, environment=True)
        with or_die(FATAL, "unable to read ", path), open(path, "rb") as file:
            lines = file.readlines()
        replace_file(FATAL, f"{path}.bin", f"{path}.tmp", compile_include(lines, defaults))
    return 0
