"""A whole stack of real processes in a folder of the test's own, on a free port.

    stack = Stack(folder).start()
    stack.send("hello")
    stack.wait_mail("hello")
    stack.stop()

The home has the domain example.org and the user `joe`, whose mail goes to a Maildir under `folder`. As root it has all the qmail users,
else (or with `single`) one user is everything. `folder` must be passable for all of them. Its log is `folder/log`. A test that writes
profiles with a `listen` of their own, one of them on `port`, sets `listens_itself`.
"""

from __future__ import annotations

import os
import pwd
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from pluq.config import Home, current_ids, qmail_ids
from pluq.supervisor import hier
from pluq.testing.ports import free_port

__all__ = ["BIN", "DOMAIN", "PATIENCE", "Stack", "answers", "free_port", "wait_until"]

DOMAIN = "example.org"
BIN = Path(sys.executable).parent
PATIENCE = 60.0
MESSAGE_FILES = ("todo/*", "info/*/*", "local/*/*", "remote/*/*", "bounce/*")
LOG_LINES = 40
T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str | Callable[[], str], patience: float = PATIENCE) -> T:
    """Wait until `condition()` is true, and return what it gave."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what() if callable(what) else what} did not happen in {patience:.0f} s"
        time.sleep(0.02)
    return value


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Say whether an SMTP server greets on the port."""
    try:
        with socket.create_connection((host, port), 2) as sock:
            greeting = sock.recv(512)
            sock.sendall(b"QUIT\r\n")
            return greeting.startswith(b"220")
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """Return the processes that a process started, and theirs."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [found for child in children for found in (int(child), *descendants(int(child)))]


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Stack:
    """`pluq serve` on a home; see the module. `command` may be set before the start, to run it under something else."""

    def __init__(self, folder: str | Path, single: bool = False) -> None:
        self.folder = Path(folder)
        self.home = Home(str(self.folder / "home"))
        self.port = free_port()
        self.command: Sequence[str] = [str(BIN / "pluq"), "serve"]
        self.log = self.folder / "log"
        self.listens_itself = False
        self._process: subprocess.Popen[bytes] | None = None
        ids = current_ids() if single else qmail_ids()
        self.split = not ids.single
        hier.make_home(self.home, ids)
        if single:
            hier.mark_single_user(self.home, ids)
        hier.make_site(self.home, ids, hier.Site(f"mail.{DOMAIN}", (DOMAIN,), "./Maildir/"))
        hier.link_programs(self.home, str(BIN))
        self.add_user("joe")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The supervisor; there must have been a start."""
        assert self._process is not None, "the stack was never started"
        return self._process

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PLUQ_HOME": self.home.path, "PATH": f"{BIN}:{os.environ['PATH']}"}

    def control(self, name: str, text: str) -> None:
        """Write a control file."""
        Path(self.home.control(name)).write_text(f"{text}\n")

    def add_user(self, name: str) -> None:
        """Add a user whose mail goes to a Maildir under the stack's folder."""
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
        lines += [f"+{name}-:{user.pw_name}:{user.pw_uid}:{user.pw_gid}:{mailbox}:-::"]
        if not any(line.startswith("+:") for line in lines):
            # Without this the password file says where the mail of aliases is, and that is not this home.
            ids = self.home.ids()
            lines += [f"+:alias:{ids.uid['alias']}:{ids.gid['nofiles']}:{self.home.alias}:-::"]
        lines += ["."]
        assign.write_text("".join(f"{line}\n" for line in lines))
        self.run("qmail-newu")

    def run(self, program: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        """Run one of the classic programs on this home."""
        options = {"check": True, "capture_output": True, "timeout": 60, **options}
        return subprocess.run([str(BIN / program), *arguments], env=self.environment(), **options)

    def start(self, environment: Mapping[str, str] | None = None) -> Self:
        """Start the stack and wait until it answers. `environment` is added to our own."""
        command = [*self.command, "--home", self.home.path]
        if not self.listens_itself:
            command += ["--listen", f"127.0.0.1:{self.port}"]
        variables = {**os.environ, **(environment or {})}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables)
        wait_until(lambda: answers(self.port) or not self.runs, self.told)
        assert self.runs, self.told()
        return self

    def told(self) -> str:
        """Return the last lines of the log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "the stack:\n" + "\n".join([line for line in lines if not line.startswith("tcpserver: ")][-LOG_LINES:])

    def stop(self) -> float:
        """End the stack and return how many seconds that took."""
        began = time.monotonic()
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0, self.told()
        return time.monotonic() - began

    def kill(self) -> None:
        """End every process of the stack at once, as a crash of the system would."""
        pids = descendants(self.process.pid)
        for pid in (self.process.pid, *pids):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(PATIENCE)
        wait_until(lambda: not any(is_alive(pid) for pid in pids), "the end of all processes")

    def role_pids(self) -> dict[str, int]:
        """Return the process number of each role by name. A new process is called as its parent is until it is a role: that is waited for."""
        found: dict[str, int] = {}

        def are_all_named() -> bool:
            found.clear()
            for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
                try:
                    found[Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("pluq-")] = int(pid)
                except (FileNotFoundError, ProcessLookupError):
                    continue
            return own not in found

        own = Path(f"/proc/{self.process.pid}/comm").read_text().strip().removeprefix("pluq-")
        wait_until(are_all_named, "a name for each role")
        return found

    def worker_pids(self) -> list[int]:
        """Return the processes that deliver for users."""
        lspawn = self.role_pids().get("lspawn")
        return descendants(lspawn) if lspawn else []

    def client(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, timeout=PATIENCE)

    def send(self, token: str, sender: str = "sender@example.net", to: str = f"joe@{DOMAIN}") -> None:
        """Send a message with this subject."""
        with self.client() as client:
            client.sendmail(sender, [to], f"Subject: {token}\n\nbody of {token}\n")

    def maildir(self, name: str = "joe") -> Path:
        return self.folder / name / "Maildir"

    def subjects(self, name: str = "joe") -> list[str]:
        """Return the subject of each message in the user's Maildir."""
        found = []
        for path in (self.maildir(name) / "new").iterdir():
            lines = path.read_text(errors="replace").splitlines()
            found += [line.removeprefix("Subject: ") for line in lines if line.startswith("Subject: ")][:1]
        return found

    def wait_mail(self, *tokens: str, name: str = "joe", patience: float = PATIENCE) -> None:
        """Wait until messages with these subjects have arrived."""
        wait_until(
            lambda: set(tokens) <= set(self.subjects(name)),
            lambda: f"{self.missing(tokens, name)}; {self.told()}",
            patience,
        )

    def missing(self, tokens: Sequence[str], name: str = "joe") -> str:
        return f"delivery of {sorted(set(tokens) - set(self.subjects(name)))[:5]}"

    def queued(self, *more: str) -> list[str]:
        """Return the files of the messages in the queue, those in the folders `more` too."""
        queue = Path(self.home.queue)
        return [str(path.relative_to(queue)) for name in (*MESSAGE_FILES, *more) for path in queue.glob(name)]

    def wait_empty(self, *more: str, patience: float = PATIENCE) -> None:
        """Wait until everything has been delivered; what was deferred is tried again now."""

        def is_empty() -> bool:
            if not self.queued(*more):
                return True
            self.process.send_signal(signal.SIGALRM)
            return False

        wait_until(is_empty, lambda: f"an empty queue ({self.queued(*more)}; {self.told()})", patience)
