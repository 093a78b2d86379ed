"""Finding the .qmail file that controls a delivery, and what may be wrong with it or with the home directory.

The home is opened once, and everything in it is reached through that descriptor: the process need not go there, and nobody can swap
the folder in between. A home or a .qmail file that others may write, and a home with the sticky bit (its owner is editing), put the
delivery off.

Source: dot-qmail(5); checkhome, qmeexists, qmesearch, qmeox and bouncexf in qmail-local.c.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from pluq.errors import PermanentFailure, TemporaryFailure
from pluq.local.instructions import file_names, safe_extension
from pluq.local.order import Order, delivered_to
from pluq.mail.envelope import is_bounce, list_sender
from pluq.store.maildir import READ_BYTES
from pluq.store.oserror import error_text, is_temporary

WRITABLE = stat.S_IWOTH
"""Mode bits that a home and a .qmail file must not have (conf-patrn)."""
FILE_BYTES = 1 << 24
"""A .qmail file larger than this (half a million addresses) is not read: the delivery is put off."""


class DotQmail(NamedTuple):
    """The instructions for one delivery. `default_start`: where in ext the part begins that matched "default".

    `name` is that of the file, None where there is none; `is_default`: it says nothing, and the default delivery counts.
    """

    text: bytes
    forward_only: bool
    default_start: int | None
    name: bytes | None = None
    is_default: bool = False


def text_of(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def open_home(path: bytes) -> int:
    """Return a descriptor of a home directory that may be entered. Raises TemporaryFailure."""
    try:
        return os.open(path + b"/.", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise TemporaryFailure(f"Unable to switch to {text_of(path)}: {error_text(error.errno)}. (#4.3.0)") from error


def enter_home(path: bytes) -> int:
    """Return a descriptor of a home directory in which mail may be delivered now. Raises TemporaryFailure."""
    folder = open_home(path)
    try:
        if check_home(folder):
            raise TemporaryFailure("Home directory is sticky: user is editing his .qmail file. (#4.2.1)", "4.2.1")
    except BaseException:
        os.close(folder)
        raise
    return folder


def check_home(home: int) -> bool:
    """Return whether the home is sticky: its owner is editing. Raises TemporaryFailure for one that others may write."""
    try:
        mode = os.fstat(home).st_mode
    except OSError as error:
        raise TemporaryFailure(f"Unable to stat home directory: {error_text(error.errno)}. (#4.3.0)") from error
    if mode & WRITABLE:
        raise TemporaryFailure("Uh-oh: home directory is writable. (#4.7.0)", "4.7.0")
    return bool(mode & stat.S_ISVTX)


def find(order: Order, home: int) -> DotQmail:
    """Return the instructions for this delivery.

    Raises TemporaryFailure for a file that cannot be used now, PermanentFailure where there is none for an extension.
    """
    for name, default_start in file_names(order.dash, order.ext):
        file = _open(name, home)
        if file is None:
            continue
        try:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                continue
            if status.st_mode & WRITABLE:
                raise TemporaryFailure("Uh-oh: .qmail file is writable. (#4.7.0)", "4.7.0")
            text = _read(file, status.st_size)
        finally:
            os.close(file)
        if not text:
            return DotQmail(order.default, False, default_start, name, True)
        return DotQmail(text, bool(status.st_mode & stat.S_IXUSR), default_start, name)
    if order.dash:
        raise PermanentFailure("Sorry, no mailbox here by that name. (#5.1.1)", "5.1.1")
    return DotQmail(order.default, False, None, None, True)


def _open(name: bytes, home: int) -> int | None:
    try:
        return os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=home)
    except OSError as error:
        if is_temporary(error.errno) or error.errno in (errno.EPERM, errno.EACCES):
            raise _cannot_open(name, error) from error
        return None


def _cannot_open(name: bytes, error: OSError) -> TemporaryFailure:
    return TemporaryFailure(f"Unable to open {text_of(name)}: {error_text(error.errno)}. (#4.3.0)")


def _read(file: int, size: int) -> bytes:
    try:
        text = os.read(file, size + 1)
        at_end = len(text) == size  # there was room for more
        while not at_end and len(text) <= FILE_BYTES and (piece := os.read(file, READ_BYTES)):
            text += piece
    except OSError as error:
        raise TemporaryFailure("Out of memory. (#4.3.0)") from error
    if len(text) > FILE_BYTES:
        raise TemporaryFailure("Out of memory. (#4.3.0)")
    return text


def new_sender(order: Order, home: int) -> bytes:
    """Return the envelope sender for what is forwarded: the list's owner where there is one. Raises TemporaryFailure."""
    if is_bounce(order.sender):
        return order.sender
    base = b".qmail" + order.dash + safe_extension(order.ext)
    owner = _exists(base + b"-owner", home)
    return list_sender(order.sender, order.local, order.host, owner, owner and _exists(base + b"-owner-default", home))


def _exists(name: bytes, home: int) -> bool:
    try:
        os.stat(name, dir_fd=home)
    except OSError as error:
        if is_temporary(error.errno):
            raise _cannot_open(name, error) from error
        return False
    return True


def refuse_loop(order: Order, message: int) -> bytes:
    """Raise PermanentFailure if the message's header has our Delivered-To line already. Reads no more than the header.

    Returns what the message begins with: all of it, or READ_BYTES.
    """
    wanted = b"\n" + delivered_to(order)
    try:
        os.lseek(message, 0, os.SEEK_SET)
    except OSError as error:
        raise TemporaryFailure("Unable to rewind message. (#4.3.0)") from error
    start = piece = _pread(message, 0)
    position = len(piece)
    text = b"\n" + piece
    while True:
        end = text.find(b"\n\n")
        if text.find(wanted, 0, end + 1 if end >= 0 else len(text)) >= 0:
            raise PermanentFailure("This message is looping: it already has my Delivered-To line. (#5.4.6)", "5.4.6")
        if end >= 0 or not piece:
            return start
        piece = _pread(message, position)
        position += len(piece)
        text = text[-len(wanted) :] + piece


def _pread(message: int, position: int) -> bytes:
    try:
        return os.pread(message, READ_BYTES, position)
    except OSError as error:
        raise TemporaryFailure(f"Unable to read message: {error_text(error.errno)}. (#4.3.0)") from error
