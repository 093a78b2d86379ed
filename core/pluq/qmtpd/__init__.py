"""Mail in netstrings: the servers behind qmail-qmtpd (QMTP, from anybody) and qmail-qmqpd (QMQP, from our own hosts).

`reader` takes netstrings apart, `qmtp` and `qmqp` are the two protocols. They are coroutines over a read and a write that the
caller gives: under tcpserver nothing in them ever waits for an event loop (`run`), in a resident listener they are tasks.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that only awaits what is there already: reads and writes that block."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise RuntimeError("a coroutine for blocking descriptors waited for an event loop")
