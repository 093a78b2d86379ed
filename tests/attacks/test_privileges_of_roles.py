"""What each process of a stack that root started may do, read from /proc and tried out: who it is, what it holds open, what it can write."""

import os
import stat
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.getuid() != 0, reason="needs root")]

# Everything in the home that a role can write, as patterns of Path.match below the home. The sockets for everybody are entered by
# connecting, where the kernel tells who calls; the trigger is a FIFO that wakes the scheduler, as in qmail.
FOR_ALL = ("run/qmqp", "run/keys", "queue/lock/trigger")
WRITABLE = {
    "smtpd": ("run/lease",),
    "rspawn": ("queue/lock/tcpto",),
    "send": (
        *("run/todo", "run/lspawn", "run/rspawn", "queue/bounce", "queue/lock/sendmutex"),
        *(f"queue/{name}{below}" for name in ("info", "local", "remote") for below in ("", "/*", "/*/*")),
    ),
    "queue": (
        *("queue", "queue/lock", "queue/lock/tcpto", "queue/intd", "queue/pid", "queue/stray"),
        *(f"queue/{name}{below}" for name in ("mess", "todo", "pool") for below in ("", "/*", "/*/*")),
    ),
}
USERS = {"smtpd": "qmaild", "queue": "qmailq", "send": "qmails", "rspawn": "qmailr"}
NEVER_HELD = {"smtpd": ("/queue/todo", "/queue/info", "/queue/bounce"), "rspawn": ("/queue/todo", "/queue/pool")}


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


@pytest.mark.parametrize("role", [*USERS, "lspawn"])
def test_a_role_has_no_capabilities_beyond_its_user_and_no_foreign_descriptors(stack, role):
    pid = stack.role_pids()[role]
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    uid = 0 if role == "lspawn" else stack.home.ids().uid[USERS[role]]
    assert status["Uid"].split() == [str(uid)] * 4
    assert "0" not in status["Groups"].split()
    if uid:
        assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    held = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    for part in NEVER_HELD.get(role, ()):
        assert not [target for target in held if part in target]


def test_nothing_is_set_uid(stack):
    programs = [path for path in Path(sys.executable).parent.iterdir() if path.is_file()]
    home = [Path(path) for path in walk(stack.home.path)]
    for path in [*programs, *home]:
        mode = path.stat().st_mode
        assert not mode & stat.S_ISUID, path
        assert path.is_dir() or not mode & stat.S_ISGID, path


def test_keys_and_control_files_are_read_only_to_all_roles(stack):
    for role, user in USERS.items():
        pid = stack.role_pids()[role]
        found = writable(stack, pid, stack.home.ids().uid[user])
        assert not [path for path in found if path.startswith(("control", "users", "alias", "bin"))], role
