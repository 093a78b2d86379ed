"""The system under test with its surroundings: a stack, the next hop, a ledger, and what both ends show.

A plain message has two recipients: joe@example.org with a Maildir, and ann@there.example, whose next hop is the sink. A mixed one has a
third, who does not exist: a bounce must come to joe.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.torture.ledger import Copy, Ledger, Row, bounce_to, read_copy
from tests.torture.load import SIZES, Client, Letter, Load
from tests.torture.sink import Sink

from pluq.testing.stack import DOMAIN, Stack

JOE, ANN = f"joe@{DOMAIN}", "ann@there.example"
NOBODY = f"nobody@{DOMAIN}"
PLAIN = Letter("sender@example.net", (JOE, ANN), (JOE, ANN))
MIXED = Letter(JOE, (JOE, ANN, NOBODY), (JOE, ANN, bounce_to(JOE)))
RECOVERY_SECONDS = 60.0
NUDGE_SECONDS = 0.3
REMAINS = 40


class Box:
    """A Maildir, read without trust. What was once seen is not read again until `forget`; what was taken out stays known for ever."""

    def __init__(self, path: Path, recipient: str) -> None:
        self.path = path
        self.recipient = recipient
        self._seen: dict[str, Copy] = {}
        self._taken: dict[str, Copy] = {}

    def copies(self) -> list[Copy]:
        for entry in os.scandir(self.path / "new"):
            if entry.name not in self._seen and entry.name not in self._taken:
                text = Path(entry.path).read_bytes()
                self._seen[entry.name] = read_copy(self.recipient, text, entry.stat().st_ctime)
        return [*self._taken.values(), *self._seen.values()]

    def forget(self) -> None:
        """The disk was cut: what was seen may be there no more."""
        self._seen.clear()

    def take_out(self) -> None:
        """Take all mail out, as its reader does who wants room again."""
        self.copies()
        for name in self._seen:
            (self.path / "new" / name).unlink(missing_ok=True)
        self._taken.update(self._seen)
        self._seen.clear()


class System:
    """`stack` runs unless a run stopped it."""

    host = "127.0.0.1"

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.sizes = SIZES
        self.patience = RECOVERY_SECONDS
        self.ledger = Ledger()
        self.sink = Sink()
        self.stack = Stack(folder)
        self.stack.command = [sys.executable, str(Path(__file__).with_name("serve.py"))]
        self.stack.control("rcpthosts", f"{DOMAIN}\n{ANN.partition('@')[2]}")
        self.stack.control("smtproutes", f"{ANN.partition('@')[2]}:127.0.0.1:{self.sink.port}")
        self.box = Box(self.stack.maildir(), JOE)

    def client(self, letter: Letter = PLAIN) -> Client:
        return Client(self.ledger, self.host, self.stack.port, letter)

    def load(self, clients: int, count: int = 1 << 30) -> Load:
        return Load(self.ledger, self.host, self.stack.port, PLAIN, clients, count, self.sizes)

    def copies(self) -> list[Copy]:
        return self.box.copies() + list(self.sink.copies)

    def nudge(self) -> None:
        """Have everything that was deferred tried now: the schedule would wait for minutes."""
        if self.stack.runs:
            self.stack.process.send_signal(signal.SIGALRM)

    def drain(self) -> float:
        """Wait until everything accepted has arrived and the queue is empty; return the seconds, at most `patience`."""
        began = nudged = time.monotonic()
        while time.monotonic() < began + self.patience:
            if not self.ledger.outstanding(self.copies()) and not self.stack.queued():
                break
            if time.monotonic() > nudged + NUDGE_SECONDS:
                self.nudge()
                nudged = time.monotonic()
            time.sleep(0.02)
        return time.monotonic() - began

    def recover(self, row_notes: list[str]) -> float:
        """Send until a new message is accepted and has arrived, and drain; returns the seconds."""
        began = time.monotonic()
        try:
            client = self.client()
            client.send_surely(patience=RECOVERY_SECONDS)
            client.close()
        except TimeoutError as error:
            row_notes.append(f"FAILED: {error}")
        self.drain()
        if self.stack.queued():
            row_notes.append(f"FAILED: left in the queue: {self.stack.queued()[:5]}")
        return time.monotonic() - began

    def finish(self, run: str) -> Row:
        """Recover, stop the stack, judge, and check what the queue is left as."""
        notes: list[str] = []
        recovery = self.recover(notes)
        if recovery > RECOVERY_SECONDS:
            notes.append(f"FAILED: new mail flowed only after {recovery:.0f} s")
        self.stack.stop()
        row = self.ledger.judge(run, self.copies())
        row.recovery = round(recovery, 2)
        row.notes += notes
        if row.lost:
            row.notes += self.remains()
        return row

    def remains(self) -> list[str]:
        """Return where the last lost messages still lie, and the last lines of the log: what is needed to find out why."""
        lost = self.ledger.outstanding(self.copies())
        found = []
        for path in Path(self.stack.home.queue).glob("*/**/*"):
            if path.is_file():
                text = path.read_bytes()
                found += [f"{token} lies in {path}" for token, _ in lost if f"X-Ledger: {token}\n".encode() in text]
        return [*sorted(found)[:REMAINS], *self.stack.log.read_text(errors="replace").splitlines()[-REMAINS:]]


@contextmanager
def new_system(folder: str | None = None, start: bool = True) -> Iterator[System]:
    """A running system in a folder of its own, or on a filesystem that is given; nothing of it is left."""
    path = tempfile.mkdtemp(prefix="pluq-torture.", dir=folder)
    os.chmod(path, 0o755)
    system = System(path)
    os.sync()  # what is lost at a power cut is mail, and not its home
    try:
        if start:
            system.stack.start()
        yield system
    finally:
        if system.stack.runs:
            system.stack.kill()
        system.sink.close()
        keep = os.environ.get("TORTURE_KEEP")
        if not keep:
            shutil.rmtree(path, ignore_errors=True)
