"""At every system call: a process is killed before it, or the call fails, while one message goes through.

Two messages take turns. The plain one is delivered at the first try. The mixed one has it all: its next hop refuses the first try, so it is
written to info, local and remote, tried again; and one recipient bounces. After each fault the same must come out, without a hand, but
that the schedule is not waited for.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from tests.torture.ledger import Row
from tests.torture.load import Letter
from tests.torture.strace import FAILING, KILLING, Trace, tracing
from tests.torture.system import MIXED, PLAIN, System, new_system

ROLES = ("queue", "send", "lspawn", "worker", "rspawn", "smtpd")
KEEPERS = ("queue", "send", "lspawn", "worker")
ERRORS = ("EIO", "ENOSPC", "EMFILE", "ENOMEM")
REFUSAL = b"421 not now\r\n"
LETTERS = (PLAIN, MIXED)
ROLE_SECONDS = 10.0
START_SECONDS = 60.0
T = TypeVar("T")


def pid_of(system: System, role: str) -> int:
    """Return the process of a role, waiting for one that starts anew; for a worker a message is sent to have one."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        found = system.stack.worker_pids() if role == "worker" else [system.stack.role_pids().get(role, 0)]
        if found and found[0]:
            return found[0]
        if role == "worker":
            deliver(system, PLAIN)
        time.sleep(0.01)
    raise TimeoutError(f"{role} did not come back")


def deliver(system: System, letter: Letter) -> None:
    """Send a message and wait until everything that is owed for it has come."""
    if letter is MIXED:
        system.sink.refusal = REFUSAL
    seen = len(system.sink.refused)
    client = system.client(letter)
    try:
        client.send_surely()
        deadline = time.monotonic() + ROLE_SECONDS
        while letter is MIXED and len(system.sink.refused) == seen and time.monotonic() < deadline:
            system.nudge()
            time.sleep(0.02)
        system.sink.refusal = None
        system.drain()
    finally:
        client.close()


def step(system: System, role: str, letter: Letter, calls: Sequence[str], inject: str | None) -> Trace:
    """Let one message through with this injected into a role; the ledger hears when it happened."""
    if role == "lspawn":
        for worker in system.stack.worker_pids():  # so that it makes a new one, which is traced as well
            end(worker)
            system.ledger.fault()
    with tracing(pid_of(system, role), calls, inject, f"{system.folder}/strace") as trace:
        deliver(system, letter)
    for at in trace.hits():
        system.ledger.fault(at)
    return trace


def end(pid: int) -> None:
    """Kill a process and wait until it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + ROLE_SECONDS
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
    except ProcessLookupError:
        return


def spread(cases: Sequence[T], count: int) -> list[T]:
    """Return at most `count` of the cases, evenly chosen."""
    if len(cases) <= count:
        return list(cases)
    return [cases[index * len(cases) // count] for index in range(count)]


def kill(folder: str | None, most: int) -> Row:
    """kill -9 before each call of each role, while each kind of message goes through; of each at most so many."""
    return run(folder, "kill at each call", ROLES, KILLING, ["signal=KILL"], most)


def fail(folder: str | None, most: int) -> Row:
    """Each call that changes a file or makes a process fails once, with each error; for each role and kind of message at most so many."""
    return run(folder, "fail each call", KEEPERS, FAILING, [f"error={error}" for error in ERRORS], most)


def run(
    folder: str | None, name: str, roles: Sequence[str], calls: Sequence[str], effects: Sequence[str], most: int
) -> Row:
    began = time.monotonic()
    with new_system(folder) as system:
        steps = hits = 0
        for letter in LETTERS:
            for role in roles:
                cases = [
                    f"{call}:{effect}:when={number}"
                    for call, number in step(system, role, letter, calls, None).calls()
                    for effect in effects
                ]
                for case in spread(cases, most):
                    steps += 1
                    hits += bool(step(system, role, letter, calls, case).hits())
                    if not system.stack.runs:
                        raise RuntimeError(f"the stack ended: {role}, {case}")
        row = system.finish(name)
    row.seconds = round(time.monotonic() - began, 1)
    row.notes.insert(0, f"{steps} steps, {hits} of them hit")
    if hits < steps / 2:
        row.notes.append("FAILED: most faults were never reached")
    return row
