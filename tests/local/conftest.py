"""Homes, messages and a running qmail-lspawn for the tests of local delivery."""

import os
import pwd
import select
import shutil
import signal
import socket
import tempfile
import time
import traceback
from pathlib import Path

import pytest

from pluq.config import Home
from pluq.local import workers
from pluq.store.users import compile_assign
from pluq.wire.spawn import ReportDecoder, encode_command

SECONDS = 60.0


@pytest.fixture
def open_fds():
    """Descriptors that a test opens for messages; closed at its end."""
    fds = []
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.fixture
def message(tmp_path, open_fds):
    """Makes a file with a message and opens it."""

    def make(data=b"Subject: hi\n\nhello\n"):
        path = tmp_path / f"message{len(open_fds)}"
        path.write_bytes(data)
        open_fds.append(os.open(path, os.O_RDONLY))
        return open_fds[-1]

    return make


def uid_of(pid):
    """Return the user that a process is, whether or not it may be looked into."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Uid:"))


class Stack:
    """A qmail home with a resident qmail-lspawn, and a scheduler that talks to it."""

    def __init__(self, folder, owners=()):
        self.folder = folder
        self.home = Home(f"{folder}/qmail")
        for name in ("queue/mess/0", "control", "users", "bin", "alias"):
            os.makedirs(f"{self.home.path}/{name}")
        self.owners = dict(owners)
        self.pid = 0
        self.number = 0
        self.pending = {}

    def user(self, name, uid=None):
        """Make a home with a Maildir; return its path."""
        place = self.folder / "home" / name
        for part in ("tmp", "new", "cur"):
            (place / "Maildir" / part).mkdir(parents=True)
        self.owners[name] = os.getuid() if uid is None else uid
        return place

    def own(self):
        """Give each home with everything in it to its user."""
        if os.getuid() == 0:
            for name, uid in self.owners.items():
                for folder, _, files in os.walk(self.folder / "home" / name):
                    for path in [folder, *(f"{folder}/{file}" for file in files)]:
                        os.chown(path, uid, uid, follow_symlinks=False)

    def assign(self):
        lines = [
            f"={name}:{name}:{uid}:{uid}:{self.folder}/home/{name}:::\n"
            f"+{name}-:{name}:{uid}:{uid}:{self.folder}/home/{name}:-::\n"
            for name, uid in self.owners.items()
        ]
        with open(f"{self.home.users}/assign", "w") as file:
            file.write("".join(lines) + ".\n")
        compile_assign(f"{self.home.users}/assign", f"{self.home.users}/cdb")

    def start(self, environment=None, default=b"./Maildir/"):
        """Start qmail-lspawn in a process of its own, and connect to it."""
        if not os.path.exists(f"{self.home.users}/cdb"):
            self.own()
            self.assign()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"\0pluq-test-{os.getpid()}-{id(self)}")
        listener.listen()
        self.address = listener.getsockname()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.environ.update(environment or {})
                code = workers.run(self.home, listener, default)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        listener.close()
        self.connect()

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self.address)
        self.limit = int.from_bytes(self.sock.recv(2), "little")
        self.decoder = ReportDecoder(2)

    def queue(self, data=b"Subject: hi\n\nhello\n"):
        """Put a message into the queue; return its name."""
        self.number += 1
        path = f"{self.home.queue}/mess/0/{self.number}"
        with open(path, "wb") as file:
            file.write(data)
        os.chown(path, self.home.ids().uid["qmailq"], -1)
        return b"0/%d" % self.number

    def order(self, number, recipient, sender=b"s@src.example", message=None):
        self.sock.sendall(encode_command(number, message or self.queue(), sender, recipient, 2))

    def report(self, number):
        """Wait for the report of a delivery."""
        while number not in self.pending:
            data = self.sock.recv(65536)
            assert data, "qmail-lspawn hung up"
            self.pending.update(self.decoder.feed(data))
        return self.pending.pop(number)

    def deliver(self, recipient, sender=b"s@src.example", data=b"Subject: hi\n\nhello\n"):
        self.order(7, recipient, sender, self.queue(data))
        return self.report(7)

    def children(self):
        """Process ids of the workers."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as file:
            return [int(word) for word in file.read().split()]

    def deliverers(self):
        """Process ids of the workers of users: neither who looks users up nor who waits for the disk."""
        helper = pwd.getpwnam("qmailp").pw_uid
        return [pid for pid in self.children() if uid_of(pid) != helper]

    def stop(self):
        """Send TERM; return the exit status."""
        self.sock.close()
        if not self.pid:
            return 0
        os.kill(self.pid, signal.SIGTERM)
        watch = os.pidfd_open(self.pid)
        ended = bool(select.select([watch], [], [], SECONDS)[0])
        os.close(watch)
        if not ended:
            os.kill(self.pid, signal.SIGKILL)
        status = os.waitpid(self.pid, 0)[1]
        self.pid = 0
        assert ended, "qmail-lspawn did not end"
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def stack():
    """A stack in a folder that users can reach: pytest's own folders let nobody else in, and close again at every run."""
    folder = Path(tempfile.mkdtemp(prefix="pluq-test-"))
    folder.chmod(0o755)
    made = Stack(folder)
    yield made
    if made.pid:
        made.stop()
    shutil.rmtree(folder)


def wait_until(condition, seconds=SECONDS):
    """Wait until the condition holds; fail after a while."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        select.select([], [], [], 0.01)


@pytest.fixture
def until():
    return wait_until
