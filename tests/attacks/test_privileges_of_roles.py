"""What each process of a stack that root started may do, read from /proc and tried out: who it is, what it holds open, what it can write."""

import contextlib
import os
import pwd
import stat
import sys
from pathlib import Path

import pytest

from pluq.testing.stack import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.getuid() != 0, reason="needs root")]

# Everything in the home that a role can write, as patterns of Path.match below the home. The sockets for everybody are entered by
# connecting, where the kernel tells who calls; the trigger is a FIFO that wakes the scheduler, as in qmail. In state/ each role keeps its
# figures.
FOR_ALL = ("run/qmqp", "run/keys", "queue/lock/trigger")
WRITABLE = {
    "smtpd": ("run/lease", "state/smtpd"),
    "rspawn": ("queue/lock/tcpto", "state/remote"),
    "send": (
        *("state/send", "run/todo", "run/lspawn", "run/rspawn", "queue/bounce", "queue/lock/sendmutex"),
        *(f"queue/{name}{below}" for name in ("info", "local", "remote") for below in ("", "/*", "/*/*")),
    ),
    "queue": (
        *("state/queue", "queue", "queue/lock", "queue/lock/tcpto", "queue/intd", "queue/pid", "queue/stray"),
        *(f"queue/{name}{below}" for name in ("mess", "todo", "pool") for below in ("", "/*", "/*/*")),
    ),
}
USERS = {"smtpd": "qmaild", "queue": "qmailq", "send": "qmails", "rspawn": "qmailr"}
# Of each role: its user, its group, and whether set-uid bits of what it starts count for nothing. smtpd starts programs of the site
# (checkpassword, QMAILQUEUE), and so do the delivery workers; these may be set-uid as under qmail.
IDENTITIES = {
    "keys": ("root", "qmail", True),
    "smtpd": ("qmaild", "nofiles", False),
    "queue": ("qmailq", "qmail", True),
    "send": ("qmails", "qmail", True),
    "lspawn": ("root", "qmail", False),
    "rspawn": ("qmailr", "qmail", True),
}
# What may be open in a role, beside sockets, pipes, /dev/null and the log: paths below the home.
OPEN = {
    "keys": (),
    "smtpd": ("queue/pool/m*",),
    "queue": ("queue/pool", "queue/todo", "queue/todo/*", "queue/pool/*"),
    "send": ("queue", "queue/lock/sendmutex", "queue/lock/trigger"),
    "lspawn": ("queue/mess", "users/cdb"),
    "rspawn": ("queue/lock/tcpto",),
}


@pytest.fixture(autouse=True)
def split(stack):
    if not stack.split:
        pytest.skip("needs the qmail users")
    stack.send("warm")
    stack.wait_mail("warm")


def writable(stack, pid, uid):
    """Return what a process with these ids can write in the home, as paths below it."""
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    gid, groups = int(status["Gid"].split()[0]), [int(word) for word in status["Groups"].split()]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        found = [path for path in walk(stack.home.path) if os.access(path, os.W_OK)]
        os.write(writer, "\n".join(found).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        text = file.read().decode()
    os.waitpid(child, 0)
    return [os.path.relpath(path, stack.home.path) for path in text.splitlines()]


def walk(top):
    for folder, names, files in os.walk(top):
        yield folder
        yield from (f"{folder}/{name}" for name in files if not os.path.islink(f"{folder}/{name}"))
        names[:] = [name for name in names if os.access(f"{folder}/{name}", os.X_OK)]


@pytest.mark.parametrize("role", USERS)
def test_a_role_can_write_what_it_owns_and_nothing_else(stack, role):
    ids = stack.home.ids()
    found = writable(stack, stack.role_pids()[role], ids.uid[USERS[role]])
    excess = [path for path in found if not any(Path(path).match(one) for one in WRITABLE[role] + FOR_ALL)]
    assert excess == []


def status_of(pid):
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


def held_in_home(stack, pid):
    """Return the files and folders of the home that a process has open, as paths below it."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed by now
            links.append(os.readlink(entry))
    return [os.path.relpath(target, stack.home.path) for target in links if target.startswith(stack.home.path)]


@pytest.mark.parametrize("role", IDENTITIES)
def test_a_role_is_one_user_in_one_group_without_capabilities(stack, role):
    user, group, is_held_down = IDENTITIES[role]
    ids = stack.home.ids()
    uid, gid = ids.uid.get(user, 0), ids.gid[group]
    status = status_of(stack.role_pids()[role])
    assert status["Uid"].split() == [str(uid)] * 4
    assert status["Gid"].split() == [str(gid)] * 4
    assert set(status["Groups"].split()) <= {str(gid)}
    assert status["NoNewPrivs"] == str(int(is_held_down))
    if uid:
        assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}


@pytest.mark.parametrize("role", OPEN)
def test_a_role_at_rest_holds_open_what_it_works_on(stack, role):
    pid = stack.role_pids()[role]

    def excess():
        return [path for path in held_in_home(stack, pid) if not any(Path(path).match(one) for one in OPEN[role])]

    # A message that is being delivered is open for a moment.
    wait_until(lambda: not excess(), lambda: f"an end to what {role} has open: {excess()}")


def test_a_delivery_worker_is_the_user_and_holds_nothing_of_the_home(stack):
    user = pwd.getpwnam("games")
    workers = {pid: status_of(pid) for pid in stack.worker_pids()}
    ours = [pid for pid, status in workers.items() if status["Uid"].split() == [str(user.pw_uid)] * 4]
    assert ours
    for pid in ours:
        assert set(workers[pid]["Gid"].split() + workers[pid]["Groups"].split()) == {str(user.pw_gid)}
        assert held_in_home(stack, pid) == []
    for status in workers.values():
        assert "0" not in status["Uid"].split() + status["Gid"].split() + status["Groups"].split()
        assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}


def test_nothing_is_set_uid(stack):
    programs = [path for path in Path(sys.executable).parent.iterdir() if path.is_file()]
    home = [Path(path) for path in walk(stack.home.path)]
    for path in [*programs, *home]:
        with contextlib.suppress(FileNotFoundError):  # the queue is in use
            mode = path.stat().st_mode
            assert not mode & stat.S_ISUID, path
            assert stat.S_ISDIR(mode) or not mode & stat.S_ISGID, path


def test_keys_and_control_files_are_read_only_to_all_roles(stack):
    for role, user in USERS.items():
        pid = stack.role_pids()[role]
        found = writable(stack, pid, stack.home.ids().uid[user])
        assert not [path for path in found if path.startswith(("control", "users", "alias", "bin"))], role
