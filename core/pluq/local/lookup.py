"""Who controls an address: users/cdb first, the password file for what it does not have.

The cdb is opened again when it changed. Its answers are kept until then; those of the password file for a few seconds, so that a
burst for one user asks once and a new account works soon. The password file is asked in another process (as qmailp, in a stack with
users): a directory server may be slow, and its library is no business of root.

In a stack of one user, that user is the only account, and its alias folder is the home's.

Source: qmail-lspawn(8), qmail-getpw(8); nughde_get in qmail-lspawn.c.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from pluq.config.home import Home
from pluq.errors import ConfigError
from pluq.store.cdb import Cdb
from pluq.store.passwd import candidates
from pluq.store.users import Account, find_record, parse_account

KEEP_SECONDS = 5.0
MOST_KEPT = 10_000
"""Addresses remembered; some 300 bytes each."""


class Accounts:
    """Answers from users/cdb, and remembers what the password file said."""

    def __init__(self, home: Home, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = f"{home.users}/cdb"
        self.clock = clock
        self._cdb: Cdb | None = None
        self._trouble: ConfigError | None = None
        self._version: tuple[int, int, int] | None = None
        self._assigned: dict[bytes, Account | None] = {}
        self._system: dict[bytes, tuple[float, Account]] = {}

    def refresh(self) -> None:
        """Notice a new users/cdb. To be called before each burst of questions."""
        try:
            status = os.stat(self.path)
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
        except OSError:
            version = None
        if version == self._version and version is not None:
            return
        self._assigned.clear()
        self._cdb = self._trouble = self._version = None
        try:
            self._cdb = Cdb(self.path)
            self._version = version
        except FileNotFoundError:
            return
        except ConfigError as error:
            self._trouble = error

    def assigned(self, local: bytes) -> Account | None:
        """Return what users/cdb says. Raises ConfigError if it cannot be read, ValueError for a record that is no account."""
        if self._trouble is not None:
            raise self._trouble
        if self._cdb is None:
            return None
        if local in self._assigned:
            return self._assigned[local]
        record = find_record(self._cdb, local)
        account = None if record is None else parse_account(record)
        if len(self._assigned) >= MOST_KEPT:
            self._assigned.clear()
        self._assigned[local] = account
        return account

    def remembered(self, local: bytes) -> Account | None:
        """Return what the password file said a moment ago."""
        found = self._system.get(local)
        return found[1] if found and self.clock() < found[0] else None

    def remember(self, local: bytes, account: Account) -> None:
        if len(self._system) >= MOST_KEPT:
            self._system.clear()
        self._system[local] = (self.clock() + KEEP_SECONDS, account)

    def forget(self) -> None:
        """Ask everything again."""
        self._assigned.clear()
        self._system.clear()
        self._version = None


def only_account(home: Home, local: bytes) -> Account:
    """Return who controls a local part in a stack of one user: that user by its name, else its alias folder."""
    import pwd

    uid, gid = os.getuid(), os.getgid()
    try:
        me = pwd.getpwuid(uid)
    except KeyError:
        return Account(b"alias", uid, gid, os.fsencode(home.alias), b"-", local)
    name, folder = os.fsencode(me.pw_name), os.fsencode(me.pw_dir)
    for candidate, dash, ext in candidates(local):
        if uid and candidate == name:
            return Account(name, uid, gid, folder, dash, ext)
    return Account(name, uid, gid, os.fsencode(home.alias), b"-", local)
