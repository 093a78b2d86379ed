"""Writing control/pluq.toml, and taking it back.

    control/pluq.toml                   the new file, put in place by rename: the old one or the new one is there, whole
    control/pluq.toml.before-migrate    the old file itself, where there was one
    control/pluq.toml.migrated          what was written: --undo needs it; its presence says that there is something to undo

The first backup stays through repeated writes. Undo puts the backup back as it was; a pluq.toml that was edited meanwhile is kept
as pluq.toml.edited. No other file is touched. A crash leaves each file whole, and the command can be repeated.
"""

from __future__ import annotations

import contextlib
import os

from pluq.errors import PermanentFailure
from pluq.store.durable import fsync_dir, write_file_durably

NAME = "pluq.toml"
MODE = 0o644


def _paths(control: str) -> tuple[str, str, str]:
    path = f"{control}/{NAME}"
    return path, f"{path}.before-migrate", f"{path}.migrated"


def _put(path: str, data: bytes) -> None:
    temporary = f"{path}.tmp{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    write_file_durably(temporary, data, MODE)
    os.rename(temporary, path)


def write(control: str, text: str) -> str:
    """Put the file in place; return its path. `control` is a folder of this machine. Raises OSError."""
    path, backup, record = _paths(control)
    data = text.encode("utf-8", "surrogateescape")
    if os.path.lexists(path) and not os.path.lexists(record):
        # A link, so that the old file keeps its place until the new one takes it.
        with contextlib.suppress(FileExistsError):
            os.link(path, backup, follow_symlinks=False)
    _put(record, data)
    _put(path, data)
    fsync_dir(control)
    return path


def undo(control: str) -> str:
    """Take the file back; return what was done. Raises PermanentFailure where nothing was written."""
    path, backup, record = _paths(control)
    try:
        with open(record, "rb") as file:
            written = file.read()
    except FileNotFoundError:
        raise PermanentFailure(f"{control}: pluq migrate --write has written nothing here") from None
    done = _keep_edited(path, written)
    if os.path.lexists(backup):
        os.rename(backup, path)
        done += f"{path} is again what it was"
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        done += f"{path} is gone, as before"
    os.unlink(record)
    fsync_dir(control)
    return done


def _keep_edited(path: str, written: bytes) -> str:
    try:
        with open(path, "rb") as file:
            if file.read() == written:
                return ""
    except FileNotFoundError:
        return ""
    os.rename(path, f"{path}.edited")
    return f"what was edited is kept as {path}.edited; "
