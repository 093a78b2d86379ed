"""printforward

Prints the instructions of a forwarding database on standard input, as setforward reads them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import IO

from pluq.commands.databases import failures_end
from pluq.commands.terminal import help_asked, print_bytes

FATAL = "printforward: fatal: "


def main() -> int:
    if help_asked(__doc__):
        return 0
    from pluq.mail.forwarding import print_forward

    with failures_end(FATAL):
        print_bytes(print_forward(records(sys.stdin.buffer)))
    return 0


def records(source: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Give the records of a cdb that comes on a pipe. Raises PermanentFailure for anything else."""
    from pluq.errors import PermanentFailure
    from pluq.store.cdb import PAIR, POINTERS

    def take(length: int) -> bytes:
        # lengths in a broken file are not to be believed: what is not there is not asked for at once
        data = source.read(min(length, left)) if length else b""
        if len(data) != length:
            raise PermanentFailure("bad database format")
        return data

    left = POINTERS.size
    left = PAIR.unpack_from(take(POINTERS.size))[0] - POINTERS.size
    while left > 0:
        key_length, data_length = PAIR.unpack(take(PAIR.size))
        left -= PAIR.size
        key = take(key_length)
        left -= key_length
        yield key, take(data_length)
        left -= data_length
