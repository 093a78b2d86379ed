"""Telling our programs from others by the same names: a stock qmail program, or a site's wrapper."""

from __future__ import annotations

START_BYTES = 4096


def is_ours(path: str) -> bool:
    """Say whether the program at `path` is one of pluq's: a script that calls into pluq.commands."""
    try:
        with open(path, "rb") as file:
            return b"from pluq.commands." in file.read(START_BYTES)
    except (IsADirectoryError, FileNotFoundError):
        return False
