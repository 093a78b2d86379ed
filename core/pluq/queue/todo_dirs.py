"""The folders of todo/: which of them hold names that no sync has made durable yet, and that sync.

Source: INTERNALS section 3 (what todo/ holds), conf-split (why it is many folders).
"""

from __future__ import annotations

import os

from pluq.queue.layout import QueueLayout
from pluq.store.durable import fsync

__all__ = ["TodoDirs"]


class TodoDirs:
    """Open folders, by path. A change that could not be synced is tried again with the next."""

    def __init__(self, layout: QueueLayout) -> None:
        self._fds = {path: os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in layout.todo_dirs()}
        self._changed: set[str] = set()

    def changed(self, path: str) -> None:
        """A name was made in, or removed from, a folder, and the journal does not vouch for it."""
        self._changed.add(path)

    def sync(self) -> bool:
        """Make every such change durable; return whether that worked."""
        changed, self._changed = self._changed, set()
        try:
            for path in changed:
                fsync(self._fds[path])
        except OSError:
            self._changed = changed
            return False
        return True

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
