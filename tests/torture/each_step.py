"""The power goes at steps spread over a delivery: when a process is about to make its n-th call that changes the disk, it is killed and the disk cut.

Between the two lie some milliseconds in which the other processes go on; what they do then is theirs.
"""

from __future__ import annotations

import tempfile
import threading
import time

from tests.torture.disks import Disk, new_disk
from tests.torture.each_call import LETTERS, deliver, pid_of, spread
from tests.torture.ledger import Row
from tests.torture.load import Letter
from tests.torture.strace import CHANGING, Trace, tracing
from tests.torture.system import MIXED, System, new_system

# Which processes, and the calls of each that are worth a cut: the others change no file.
ROLES = ("queue", "send", "worker")
HIT_SECONDS = 5.0


def cut(kind: str, most: int) -> Row:
    """Cut the power at each step of each role, for each kind of message; of each role at most so many."""
    began = time.monotonic()
    steps = hits = 0
    with (
        tempfile.TemporaryDirectory() as logs,
        new_disk(kind) as disk,
        new_system(disk.path, start=False) as system,
    ):
        log = f"{logs}/strace"
        system.stack.start()
        for letter in LETTERS:
            for role in ROLES:
                for call, number in spread(calls_of(system, role, letter, log), most):
                    steps += 1
                    hits += cut_at(system, disk, role, letter, f"{call}:signal=KILL:when={number}", log)
        row = system.finish(f"power cut at each step, {kind}")
    row.seconds = round(time.monotonic() - began, 1)
    row.notes.insert(0, f"{steps} steps, {hits} of them hit")
    if hits < steps / 2:
        row.notes.append("FAILED: most steps were never reached")
    return row


def calls_of(system: System, role: str, letter: Letter, log: str) -> list[tuple[str, int]]:
    """Return the calls that a role makes for one such message."""
    with tracing(pid_of(system, role), CHANGING, None, log) as trace:
        deliver(system, letter)
    return trace.calls()


def cut_at(system: System, disk: Disk, role: str, letter: Letter, inject: str, log: str) -> bool:
    """Send a message and cut the power when the role has come so far; False if it never did."""
    with tracing(pid_of(system, role), CHANGING, inject, log) as trace:
        sender = threading.Thread(target=send, args=(system, letter))
        sender.start()
        is_hit = wait_hit(system, trace, letter, sender)
        disk.cut()
        system.ledger.fault()
        system.stack.kill()
        system.ledger.fault()
        sender.join()
    system.sink.refusal = None
    disk.unmount()
    disk.mount()
    system.box.forget()
    system.stack.start()
    return is_hit


def send(system: System, letter: Letter) -> None:
    if letter is MIXED:
        system.sink.refusal = b"421 not now\r\n"
    client = system.client(letter)
    client.send()
    client.close()


def wait_hit(system: System, trace: Trace, letter: Letter, sender: threading.Thread) -> bool:
    """Wait until the role was killed, or everything is done without."""
    seen = len(system.sink.refused)
    deadline = time.monotonic() + HIT_SECONDS
    while time.monotonic() < deadline:
        if trace.hits():
            return True
        if letter is MIXED and len(system.sink.refused) > seen:
            system.sink.refusal = None
            system.nudge()
        if not sender.is_alive() and not system.stack.queued() and not system.ledger.outstanding(system.copies()):
            break
        time.sleep(0.005)
    return bool(trace.hits())
