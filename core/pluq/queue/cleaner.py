"""Removing files from the queue, with the queue owner's rights: what qmail-send asks qmail-clean to do.

    foop   the message was never queued, or is delivered: intd/N goes, then mess/N (to S1)
    todo   the message is preprocessed: intd/N goes, then todo/N (S4 to S5)

A file that is not there is fine: the request may be repeated after a crash.

Source: INTERNALS sections 4 to 6, qmail-clean.c.
"""

from __future__ import annotations

import os

from pluq.queue.layout import OSSIFIED, QueueLayout

__all__ = ["clean_pid", "remove_message", "remove_todo"]


def remove_message(layout: QueueLayout, number: int) -> None:
    """Remove intd/N and mess/N. Raises OSError."""
    _unlink(layout.intd(number))
    _unlink(layout.mess(number))


def remove_todo(layout: QueueLayout, number: int) -> None:
    """Remove intd/N and todo/N. Raises OSError."""
    _unlink(layout.intd(number))
    _unlink(layout.todo(number))


def clean_pid(layout: QueueLayout, now: float) -> None:
    """Remove what died writers left in pid/: files that nobody has read or written for 36 hours."""
    folder = f"{layout.path}/pid"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            if now >= os.stat(f"{folder}/{name}").st_atime + OSSIFIED:
                os.unlink(f"{folder}/{name}")
        except OSError:
            continue


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
