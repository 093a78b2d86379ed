"""The qmail users: which are missing, and how the system's own tools make them.

    group nofiles    alias qmaild qmaill qmailp        group qmail    qmailq qmailr qmails

Source: INSTALL.ids of qmail; useradd(8), groupadd(8), adduser of busybox.
"""

from __future__ import annotations

import grp
import pwd
import shutil
import subprocess
from collections.abc import Iterator

from pluq.config.home import GROUPS, USERS

GROUP_OF = {"qmailq": "qmail", "qmailr": "qmail", "qmails": "qmail"}
NOLOGIN = "/usr/sbin/nologin"

Command = tuple[str, ...]


def missing_users() -> list[str]:
    """Return the qmail users that this system does not have."""
    known = {entry.pw_name for entry in map(user, USERS) if entry is not None}
    return [name for name in USERS if name not in known]


def user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def missing_groups() -> list[str]:
    missing = []
    for name in GROUPS:
        try:
            grp.getgrnam(name)
        except KeyError:
            missing.append(name)
    return missing


def home_of(name: str, home: str) -> str:
    return f"{home}/alias" if name == "alias" else home


def commands(home: str, users: list[str], groups: list[str]) -> Iterator[Command]:
    """Yield the commands that make these users and groups. Nobody can log in as one of them. Raises LookupError without such tools."""
    if shutil.which("useradd") and shutil.which("groupadd"):
        for name in groups:
            yield ("groupadd", "--system", name)
        for name in users:
            place = ("--no-create-home", "--home-dir", home_of(name, home), "--shell", NOLOGIN)
            yield ("useradd", "--system", "--gid", GROUP_OF.get(name, "nofiles"), *place, name)
    elif shutil.which("adduser") and shutil.which("addgroup"):  # busybox
        for name in groups:
            yield ("addgroup", "-S", name)
        for name in users:
            where = ("-H", "-D", "-h", home_of(name, home), "-s", NOLOGIN)
            yield ("adduser", "-S", "-G", GROUP_OF.get(name, "nofiles"), *where, name)
    else:
        raise LookupError("neither useradd nor adduser is here")


def make(home: str) -> list[Command]:
    """Make what is missing; return the commands that did. Raises CalledProcessError, LookupError."""
    done = list(commands(home, missing_users(), missing_groups()))
    for command in done:
        subprocess.run(command, check=True)
    return done
