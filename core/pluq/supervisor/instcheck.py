"""pluq instcheck: what in an installed home is missing, or has a wrong owner, group, mode or type, in the words of qmail.

    instcheck: warning: /var/qmail/queue/todo has wrong permissions
    instcheck: warning: .../bin/qmail-smtpd does not exist

A program that is not ours is let be: it is there, and somebody decided how. Where there are no qmail users, owners are not looked at.

Source: instcheck.c of notqmail.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator

from pluq.config import Home, Ids
from pluq.config.programs import is_ours
from pluq.supervisor.hier import ROOT
from pluq.supervisor.manifest import Entry


def complaints(home: Home, ids: Ids, entries: Iterable[Entry]) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong."""
    for entry in entries:
        path = f"{home.path}/{entry.path}" if entry.path else home.path
        shown = f".../{entry.path}" if entry.source else path  # as qmail shows them
        try:
            status = os.stat(path)
        except FileNotFoundError:
            yield f"{shown} does not exist"
            continue
        except OSError as error:
            yield f"unable to stat .../{entry.path}: {os.strerror(error.errno or 0)}"
            continue
        for fault in faults(status, entry, ids, entry.is_program and not is_ours(path)):
            yield f"{shown} has wrong {fault}"


def faults(status: os.stat_result, entry: Entry, ids: Ids, is_foreign: bool) -> Iterator[str]:
    """Yield what is wrong with an existing path."""
    if not is_foreign:
        if not ids.single and status.st_uid != (0 if entry.owner == ROOT else ids.uid[entry.owner]):
            yield "owner"
        if not ids.single and status.st_gid != ids.gid["qmail"]:
            yield "group"
        if stat.S_IMODE(status.st_mode) != entry.mode:
            yield "permissions"
    if stat.S_IFMT(status.st_mode) != entry.kind:
        yield "type"
