"""Another user of the machine at our sockets: he submits as who he is, and neither descriptors nor floods of connections help him."""

import array
import os
import socket
from pathlib import Path

import pytest

from pluq.testing.stack import wait_until
from pluq.wire.netstring import encode

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.getuid() != 0, reason="needs root")]

NOBODY = 65534
REQUEST = encode(encode(b"Subject: mine\n\nx\n") + encode(b"root@far.example") + encode(b"joe@example.org"))


def in_child(work):
    """Run something as nobody; return its exit status."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            status = work() or 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def connected(stack, name, kind=socket.SOCK_STREAM):
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.connect(f"{stack.home.run}/{name}")  # waits for room in the backlog; with a time limit it would not
    sock.settimeout(60)
    return sock


def descriptors(stack, role):
    return len(os.listdir(f"/proc/{stack.role_pids()[role]}/fd"))


def test_the_kernel_says_who_submits_whatever_he_claims(stack):
    if not stack.split:
        pytest.skip("needs the qmail users")

    def forge():
        sock = connected(stack, "qmqp")
        claimed = array.array("i", [os.getpid(), 0, 0]).tobytes()
        try:
            sock.sendmsg([REQUEST], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, claimed)])
            return 1
        except PermissionError:
            sock.sendall(REQUEST)
        return 0 if b":K" in sock.recv(1000) else 2

    assert in_child(forge) == 0
    stack.wait_mail("mine")
    texts = [path.read_text() for path in (stack.maildir() / "new").iterdir()]
    assert [text for text in texts if "Subject: mine" in text and f"invoked by uid {NOBODY})" in text]


@pytest.mark.parametrize("name", ["lease", "todo", "lspawn", "rspawn"])
def test_only_our_own_roles_reach_the_other_sockets(stack, name):
    if not stack.split:
        pytest.skip("needs the qmail users")
    kind = socket.SOCK_SEQPACKET if name in ("lease", "todo") else socket.SOCK_STREAM

    def attempt():
        try:
            connected(stack, name, kind)
        except PermissionError:
            return 1
        return 0

    assert in_child(attempt) == 1


def test_descriptors_that_come_along_are_not_kept(stack):
    socks = []
    folder = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(20):
        sock = connected(stack, "qmqp")
        fds = array.array("i", [folder] * 50)
        sock.sendmsg([REQUEST[:10]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        socks.append(sock)
    stack.send("while they wait")
    stack.wait_mail("while they wait")
    held = [os.readlink(path) for path in Path(f"/proc/{stack.role_pids()['queue']}/fd").iterdir()]
    assert "/" not in held
    for sock in socks:
        sock.close()
    os.close(folder)


def test_who_hangs_up_at_once_leaves_nothing(stack):
    stack.send("before them")  # the server has its leases afterwards, and the daemon the files of them
    stack.wait_mail("before them")
    pid, before = stack.role_pids()["queue"], descriptors(stack, "queue")
    for number in range(2000):
        sock = connected(stack, "qmqp")
        if number % 3:
            sock.send(REQUEST[: number % 60])
        sock.close()
    stack.send("after them")
    stack.wait_mail("after them")
    assert stack.role_pids()["queue"] == pid
    wait_until(lambda: descriptors(stack, "queue") <= before + 20, "the end of the connections")
