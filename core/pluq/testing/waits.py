"""Finding calls that wait in the thread that serves all sessions: sleeps, look-ups by the system, connections.

    with refused_waits() as found:
        ...                             # time.sleep(1) raises BlockingIOError here; in a thread, or awaited, it may wait
    assert not found

Python tells its audit hooks of look-ups and connections before it makes them, and of sleeps from 3.13 on: here another function stands
in the place of time.sleep. An audit hook stays for good, so it is added once and idles afterwards.

Source: the audit events table of Python's library.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, SupportsIndex

WAITS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")

_wanted: list[list[str]] = []
"""Where the calls are noted, while somebody wants to know."""


def _hear(event: str, given: tuple[Any, ...]) -> None:
    if event in WAITS and not (event == "socket.connect" and given[0].gettimeout() == 0):
        _refuse(event)


def _refuse(what: str) -> None:
    if _wanted and threading.current_thread() is threading.main_thread():
        _wanted[-1].append("".join(traceback.format_stack()[-4:-2]))
        raise BlockingIOError(f"{what}: all sessions would wait with it")


def _sleep(seconds: float | SupportsIndex) -> None:
    _refuse(f"time.sleep({seconds!r})")
    _real_sleep(seconds)


_real_sleep = time.sleep


@cache
def _listen() -> None:
    sys.addaudithook(_hear)


@contextmanager
def refused_waits() -> Iterator[list[str]]:
    """Refuse what would wait in this thread; what is yielded has the stack of each call."""
    _listen()
    found: list[str] = []
    _wanted.append(found)
    before, time.sleep = time.sleep, _sleep
    try:
        yield found
    finally:
        time.sleep = before
        _wanted.pop()
