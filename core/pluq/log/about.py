"""What an event is about, beside what its line says: for the form that puts everything into each event."""

from __future__ import annotations

from typing import NamedTuple


class About(NamedTuple):
    """An attempt that has ended. `seconds` is how long it took, `delay` the age of the message."""

    message: int
    channel: bytes
    sender: bytes
    recipient: bytes
    seconds: float
    delay: float
