"""A whole stack of real processes in a folder of the test's own, on a free port, and its peers."""

import os
import pwd
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from pluq.config import Home, current_ids, qmail_ids
from pluq.supervisor import hier

DOMAIN = "example.org"
BIN = Path(sys.executable).parent
PATIENCE = 30.0


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def wait_until(condition, what, patience=PATIENCE):
    """Wait until `condition()` is true, and return what it gave."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what() if callable(what) else what} did not happen in {patience:.0f} s"
        time.sleep(0.02)
    return value


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as sock:
            greeting = sock.recv(512)
            sock.sendall(b"QUIT\r\n")
            return greeting.startswith(b"220")
    except OSError:
        return False


class Stack:
    """`pluq serve` on a home with the user `joe`, whose mail goes to a Maildir. As root it has all the qmail users."""

    def __init__(self, folder, single=False):
        self.folder = Path(folder)
        self.home = Home(str(self.folder / "home"))
        self.port = free_port()
        self.process = None
        self.log = self.folder / "log"
        ids = current_ids() if single else qmail_ids()
        self.split = not ids.single
        hier.make_home(self.home, ids)
        if single:
            hier.mark_single_user(self.home, ids)
        hier.make_site(self.home, ids, hier.Site(f"mail.{DOMAIN}", (DOMAIN,), "./Maildir/"))
        hier.link_programs(self.home, str(BIN))
        self.add_user("joe")

    def environment(self):
        return {**os.environ, "PLUQ_HOME": self.home.path, "PATH": f"{BIN}:{os.environ['PATH']}"}

    def control(self, name, text):
        Path(self.home.control(name)).write_text(f"{text}\n")

    def add_user(self, name):
        user = pwd.getpwnam("games") if self.split else pwd.getpwuid(os.getuid())
        mailbox = self.folder / name
        for part in ("", "Maildir", "Maildir/tmp", "Maildir/new", "Maildir/cur"):
            (mailbox / part).mkdir(mode=0o700)
            if os.getuid() == 0:
                os.chown(mailbox / part, user.pw_uid, user.pw_gid)
        (mailbox / ".qmail").write_text("./Maildir/\n")
        assign = Path(self.home.users) / "assign"
        lines = assign.read_text().splitlines()[:-1] if assign.exists() else []
        lines += [f"={name}:{user.pw_name}:{user.pw_uid}:{user.pw_gid}:{mailbox}:::"]
        if not any(line.startswith("+:") for line in lines):
            # Without this the password file says where the mail of aliases is, and that is not this home.
            ids = self.home.ids()
            lines += [f"+:alias:{ids.uid['alias']}:{ids.gid['nofiles']}:{self.home.alias}:-::"]
        lines += ["."]
        assign.write_text("".join(f"{line}\n" for line in lines))
        self.run("qmail-newu")

    def run(self, program, *arguments, **options):
        """Run one of the classic programs on this home."""
        options = {"check": True, "capture_output": True, "timeout": 60, **options}
        return subprocess.run([str(BIN / program), *arguments], env=self.environment(), **options)

    def start(self):
        command = [str(BIN / "pluq"), "serve", "--home", self.home.path, "--listen", f"127.0.0.1:{self.port}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: answers(self.port) or self.process.poll() is not None, self.told)
        assert self.process.poll() is None, self.told()
        return self

    def told(self):
        lines = self.log.read_text(errors="replace").splitlines()
        return "the stack:\n" + "\n".join([line for line in lines if not line.startswith("tcpserver: ")][-40:])

    def stop(self):
        """End the stack and return how many seconds that took."""
        began = time.monotonic()
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0, self.told()
        return time.monotonic() - began

    def role_pids(self):
        """Return the process number of each role by name."""
        found = {}
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in children:
            try:
                found[Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("pluq-")] = int(pid)
            except (FileNotFoundError, ProcessLookupError):
                continue
        return found

    def client(self):
        return smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE)

    def send(self, token, sender="sender@example.net", to=f"joe@{DOMAIN}"):
        with self.client() as client:
            client.sendmail(sender, [to], f"Subject: {token}\n\nbody of {token}\n")

    def subjects(self, name="joe"):
        """Return the subject of each message in the user's Maildir."""
        found = []
        for path in (self.folder / name / "Maildir" / "new").iterdir():
            lines = path.read_text(errors="replace").splitlines()
            found += [line.removeprefix("Subject: ") for line in lines if line.startswith("Subject: ")][:1]
        return found

    def wait_mail(self, *tokens, name="joe", patience=PATIENCE):
        wait_until(
            lambda: set(tokens) <= set(self.subjects(name)),
            lambda: f"{self.missing(tokens, name)}; {self.told()}",
            patience,
        )

    def missing(self, tokens, name="joe"):
        return f"delivery of {sorted(set(tokens) - set(self.subjects(name)))[:5]}"

    def queued(self, *more):
        """Return the files of the messages in the queue, those in the folders `more` too."""
        queue = Path(self.home.queue)
        names = ("todo/*", "info/*/*", "local/*/*", "remote/*/*", "bounce/*", *more)
        return [str(path.relative_to(queue)) for name in names for path in queue.glob(name)]

    def wait_empty(self, *more):
        """Wait until everything has been delivered; what was deferred is tried again now."""

        def is_empty():
            if not self.queued(*more):
                return True
            self.process.send_signal(signal.SIGALRM)
            return False

        wait_until(is_empty, lambda: f"an empty queue ({self.queued(*more)}; {self.told()})")


@pytest.fixture
def open_folder():
    """A folder that every user may pass through, as a home must be; pytest's own are closed to others."""
    folder = tempfile.mkdtemp(prefix="pluq-test.")
    os.chmod(folder, 0o755)
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def new_stack(open_folder):
    """Make stacks that are not started; what still runs at the end is ended."""
    made = []

    def make(single=False, name="pluq"):
        (open_folder / name).mkdir()
        made.append(Stack(open_folder / name, single))
        return made[-1]

    yield make
    for stack in made:
        if stack.process is not None and stack.process.poll() is None:
            stack.process.terminate()
            stack.process.wait(PATIENCE)


@pytest.fixture
def stack(new_stack):
    """A running stack."""
    return new_stack().start()


@pytest.fixture
def until():
    """Wait for a condition: until(condition, what)."""
    return wait_until


@pytest.fixture
def tool():
    """Return the path of a program of Debian; the test is skipped where it is missing."""

    def find(name, package):
        path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/usr/bin")
        if path is None:
            pytest.skip(f"needs {name} of Debian's {package}")
        return path

    return find
