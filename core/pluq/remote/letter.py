"""The message of one delivery, from its file to the wire.

A small message is read whole; a larger one stays in its file and passes through memory in pieces, so that many deliveries of
large messages at once stay small. Its owner closes it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from typing import BinaryIO, cast

from pluq.errors import ProtocolError
from pluq.hookspecs.message import Message
from pluq.wire.smtp import stuff, stuff_chunks

# Read whole up to here; the pieces of a larger one are as long.
WHOLE_BYTES = 131072


@dataclass(slots=True)
class Letter:
    """`content` is the message, LF line ends, or an open file of it; `size` its length in bytes."""

    content: bytes | BinaryIO
    size: int

    @classmethod
    def from_descriptor(cls, descriptor: int, size: int) -> Letter:
        """Return the message in an open file, whose descriptor now belongs to the letter. Raises OSError."""
        if size > WHOLE_BYTES:
            return cls(cast(BinaryIO, FileIO(descriptor)), size)
        try:
            content = os.read(descriptor, size)
            while len(content) < size and (piece := os.read(descriptor, size - len(content))):
                content += piece
        finally:
            os.close(descriptor)
        return cls(content, len(content))

    @classmethod
    def from_stdin(cls, descriptor: int = 0) -> Letter:
        """Return what can be read from a descriptor that may be a pipe; it stays open. Raises OSError."""
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode):
            position = os.lseek(descriptor, 0, os.SEEK_CUR)
            if position == 0:
                return cls.from_descriptor(os.dup(descriptor), status.st_size)
        spool = cast(BinaryIO, tempfile.SpooledTemporaryFile(WHOLE_BYTES))  # noqa: SIM115 -- the letter closes it
        size = 0
        while piece := os.read(descriptor, WHOLE_BYTES):
            size += spool.write(piece)
        spool.seek(0)
        return cls(spool, size)

    def close(self) -> None:
        if not isinstance(self.content, bytes):
            self.content.close()

    def message(self) -> Message:
        """Return it as plugins see it."""
        return Message(self.content, self.size)

    def wire(self) -> bytes | Iterator[bytes]:
        """Return the wire form without the final dot, as Dialogue takes it; the pieces raise what goes wrong."""
        if isinstance(self.content, bytes):
            return wire_form(self.content)
        self.content.seek(0)
        return stuff_chunks(_pieces(self.content))


def wire_form(content: bytes) -> bytes | Iterator[bytes]:
    """Return the wire form of a whole message; for one that cannot be sent, pieces that raise."""
    try:
        return stuff(content)
    except ProtocolError as error:
        return _failing(error)


def _failing(error: Exception) -> Iterator[bytes]:
    raise error
    yield b""


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(WHOLE_BYTES):
        yield piece
