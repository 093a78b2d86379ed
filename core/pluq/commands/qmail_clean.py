"""qmail-clean: remove files from the queue as qmail-send asks.

Requests `foop/N` or `todo/N` and a NUL come on descriptor 0; descriptor 1 takes one byte for each: + done, ! not done,
x not understood. Source: qmail-clean(8).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from pluq.config.home import Home
from pluq.queue.cleaner import clean_pid, remove_message, remove_todo
from pluq.queue.layout import QueueLayout
from pluq.store.control import leading_int

# A request with its NUL. Longer ones are read to their end and refused.
SHORTEST, LONGEST = 7, 100
# pid/ is looked through at the start and after so many requests.
PID_INTERVAL = 31
NUMBER_BITS = (1 << 64) - 1

DONE, FAILED, REFUSED = b"+", b"!", b"x"
REMOVERS = {b"foop": remove_message, b"todo": remove_todo}


def main() -> int:
    home = Home.from_environment()
    try:
        os.chdir(home.path)
        os.chdir(home.queue)
    except OSError:
        return 111
    layout = QueueLayout(home.queue)
    try:
        clean_pid(layout, time.time())
        for count, request in enumerate(requests(), 1):
            os.write(1, answer(layout, request))
            if count % PID_INTERVAL == 0:
                clean_pid(layout, time.time())
    except BrokenPipeError:
        return 100
    return 0


def requests() -> Iterator[bytes]:
    """Give each request without its NUL, cut a little above the longest that is valid."""
    pending = b""
    while data := os.read(0, 4096):
        *complete, pending = (pending + data).split(b"\0")
        yield from complete
        pending = pending[: LONGEST + 1]


def answer(layout: QueueLayout, request: bytes) -> bytes:
    """Do what is asked and return the answer.

    As in qmail, each byte that should be a digit and is none is answered by itself, before the request.
    """
    if not SHORTEST <= len(request) + 1 <= LONGEST:
        return REFUSED
    complaints = REFUSED * sum(not 48 <= octet <= 57 for octet in request[5:])
    number = leading_int(request[5:])
    remove = REMOVERS.get(request[:4])
    if number is None or remove is None or (remove is remove_message and request[4:5] != b"/"):
        return complaints + REFUSED
    try:
        remove(layout, number & NUMBER_BITS)
    except OSError:
        return complaints + FAILED
    return complaints + DONE
