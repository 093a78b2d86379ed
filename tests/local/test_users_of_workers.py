"""Deliveries as real users: nothing of root reaches them, and nobody delivers as root."""

import os
import pwd

import pytest

from pluq.config import Home

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or Home("/nonexistent").ids().single, reason="needs root and the qmail users"
)

FIRST = 61001
SECOND = 61002
SHOW = b"|id -u; id -g; id -G; cat /proc/self/status | grep -E '^(Uid|Gid|CapEff):'; ls /proc/self/fd | tr '\\n' ' '\n"


@pytest.fixture
def users(stack):
    return stack.user("joe", FIRST), stack.user("ann", SECOND)


def test_each_user_owns_what_arrives(stack, users):
    stack.start()
    for name, place, uid in (("joe", users[0], FIRST), ("ann", users[1], SECOND)):
        assert stack.deliver(f"{name}@h".encode()) == b"Kdid 1+0+0\n"
        (mail,) = os.listdir(place / "Maildir/new")
        status = os.stat(place / "Maildir/new" / mail)
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (uid, uid, 0o600)
    assert len(stack.deliverers()) == 2


def test_a_program_is_the_user_and_nothing_else(stack, users):
    (users[0] / ".qmail").write_bytes(SHOW)
    stack.start()
    lines = stack.deliver(b"joe@h").decode().splitlines()
    uid = str(FIRST)
    assert lines[:3] == ["K" + uid, uid, uid]
    assert lines[3].split()[1:] == [uid] * 4
    assert lines[4].split()[1:] == [uid] * 4
    assert int(lines[5].split()[1], 16) == 0
    assert lines[6].split() == ["0", "1", "2", "3", "did", "0+0+1"]  # 3 is the folder that ls reads


def test_a_worker_cannot_be_looked_into_by_its_user(stack, users):
    (users[0] / ".qmail-look").write_bytes(b"|for p in $(pgrep -u $(id -u) -f pytest); do cat /proc/$p/environ; done\n")
    stack.start()
    assert stack.deliver(b"joe@h").startswith(b"K")
    report = stack.deliver(b"joe-look@h")
    assert b"PATH=" not in report.replace(b"Permission denied", b"")


def test_a_worker_holds_no_descriptor_but_its_own(stack, users):
    stack.start()
    assert stack.deliver(b"joe@h").startswith(b"K")
    assert stack.deliver(b"ann@h").startswith(b"K")
    for worker in stack.deliverers():
        links = [os.readlink(f"/proc/{worker}/fd/{fd}") for fd in os.listdir(f"/proc/{worker}/fd")]
        assert sum(link.startswith("socket:") for link in links) <= 3  # lspawn, the syncer's door and a line to it
        assert not any("mess" in link for link in links)


def test_nobody_delivers_as_root(stack, users):
    stack.owners["root"] = 0
    stack.start()
    assert stack.deliver(b"root@h") == b"ZNot allowed to perform deliveries as root.\n"


@pytest.mark.parametrize("uid", ["4294967296", "x", ""])
def test_a_number_that_means_root_is_root(stack, users, uid):
    stack.owners["joe"] = uid
    stack.assign()
    stack.start()
    assert stack.deliver(b"joe@h") == b"ZNot allowed to perform deliveries as root.\n"


def test_a_user_who_does_not_exist_crashes_his_delivery_only(stack, users):
    stack.start()
    stack.owners["ghost"] = 4294967295
    stack.assign()
    assert stack.deliver(b"ghost@h") == b"Zqmail-local crashed.\n"
    assert stack.deliver(b"joe@h") == b"Kdid 1+0+0\n"


def test_a_message_of_somebody_else_is_not_delivered(stack, users):
    stack.start()
    name = stack.queue()
    os.chown(f"{stack.home.queue}/mess/{name.decode()}", FIRST, -1)
    stack.order(1, b"joe@h", message=name)
    assert stack.report(1) == b"ZSorry, message has wrong owner. (#4.3.5)\n"


def test_an_unassigned_address_goes_by_the_password_file(stack, users):
    """alias is in the password file; its home there decides what happens."""
    stack.start()
    report = stack.deliver(b"nobody-by-that-name@h")
    assert report[:1] in (b"D", b"Z")  # no such .qmail file, or no such home
    helper = [pid for pid in stack.children() if os.stat(f"/proc/{pid}").st_uid == 0 or pid]
    uids = set()
    for pid in helper:
        with open(f"/proc/{pid}/status") as file:
            uids |= {line.split()[1] for line in file if line.startswith("Uid:")}
    assert str(pwd.getpwnam("qmailp").pw_uid) in uids


def test_many_users_share_few_workers(stack, monkeypatch):
    from pluq.local import pool

    monkeypatch.setattr(pool, "affordable_workers", lambda: 4)
    places = [stack.user(f"u{number}", FIRST + number) for number in range(12)]
    stack.start()
    for _ in range(3):
        for number in range(12):
            stack.order(number, b"u%d@h" % number)
        for number in range(12):
            assert stack.report(number) == b"Kdid 1+0+0\n"
        for number in range(12):
            assert stack.deliver(b"u%d@h" % number) == b"Kdid 1+0+0\n"
        assert len(stack.deliverers()) <= 12
    assert [len(os.listdir(place / "Maildir/new")) for place in places] == [6] * 12


def test_a_maildir_that_leads_elsewhere_is_opened_with_the_users_rights(stack, users):
    """A link to somebody else's Maildir helps nobody: the kernel says no."""
    joe, ann = users
    os.chmod(ann, 0o700)
    os.rename(joe / "Maildir", joe / "old")
    os.symlink(ann / "Maildir", joe / "Maildir")
    stack.start()
    assert stack.deliver(b"joe@h") == b"ZUnable to chdir to maildir. (#4.2.1)\n"
    assert os.listdir(ann / "Maildir/new") == []


def test_a_mailbox_link_to_a_file_of_root_is_refused_by_the_kernel(stack, users):
    joe, _ = users
    victim = stack.folder / "victim"
    victim.write_bytes(b"precious")
    os.symlink(victim, joe / "Mailbox")
    (joe / ".qmail").write_bytes(b"./Mailbox\n")
    stack.start()
    assert stack.deliver(b"joe@h") == b"ZUnable to open ./Mailbox: access denied. (#4.2.1)\n"
    assert victim.read_bytes() == b"precious"
