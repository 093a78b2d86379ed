"""Asking plugins about a delivery instruction. Imported only where one is enabled.

Deliveries run in threads and processes without an event loop; a chain gets one of its own for the time of its question.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from pluq.errors import PermanentFailure, TemporaryFailure
from pluq.hookspecs import Defer, Delivery, Message, Reject
from pluq.local.instructions import Instruction, Kind
from pluq.local.order import Order

PREFIXES = {Kind.PROGRAM: b"|", Kind.FORWARD: b"&", Kind.MBOX: b"", Kind.MAILDIR: b""}


def ask(chain: Any, order: Order, instruction: Instruction, message: int, environment: Mapping[str, str]) -> bool:
    """Return whether a plugin has carried the instruction out. Raises TemporaryFailure, PermanentFailure."""
    with open(os.dup(message), "rb") as file:
        delivery = Delivery(
            "local",
            0,
            order.sender,
            [order.recipient],
            order.host,
            Message(file, os.fstat(message).st_size),
        )
        line = PREFIXES[instruction.kind] + instruction.argument
        verdict = asyncio.run(chain(delivery=delivery, instruction=line, environment=environment))
    if verdict is None:
        return False
    if isinstance(verdict, (Reject, Defer)):
        text = verdict.text if isinstance(verdict.text, str) else verdict.text.decode("utf-8", "surrogateescape")
        suffix = f" (#{verdict.enhanced})" if verdict.enhanced else ""
        raise (PermanentFailure if isinstance(verdict, Reject) else TemporaryFailure)(text + suffix)
    return True
