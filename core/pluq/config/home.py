"""Where things are and who runs them: the qmail home and the qmail users.

The home is /var/qmail, or what PLUQ_HOME says. The users are looked up at run time, so that a package can be built where they
do not exist. Where they are missing, the process is neither root nor one of them, or the home was made for one user (control/singleuser exists:
root's own trial stack), everything runs as the current user ("single user").

Source: qmail-control(5), INTERNALS and the conf-users and conf-groups files of qmail.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pluq.store.control import ControlFiles

DEFAULT_HOME = "/var/qmail"
USERS = ("alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails")
GROUPS = ("qmail", "nofiles")


@dataclass(frozen=True)
class Ids:
    """Numbers of the qmail users and groups. `single`: all of them are the current user."""

    uid: Mapping[str, int]
    gid: Mapping[str, int]
    single: bool


def current_ids() -> Ids:
    """Return the ids of a stack that runs as the current user alone."""
    return Ids(dict.fromkeys(USERS, os.getuid()), dict.fromkeys(GROUPS, os.getgid()), single=True)


def qmail_ids() -> Ids:
    """Return the ids in the password and group files, or the current user's where this cannot be a split stack.

    A split stack is run by root and by the qmail users that its roles have become.
    """
    import grp
    import pwd

    try:
        uid = {name: pwd.getpwnam(name).pw_uid for name in USERS}
        gid = {name: grp.getgrnam(name).gr_gid for name in GROUPS}
    except KeyError:
        return current_ids()
    if os.geteuid() not in (0, *uid.values()):
        return current_ids()
    return Ids(uid, gid, single=False)


@dataclass(frozen=True)
class Home:
    """One qmail home. All paths are absolute strings; nothing is opened here."""

    path: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Home:
        """Return the home that PLUQ_HOME names, /var/qmail without it."""
        values = os.environ if environment is None else environment
        return cls(os.path.abspath(values.get("PLUQ_HOME") or DEFAULT_HOME))

    @property
    def queue(self) -> str:
        return f"{self.path}/queue"

    @property
    def run(self) -> str:
        """The folder of the daemon's sockets."""
        return f"{self.path}/run"

    def state(self, role: str) -> str:
        """The folder where plugins of a role keep what must survive a restart."""
        return f"{self.path}/state/{role}"

    @property
    def bin(self) -> str:
        return f"{self.path}/bin"

    @property
    def users(self) -> str:
        return f"{self.path}/users"

    @property
    def alias(self) -> str:
        return f"{self.path}/alias"

    @property
    def plugins(self) -> str:
        """The folder of the site's own single-file plugins."""
        return f"{self.path}/plugins"

    @property
    def control_dir(self) -> str:
        return f"{self.path}/control"

    def control(self, name: str) -> str:
        return f"{self.path}/control/{name}"

    @cached_property
    def controls(self) -> ControlFiles:
        return ControlFiles(self.control_dir)

    @property
    def local_dates(self) -> bool:
        """Say whether the site wants dates in local time: [core] local_dates. Raises ConfigError."""
        if not os.path.exists(self.control("pluq.toml")):
            return False
        from pluq.config.site import read_site

        return read_site(self).core.local_dates

    def ids(self) -> Ids:
        """Return the ids of the users that the roles run as."""
        return current_ids() if os.path.exists(self.control("singleuser")) else qmail_ids()
