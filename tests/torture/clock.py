"""Clocks that jump, and a week of a dead next hop in seconds. Needs libfaketime (Debian: faketime).

The time of day of the stack is faked, not its monotonic clock and not that of its files.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import time
from collections.abc import Mapping
from pathlib import Path

from tests.torture.ledger import Row, bounce_to
from tests.torture.load import Letter
from tests.torture.system import ANN, JOE, System, new_system

from pluq.queue.layout import QueueLayout
from pluq.queue.writer import pull_trigger
from pluq.testing.stack import wait_until

LIBRARY = "/usr/lib/*/faketime/libfaketimeMT.so.1"
JUMPS = ("+1h", "-1h", "+8d", "-30d", "+0")
CLIENTS = 4
WEEK_SECONDS = 604800
# The remote schedule tries at birth + (20 n)^2 seconds: 38 times within the week, and a last one behind it. The clock is set a little
# behind each of these moments, which depend on when the try before was made: that of the first is known least.
FIRST_ROOT, ROOT_STEP = 25, 21
TRIES = 39
TRIES_SLACK = 3
TRY_SECONDS = 15.0
NEXT_TRY_SECONDS = 60
DEAD = Letter(JOE, (ANN,), (bounce_to(JOE),))


def why_not() -> str | None:
    return None if glob.glob(LIBRARY) else "needs libfaketime (Debian: faketime)"


def variables(system: System, fake: str) -> Mapping[str, str]:
    """Write the first time and return the environment of a stack that follows it."""
    set_clock(system, fake)
    return {
        "LD_PRELOAD": glob.glob(LIBRARY)[0],
        "FAKETIME_TIMESTAMP_FILE": f"{system.folder}/faketime",
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def jump(folder: str | None, seconds: float) -> Row:
    """The clock goes forth and back under load, by hours, days and a month."""
    began = time.monotonic()
    with new_system(folder, start=False) as system:
        system.stack.start(variables(system, "+0"))
        with system.load(CLIENTS):
            for fake in JUMPS:
                set_clock(system, fake)
                time.sleep(seconds)
        row = system.finish("clock jumps")
    row.seconds = round(time.monotonic() - began, 1)
    row.notes.insert(0, " ".join(JUMPS))
    return row


def week(folder: str | None) -> Row:
    """The next hop refuses for a week: the tries get rarer, then exactly one bounce comes."""
    began = time.monotonic()
    with new_system(folder, start=False) as system:
        system.sink.refusal = b"421 closed for a week\r\n"
        system.stack.start(variables(system, "+0"))
        client = system.client(DEAD)
        token = client.send_surely()
        client.close()
        born, age = time.time(), 0
        for root in itertools.count(FIRST_ROOT, ROOT_STEP):
            wait_try(system, born + age + NEXT_TRY_SECONDS)
            if age > WEEK_SECONDS:
                break
            age = root * root
            set_clock(system, f"+{round(age - (time.time() - born))}")
        wait_until(lambda: not system.ledger.outstanding(system.copies()), "the bounce")
        tried = len(system.sink.refused)
        system.sink.refusal = None
        row = system.finish("a week of a dead next hop")
    row.notes.insert(0, f"{tried} tries, a bounce after {age / 86400:.1f} days")
    if abs(tried - TRIES) > TRIES_SLACK:
        row.notes.append(f"FAILED: {token} was tried {tried} times, not about {TRIES}")
    row.seconds = round(time.monotonic() - began, 1)
    return row


def wait_try(system: System, after: float) -> None:
    """Wait until the message was tried and its next try, noted as the time of its list in remote/, lies after this; or until it is gone.

    Not for ever: a try may fail to happen. The scheduler sleeps by the real clock, and is woken to see that the time of day has gone on.
    """
    layout = QueueLayout(system.stack.home.queue)
    deadline = time.monotonic() + TRY_SECONDS
    while time.monotonic() < deadline and system.ledger.outstanding(system.copies()):
        with contextlib.suppress(FileNotFoundError):
            if any(path.stat().st_mtime > after for path in Path(layout.path, "remote").glob("*/*")):
                return
        pull_trigger(layout)
        time.sleep(0.02)


def set_clock(system: System, fake: str) -> None:
    """Set the stack's time of day, for all of its processes in one step."""
    path = Path(system.folder, "faketime")
    path.with_suffix(".new").write_text(fake + "\n")
    path.with_suffix(".new").replace(path)
