"""One thing of a site and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """What becomes of one control file, variable, service, user table or .qmail file: `status` is one of pluq.migrate.fates."""

    kind: str
    name: str
    source: str
    status: str
    detail: str = ""
