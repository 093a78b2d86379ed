"""qmail-newu: compile users/assign into users/cdb."""

from __future__ import annotations

import os
import sys


def main() -> int:
    from pluq.config import Home
    from pluq.errors import ConfigError
    from pluq.store.users import compile_assign

    os.umask(0o033)
    home = Home.from_environment()
    if not os.path.isdir(home.path):
        return fail("unable to chdir")
    assign, cdb = f"{home.users}/assign", f"{home.users}/cdb"
    opened = False
    try:
        os.close(os.open(assign, os.O_RDONLY))
        opened = True
        with open(f"{cdb}.tmp", "ab"):
            pass
    except OSError:
        return fail("unable to open users/cdb.tmp" if opened else "unable to open users/assign")
    try:
        compile_assign(assign, cdb)
    except ConfigError:
        return fail("bad format in users/assign")
    except OSError as error:
        if error.filename2:
            return fail("unable to move users/cdb.tmp to users/cdb")
        return fail(
            "unable to read users/assign" if error.filename in (None, assign) else "unable to write users/cdb.tmp"
        )
    return 0


def fail(why: str) -> int:
    sys.stderr.write(f"qmail-newu: fatal: {why}\n")
    return 111
