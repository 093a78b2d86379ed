"""pluq install: put pluq into a qmail home: folders, queue, programs, man pages, boot scripts, with qmail's owners and modes.

With --destdir everything is made below DIR as it will be later; the qmail users need not exist there. Run it again as root without
--destdir where they do, to set the owners. What it finds of another qmail is kept in HOME/before-pluq; --remove takes pluq out and
puts that back. Control files, users, aliases, queue and mail are never touched: `pluq init` writes the first ones.
"""

from __future__ import annotations

import os
import sys

from pluq.config import Home


def main() -> int:
    import argparse

    from pluq.commands.help_text import HelpText

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpText)
    parser.add_argument("--home", metavar="DIR", help="the qmail home (default: PLUQ_HOME, else /var/qmail)")
    parser.add_argument("--destdir", metavar="DIR", default="", help="install below this folder, for a package")
    parser.add_argument("--sendmail", action="store_true", help="link /usr/sbin/sendmail and /usr/lib/sendmail to ours")
    parser.add_argument("--systemd", action="store_true", help="install the unit pluq.service")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="only print mode, owner, group and path of everything")
    what.add_argument("--remove", action="store_true", help="take pluq out, put back what was there before")
    options = parser.parse_args()
    home = Home(os.path.abspath(options.home)) if options.home else Home.from_environment()
    destdir = os.path.abspath(options.destdir) if options.destdir else ""
    if options.list:
        return print_list(home)
    try:
        return remove(home, destdir) if options.remove else install(home, destdir, options.sendmail, options.systemd)
    except OSError as error:
        sys.stderr.write(f"pluq install: fatal: {error.filename}: {os.strerror(error.errno or 0)}\n")
        return 111


def print_list(home: Home) -> int:
    from pluq.supervisor.distribution import Brought
    from pluq.supervisor.manifest import entries

    for entry in entries(Brought()):
        path = f"{home.path}/{entry.path}" if entry.path else home.path
        sys.stdout.write(f"{entry.mode:04o} {entry.owner} qmail {path}\n")
    return 0


def install(home: Home, destdir: str, sendmail: bool, systemd: bool) -> int:
    from pluq.supervisor.distribution import UNIT, Brought
    from pluq.supervisor.install import Installer
    from pluq.supervisor.manifest import entries

    brought, ids = Brought(), home.ids()
    installer = Installer(home, ids, destdir)
    installer.install(entries(brought))
    if sendmail:
        installer.link_sendmail()
    if systemd:
        installer.install_unit(brought.shared[UNIT])
    if ids.single:
        sys.stderr.write(
            "pluq install: no owners were set: not root, or no qmail users here; run it again where they are\n"
        )
    return 0


def remove(home: Home, destdir: str) -> int:
    from pluq.supervisor.install import Installer

    for path in Installer(home, home.ids(), destdir).remove():
        sys.stderr.write(f"pluq install: {path} is not ours any more and stays\n")
    return 0
