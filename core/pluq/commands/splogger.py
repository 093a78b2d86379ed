"""splogger [ tag [ facility ] ]

Copies lines from standard input to syslog, each with a time stamp; lines that begin with alert: or warning: with that priority.
Long lines come in pieces: those after the first have a + behind the stamp. The tag is splogger, the facility (a number) 2, mail.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import IO

from pluq.commands.terminal import help_asked

PIECE = 799
"""Bytes to a syslog message: longer ones are cut by syslogd, or crash it."""


def main() -> int:
    if help_asked(__doc__):
        return 0
    import syslog

    from pluq.store.control import leading_int

    priorities = {b"warning:": syslog.LOG_WARNING, b"alert:": syslog.LOG_ALERT}
    tag = sys.argv[1] if len(sys.argv) > 1 else "splogger"
    number = leading_int(sys.argv[2].encode(errors="replace")) if len(sys.argv) > 2 else None
    syslog.openlog(tag, 0, syslog.LOG_MAIL if number is None else number << 3)
    stamp, priority = "", syslog.LOG_INFO
    for piece, continued in pieces(sys.stdin.buffer):
        if not continued:
            stamp = f"{time.time():.6f}"
            priority = next((level for word, level in priorities.items() if piece.startswith(word)), syslog.LOG_INFO)
        syslog.syslog(priority, f"{stamp}{'+' if continued else ' '}{piece.decode('ascii')}")
    return 0


def pieces(source: IO[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Give the lines in pieces without newlines or strange bytes, and whether each continues a line.

    Empty lines are left out, and so is a last line without a newline: its writer died in it.
    """
    continued = False
    held = b""
    while line := source.readline(PIECE):
        complete = line.endswith(b"\n")
        held += clean(line.removesuffix(b"\n"))
        while len(held) > PIECE or (complete and held):
            yield held[:PIECE], continued
            held, continued = held[PIECE:], True
        if complete:
            continued = False


def clean(text: bytes) -> bytes:
    return bytes(byte if 32 <= byte <= 126 else 0x3F for byte in text)
