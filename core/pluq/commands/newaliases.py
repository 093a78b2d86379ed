"""newaliases [ file ]

Compiles /etc/aliases, or another file, into a forwarding database for fastforward: /etc/aliases.cdb, by way of /etc/aliases.tmp. A
mistake in the file leaves the old database in place.
"""

from __future__ import annotations

import os
import sys

from pluq.commands.databases import failures_end, read_defaults, replace_cdb
from pluq.commands.terminal import help_asked, or_die

FATAL = "newaliases: fatal: "


def main() -> int:
    if help_asked(__doc__):
        return 0
    from pluq.mail.aliases import compile_aliases

    os.umask(0o033)
    path = sys.argv[1] if len(sys.argv) > 1 else "/etc/aliases"
    with failures_end(FATAL):
        defaults = read_defaults(FATAL)
        with or_die(FATAL, "unable to read ", path), open(path, "rb") as file:
            lines = file.readlines()
        replace_cdb(FATAL, f"{path}.cdb", f"{path}.tmp", compile_aliases(lines, defaults))
    return 0
