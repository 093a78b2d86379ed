"""Queueing a copy of the message on standard input, for programs that are called from a .qmail file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pluq.commands.terminal import die, or_die

if TYPE_CHECKING:
    from pluq.config import Home

__all__ = ["forward_message", "resent_envelope", "variable"]

PIECE = 65536


def variable(name: str, fatal: str) -> bytes:
    """Return a variable that qmail-local sets; without it the program ends, as it was not called from there."""
    value = os.environb.get(name.encode())
    return die(100, fatal, name, " not set") if value is None else value


def forward_message(fatal: str, sender: bytes, recipients: Sequence[bytes], line: bytes = b"") -> int:
    """Queue the message on descriptor 0 with `line` in front of it; return its qp number.

    Ends the program with the reason if that fails: 100 if it always will, else 111. `fatal` begins what is said.
    """
    from pluq.config import Home
    from pluq.queue.submit import QueueRefusal, open_submission

    home = Home.from_environment()
    sender, recipients = resent_envelope(home, fatal, "forward", sender, recipients)
    try:
        submission = open_submission(home)
        submission.write(line)
        with or_die(fatal, "unable to read message"):
            while chunk := os.read(0, PIECE):
                submission.write(chunk)
        return submission.commit(sender, recipients).qp
    except QueueRefusal as refusal:
        die(100 if refusal.permanent else 111, fatal, str(refusal))


def resent_envelope(
    home: Home, fatal: str, channel: str, sender: bytes, recipients: Sequence[bytes]
) -> tuple[bytes, Sequence[bytes]]:
    """Return sender and recipients as the plugins of `[local]` want them; ends the program if they refuse."""
    if not os.path.exists(home.control("pluq.toml")):
        return sender, recipients
    from pluq.errors import ConfigError, PermanentFailure, TemporaryFailure
    from pluq.local.plugins import forwarded, load_plan

    try:
        return forwarded(load_plan(home), channel, sender, recipients, os.environ)
    except PermanentFailure as failure:
        die(100, fatal, str(failure))
    except (TemporaryFailure, ConfigError) as failure:
        die(111, fatal, str(failure))
