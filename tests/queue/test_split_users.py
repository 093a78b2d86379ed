"""The daemon as the user qmailq, in a queue of the classic users: who may do what."""

import asyncio
import os
import shutil
import socket
import tempfile

import pytest

from pluq.config import Home, qmail_ids
from pluq.queue.client import DaemonSubmission
from pluq.queue.lease_client import LeaseSubmitter
from pluq.store.unix import connect
from pluq.supervisor.hier import make_home

MESSAGE = b"Subject: x\n\nbody\n"
NOBODY = 65534


@pytest.fixture
def ids():
    found = qmail_ids()
    if os.geteuid() != 0 or found.single:
        pytest.skip("needs root and the qmail users")
    return found


@pytest.fixture
def home(ids):
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o755)
    home = Home(f"{folder}/home")
    make_home(home, ids)
    yield home
    shutil.rmtree(folder)


@pytest.fixture
def as_user(in_child):
    """Run something as another user; return its exit status."""

    def run(uid, gid, work):
        def as_them():
            become(uid, gid)
            return work()

        return in_child(as_them)

    return run


def become(uid, gid):
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


@pytest.fixture
def split_daemon(daemon, ids):
    """Start the daemon as the supervisor does."""
    owners = {"qmqp": (0o666, 0), "lease": (0o600, ids.uid["qmaild"]), "todo": (0o600, ids.uid["qmails"])}

    def prepare():
        become(ids.uid["qmailq"], ids.gid["qmail"])

    return lambda: daemon(prepare, owners)


def submit(home):
    submission = DaemonSubmission.connect(f"{home.run}/qmqp")
    submission.write(MESSAGE)
    submission.commit(b"a@b", [b"c@d"])


def can_read(path):
    try:
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        return 1
    return 0


@pytest.mark.parametrize(
    ("user", "words"),
    [("alias", b"by alias"), ("qmaild", b"from network"), ("qmails", b"for bounce"), ("nobody", b"by uid 65534")],
)
def test_anybody_may_queue_and_the_kernel_says_who_it_was(home, ids, look, split_daemon, as_user, user, words):
    split_daemon()
    uid = ids.uid.get(user, NOBODY)
    assert as_user(uid, NOBODY, lambda: submit(home)) == 0
    found = look()
    [number] = found.queued
    assert found.envelopes[number].uid == uid
    assert b" invoked %b); " % words in found.messages[number].partition(b"\n")[0]


def test_the_queue_files_are_qmail_queues_and_for_the_qmail_group_alone(home, ids, layout, look, split_daemon, as_user):
    split_daemon()
    submit(home)
    [number] = look().queued
    for path in (layout.mess(number), layout.todo(number)):
        status = os.stat(path)
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (ids.uid["qmailq"], ids.gid["qmail"], 0o644)
        assert as_user(ids.uid["qmails"], ids.gid["qmail"], lambda path=path: can_read(path)) == 0
        assert as_user(ids.uid["qmailr"], ids.gid["qmail"], lambda path=path: can_read(path)) == 0
        # Their folders keep everybody else out.
        assert as_user(NOBODY, NOBODY, lambda path=path: can_read(path)) == 1


def test_only_servers_get_leases_and_only_qmail_send_hears_of_messages(home, ids, split_daemon, as_user):
    split_daemon()

    def try_it(name):
        def attempt():
            try:
                connect(f"{home.run}/{name}", socket.SOCK_SEQPACKET, timeout=60)
            except PermissionError:
                return 1
            return 0

        return attempt

    assert as_user(ids.uid["qmaild"], ids.gid["nofiles"], try_it("lease")) == 0
    assert as_user(ids.uid["qmails"], ids.gid["qmail"], try_it("todo")) == 0
    for name in ("lease", "todo"):
        assert as_user(NOBODY, NOBODY, try_it(name)) == 1


async def test_files_are_used_again_without_root(home, split_daemon, send_link):
    split_daemon()
    link = send_link()
    submitter = LeaseSubmitter(home)
    numbers = []
    for _ in range(60):
        submission = await submitter.open()
        await submission.commit(b"a", [b"b"])
        packet = await asyncio.to_thread(link.recv, 70000)
        numbers.append(packet[1:].split(b" ")[0])
        link.send(b"m" + numbers[-1])
    submitter.close()
    assert len(set(numbers)) < 60


def test_one_user_cannot_take_all_sessions(home, ids, split_daemon, monkeypatch, as_user, look):
    monkeypatch.setattr("pluq.queue.daemon.MAX_USER_SESSIONS", 3)
    split_daemon()

    def take_four():
        held = [connect(f"{home.run}/qmqp", socket.SOCK_STREAM, timeout=60) for _ in range(4)]
        return 0 if held[3].recv(100).partition(b":")[2][:1] == b"Z" else 1

    assert as_user(NOBODY, NOBODY, take_four) == 0
    submit(home)
    assert len(look().queued) == 1
