"""pluq init: make a qmail home, or complete one. What exists is left as it is.

As root with the qmail users present the owners are qmail's; otherwise, or with --single-user, everything is the caller's own and
the stack will run as the caller. Mail for postmaster, mailer-daemon and root goes to a Maildir in HOME/alias.
"""

from __future__ import annotations

import sys


def main() -> int:
    import argparse
    import os
    import socket

    from pluq.config import Home, current_ids, qmail_ids
    from pluq.supervisor import hier

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    parser.add_argument(
        "--me", metavar="NAME", default=socket.getfqdn(), help="full name of this host (default: %(default)s)"
    )
    parser.add_argument(
        "--domain", metavar="NAME", action="append", help="a domain delivered here (default: NAME of --me)"
    )
    parser.add_argument(
        "--single-user", action="store_true", help="run everything as the caller, also where that is root"
    )
    options = parser.parse_args()
    home = Home(os.path.abspath(options.home)) if options.home else Home.from_environment()
    ids = current_ids() if options.single_user else qmail_ids()
    try:
        hier.make_home(home, ids)
        if options.single_user:
            hier.mark_single_user(home, ids)
        hier.make_site(home, ids, hier.Site(options.me, tuple(options.domain or [options.me]), "./Maildir/"))
        hier.link_programs(home, os.path.dirname(sys.executable))
    except OSError as error:
        sys.stderr.write(f"pluq init: {error.filename}: {os.strerror(error.errno or 0)}\n")
        return 111
    sys.stdout.write(f"{home.path} is ready\n")
    return 0
