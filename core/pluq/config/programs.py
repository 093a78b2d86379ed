"""Telling our programs from others by the same names: a stock qmail program, or a site's wrapper."""

from __future__ import annotations

import re

START_BYTES = 4096
OURS = re.compile(rb"^from (pluq\.commands|pluq_\w+)\b", re.MULTILINE)


def is_ours(path: str) -> bool:
    """Say whether the program at `path` is one of pluq's: a script that calls into pluq.commands, or into a plugin of its own."""
    try:
        with open(path, "rb") as file:
            return OURS.search(file.read(START_BYTES)) is not None
    except (IsADirectoryError, FileNotFoundError):
        return False
