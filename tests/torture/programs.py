"""Power cuts right after qmail-queue has said success, ours and that of a stock qmail where one is at hand (TORTURE_STOCK: its home).

No other process runs. What must be there after the cut is the envelope in todo/ and the whole message in mess/. The stock program finds
its queue where it was compiled to be: in a mount namespace of its own, a fresh queue on the disk lies there instead.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.torture import disks
from tests.torture.disks import Disk, new_disk
from tests.torture.ledger import Copy, Ledger, Row, compose, read_copy
from tests.torture.system import JOE

from pluq.testing.stack import BIN, Stack

STOCK = "TORTURE_STOCK"
SEED = 11
ENVELOPE = b"Fsender@example.net\0T%b\0\0" % JOE.encode()
IN_NAMESPACE = 'mount --bind "$1" "$2/queue" && exec "$2/bin/qmail-queue"'
MESSAGE_FOLDERS = ("mess", "todo", "intd", "info", "local", "remote", "bounce", "pid")
Injector = Callable[[bytes], bool]


def why_no_stock() -> str | None:
    """Return why a stock qmail cannot be put through this."""
    home = os.environ.get(STOCK)
    if not home or not os.access(f"{home}/bin/qmail-queue", os.X_OK):
        return f"set {STOCK} to the home of a stock qmail"
    return disks.why_not("ext4") or (None if shutil.which("unshare") else "needs unshare")


def cut_power(kind: str, cuts: int) -> Row:
    """Our own qmail-queue, which writes the queue itself where no daemon runs."""

    def make(disk: Disk) -> tuple[str, Injector]:
        os.mkdir(f"{disk.path}/site")
        stack = Stack(f"{disk.path}/site")
        return stack.home.queue, lambda message: inject([str(BIN / "qmail-queue")], message, stack.environment())

    return run(f"power cut at exit 0, qmail-queue, {kind}", kind, cuts, make)


def cut_power_of_stock(kind: str, cuts: int) -> Row:
    """The stock program. It is known to lose messages: the harness must see that."""
    home = os.environ[STOCK]

    def make(disk: Disk) -> tuple[str, Injector]:
        queue = f"{disk.path}/queue"
        copy_queue(f"{home}/queue", queue)
        command = ["unshare", "--mount", "sh", "-c", IN_NAMESPACE, "sh", queue, home]
        return queue, lambda message: inject(command, message)

    row = run(f"power cut at exit 0, stock qmail-queue, {kind}", kind, cuts, make)
    row.is_control = True
    return row


def inject(command: Sequence[str], message: bytes, environment: Mapping[str, str] | None = None) -> bool:
    """Run qmail-queue; return whether it said success."""
    reader, writer = os.pipe()
    os.write(writer, ENVELOPE)
    os.close(writer)
    with open(reader, "rb") as envelope:  # which qmail-queue reads from descriptor 1
        ended = subprocess.run(command, input=message, stdout=envelope, env=environment, check=False)
    return ended.returncode == 0


def copy_queue(source: str, target: str) -> None:
    """Make an empty queue with the folders, owners and modes of another."""
    subprocess.run(["cp", "--archive", source, target], check=True)
    for name in MESSAGE_FOLDERS:
        for folder, _, files in os.walk(f"{target}/{name}"):
            for file in files:
                os.unlink(f"{folder}/{file}")


def run(name: str, kind: str, cuts: int, make: Callable[[Disk], tuple[str, Injector]]) -> Row:
    """Queue a few messages, cut, mount, and again; at the end each that was accepted must be there."""
    began = time.monotonic()
    dice = random.Random(SEED)
    ledger = Ledger()
    with new_disk(kind) as disk:
        queue, try_to_queue = make(disk)
        os.sync()
        for _ in range(cuts):
            for _ in range(dice.randint(1, 3)):
                token = ledger.begin([JOE])
                if try_to_queue(compose(token, dice.choice((100, 4000, 30_000)))):
                    ledger.accept(token)
            disk.cut()
            ledger.fault()
            disk.unmount()
            disk.mount()
        row = ledger.judge(name, list(queued(Path(queue))))
    row.seconds = round(time.monotonic() - began, 1)
    row.notes.insert(0, f"{cuts} cuts")
    return row


def queued(queue: Path) -> list[Copy]:
    """Return the messages that a scheduler would find."""
    envelopes = [path for path in queue.glob("todo/**/*") if path.is_file() and JOE.encode() in path.read_bytes()]
    found = [path for one in envelopes for path in queue.glob(f"mess/*/{one.name}")]
    return [read_copy(JOE, path.read_bytes(), path.stat().st_ctime) for path in found]
