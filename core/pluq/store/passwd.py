"""Accounts of the operating system as mail users: the rules of qmail-getpw and qmail-pw2u.

An account is a mail user if its uid is not 0, and its home exists and belongs to it. A user controls `user` and `user-anything`;
the longest matching account name wins. All other addresses belong to `alias`. Account names are compared in lower case and are
shorter than 32 characters.

`find_account` answers one question from the live account database; `Assignments` turns a passwd file into lines for users/assign
once, which is faster and does not depend on a directory server being up.

Source: qmail-getpw(8), qmail-pw2u(8); qmail-getpw.c and qmail-pw2u.c.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pluq.errors import TemporaryFailure
from pluq.store.control import leading_int
from pluq.store.oserror import is_temporary
from pluq.store.users import Account

BREAK = b"-"
ALIAS = b"alias"
NAME_MAX = 31

NFS = "stat of a home directory"
SYSTEM = "account database"


def candidates(local: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield (account name, dash, ext) for each way to read a local part, the longest name first."""
    for end in range(len(local), -1, -1):
        at_end = end == len(local)
        if end <= NAME_MAX and (at_end or local[end : end + 1] == BREAK):
            yield local[:end].lower(), b"" if at_end else b"-", local[end + 1 :]


def find_account(local: bytes) -> Account | None:
    """Return who controls a local part, None where there is not even an alias user.

    Raises TemporaryFailure with NFS or SYSTEM as its text if that cannot be known now.
    """
    for name, dash, ext in candidates(local):
        account = system_account(name)
        if account is not None and account.uid and _owns_home(account):
            return account._replace(dash=dash, ext=ext)
    account = system_account(ALIAS)
    return None if account is None else account._replace(dash=b"-", ext=local)


def system_account(name: bytes) -> Account | None:
    """Return an account of the operating system, without dash and ext."""
    import pwd

    try:
        entry = pwd.getpwnam(os.fsdecode(name))
    except KeyError:
        if database_fails(name):
            raise TemporaryFailure(SYSTEM) from None
        return None
    except ValueError:  # a NUL in the name
        return None
    return Account(os.fsencode(entry.pw_name), entry.pw_uid, entry.pw_gid, os.fsencode(entry.pw_dir), b"", b"")


# What getpwnam(3) says that databases give for "there is none"; anything else is trouble.
NOT_FOUND = frozenset({0, errno.ENOENT, errno.ESRCH, errno.EBADF, errno.EPERM})
ENTRY_BYTES = 65536


def database_fails(name: bytes) -> bool:
    """Say whether a name was not found because of trouble. The pwd module cannot tell, and mail must not bounce for it."""
    import ctypes

    function = getattr(ctypes.CDLL(None), "getpwnam_r", None)
    if function is None:
        return False
    entry, text = ctypes.create_string_buffer(256), ctypes.create_string_buffer(ENTRY_BYTES)
    found = ctypes.c_void_p()
    return function(name, entry, text, ctypes.c_size_t(ENTRY_BYTES), ctypes.byref(found)) not in NOT_FOUND


def _owns_home(account: Account) -> bool:
    try:
        return os.stat(account.home).st_uid == account.uid
    except OSError as error:
        if is_temporary(error.errno):
            raise TemporaryFailure(NFS) from error
        return False


# -- a passwd file as users/assign


class BadHome(Exception):
    """A home directory cannot be examined; the argument is its name."""


class NoUser(Exception):
    """A subuser belongs to an account that is not there; the argument is its name."""


@dataclass
class Assignments:
    """Turns passwd lines and the files beside users/assign into assignments.

    `homes`: 2 leaves out accounts whose home is missing or not theirs, 1 stops at a missing home, 0 does not look.
    `break_character` is empty where users have no extensions. Names in `include` and `exclude` are in lower case, as are the
    keys of `mailnames`; None means that the file does not exist.
    """

    dash: bytes = b"-"
    break_character: bytes = BREAK
    homes: int = 2
    allow_upper: bool = False
    include: frozenset[bytes] | None = None
    exclude: frozenset[bytes] = frozenset()
    mailnames: dict[bytes, bytes] = field(default_factory=dict)
    known: dict[bytes, bytes] = field(default_factory=dict)
    has_alias: bool = False

    def account(self, line: bytes) -> bytes:
        """Return the assignments for one line of the passwd file, empty if it is no mail user. Raises BadHome."""
        fields = line.split(b":", 6)
        if len(fields) < 7 or b"\0" in line:
            return b""
        user, _, uid, gid, _, home, _ = fields
        if not self._is_user(user, leading_int(uid) or 0, home):
            return b""
        middle = b":%b:%b:%b:%b:" % (user, uid, gid, home)
        self.known[user.lower()] = middle
        text = b""
        if user == ALIAS:
            text = b"+%b%b::\n" % (middle, self.dash)
            self.has_alias = True
        names = self.mailnames.get(user.lower(), user)
        return text + b"".join(self._pair(name, middle) for name in names.split(b":") if name)

    def _pair(self, name: bytes, middle: bytes) -> bytes:
        text = b"=%b%b::\n" % (name, middle)
        if self.break_character:
            text += b"+%b%b%b%b::\n" % (name, self.break_character, middle, self.dash)
        return text

    def _is_user(self, user: bytes, uid: int, home: bytes) -> bool:
        if not uid or (not self.allow_upper and user != user.lower()):
            return False
        if self.include is not None and user.lower() not in self.include:
            return False
        return user.lower() not in self.exclude and (not self.homes or self._home_is_good(home, uid))

    def _home_is_good(self, home: bytes, uid: int) -> bool:
        try:
            return os.stat(home).st_uid == uid
        except OSError as error:
            if error.errno != errno.ENOENT or self.homes == 1:
                raise BadHome(home) from error
            return False

    def subuser(self, line: bytes) -> bytes:
        """Return the assignments for one line `sub:user:pre:` of users/subusers. Raises NoUser."""
        fields = line.split(b":", 3)
        if len(fields) < 3:
            return b""
        middle = self.known.get(fields[1].lower())
        if middle is None:
            raise NoUser(fields[1])
        if len(fields) < 4:
            return b""
        sub, _, pre, _ = fields
        text = b"=%b%b%b:%b:\n" % (sub, middle, self.dash, pre)
        if self.break_character:
            text += b"+%b%b%b%b:%b-:\n" % (sub, self.break_character, middle, self.dash, pre)
        return text


def mailnames_of(lines: Iterable[bytes] | None) -> dict[bytes, bytes]:
    """Return user -> `name:name:...` from the lines of users/mailnames; the last line of a user counts."""
    pairs = (line.partition(b":") for line in lines or ())
    return {user.lower(): names for user, colon, names in pairs if colon}
