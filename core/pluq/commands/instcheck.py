"""pluq instcheck: say what in an installed home is missing, or has a wrong owner, mode or type.

Exits 0 if all is right, 1 if something is wrong, 111 if there is no home. `pluq install`, run as root, puts it right.
"""

from __future__ import annotations

import os
import sys

from pluq.config import Home


def main() -> int:
    import argparse

    from pluq.commands.help_text import HelpText
    from pluq.supervisor.distribution import Brought
    from pluq.supervisor.instcheck import complaints
    from pluq.supervisor.manifest import entries

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    options = parser.parse_args()
    home = Home(os.path.abspath(options.home)) if options.home else Home.from_environment()
    if not os.path.isdir(home.path):
        sys.stderr.write(f"instcheck: fatal: unable to switch to {home.path}: file does not exist\n")
        return 111
    found = list(complaints(home, home.ids(), entries(Brought())))
    sys.stderr.write("".join(f"instcheck: warning: {complaint}\n" for complaint in found))
    return 1 if found else 0
