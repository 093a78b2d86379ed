"""What the programs around fastforward share: defaults from control files, files replaced whole, failures told and coded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pluq.commands.terminal import die, or_die

if TYPE_CHECKING:
    from pluq.mail.aliases import Defaults

__all__ = ["failures_end", "read_defaults", "replace_cdb", "replace_file"]


@contextmanager
def failures_end(fatal: str) -> Iterator[None]:
    """Turn a failure in the block into the end of the program: 100 for a permanent one, 111 for any other."""
    from pluq.errors import ConfigError, PermanentFailure, TemporaryFailure

    try:
        yield
    except PermanentFailure as error:
        die(100, fatal, error.text)
    except TemporaryFailure as error:
        die(111, fatal, error.text)
    except ConfigError as error:
        die(111, fatal, f"unable to read {error.file}: {error.why}")


def read_defaults(fatal: str, environment: bool = False) -> Defaults:
    """Return what completes addresses; with `environment` the variables of qmail-inject count more than the control files."""
    from pluq.config import Home
    from pluq.mail.aliases import Defaults

    home = Home.from_environment()
    with or_die(fatal, "unable to chdir to ", home.path):
        os.stat(f"{home.path}/.")
    me = home.controls.me() or b"me"

    def setting(name: str) -> bytes:
        line = home.controls.line(name)
        variable = os.environb.get(b"QMAIL" + name.upper().encode()) if environment else None
        if variable is not None:
            return variable
        return me if line is None else line

    return Defaults(setting("defaulthost"), setting("defaultdomain"), setting("plusdomain"))


def replace_file(fatal: str, path: str, temporary: str, chunks: Iterable[bytes]) -> None:
    """Write `temporary`, readable by all, sync it, and put it in the place of `path`."""
    with or_die(fatal, "unable to create ", temporary):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_TRUNC | os.O_CREAT, 0o644)
    with open(descriptor, "wb") as file, or_die(fatal, "unable to write to ", temporary):
        file.writelines(chunks)
        file.flush()
        os.fsync(descriptor)
    with or_die(fatal, "unable to move ", temporary, " to ", path):
        os.rename(temporary, path)


def replace_cdb(fatal: str, path: str, temporary: str, pairs: Iterable[tuple[bytes, bytes]]) -> None:
    """Write a database in the same way."""
    from pluq.store.cdb import write_cdb

    try:
        write_cdb(path, pairs, temporary)
    except OSError as error:
        if error.filename2 is not None:
            die(111, fatal, "unable to move ", temporary, " to ", path, ": ", error)
        die(111, fatal, "unable to write to ", temporary, ": ", error)
