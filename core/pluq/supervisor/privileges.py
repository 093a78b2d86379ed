"""Who a process is and what it may do: become one of the qmail users, for good.

The order matters and is checked afterwards: groups first (only root may set them), then the group, then the user, all three
kinds of each (real, effective, saved), so that there is no way back. A kernel flag then keeps set-uid programs from giving
anything back, in the roles that never start one for the site.

Source: prot.c of qmail; credentials(7), prctl(2).
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from dataclasses import dataclass

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True)
class Identity:
    """The user, group and further groups that a role runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


def current_identity() -> Identity:
    """Return who this process is: what every role is where the stack does not run as root."""
    return Identity(os.getuid(), os.getgid(), tuple(os.getgroups()))


def user_identity(uid: int, gid: int) -> Identity:
    """Return a user with the group that qmail gives it, and the groups that the administrator put it into."""
    import pwd

    return Identity(uid, gid, tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)))


def become(identity: Identity) -> None:
    """Become this user; there is no way back. Raises OSError or RuntimeError, after which the process must end."""
    if identity == current_identity():
        return
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    if os.getresuid() != (identity.uid,) * 3 or os.getresgid() != (identity.gid,) * 3:
        raise RuntimeError(f"could not become uid {identity.uid} gid {identity.gid}")


def prctl(option: int, value: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value if isinstance(value, bytes) else ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def forbid_new_privileges() -> None:
    """Make set-uid bits and file capabilities without effect, in this process and all that it starts."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def end_with_parent(parent: int) -> None:
    """Ask for TERM when the supervisor dies, however it dies. To be called after `become`, which clears the wish."""
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def name_process(name: str) -> None:
    """Show this name in ps and top (the kernel keeps 15 bytes)."""
    prctl(PR_SET_NAME, name.encode()[:15])


def set_limits() -> None:
    """Use all descriptors that the administrator allows; leave no core file, which would hold mail and keys."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
