"""Where the files of a message are in the queue directory.

    mess/S/N    the message                      info/S/N    sender, after preprocessing
    intd/N      envelope under construction      local/S/N   local recipients
    todo/N      envelope, complete               remote/S/N  remote recipients
    bounce/N    failure notes                    pool/       files of the queue daemon that are no message now
    pid/        files of qmail-queue             lock/       sendmutex, tcpto, trigger

N is the inode number of the message file, S is N modulo the split. qmail compiles the split in (23); here it is read from
the queue: the number of folders mess/0, mess/1... The big-todo patch splits todo and intd the same way; a folder todo/0
says so.

Source: INTERNALS, fmtqfn.c and conf-split of qmail.
"""

from __future__ import annotations

import os

__all__ = ["DEFAULT_SPLIT", "OSSIFIED", "RECYCLE_BYTES", "QueueLayout", "count_split"]

DEFAULT_SPLIT = 23
# Seconds after which whoever was writing a file must be dead: qmail-queue gives up after 24 hours.
OSSIFIED = 129600
# A message file up to this size may be used again for another message when its own has left the queue.
RECYCLE_BYTES = 65536


class QueueLayout:
    """Paths in one queue directory. `split` and `todo_split` are read from it when the object is made."""

    __slots__ = ("path", "split", "todo_split")

    def __init__(self, path: str, split: int | None = None, todo_split: bool | None = None) -> None:
        self.path = path
        self.split = count_split(path) if split is None else split
        self.todo_split = os.path.isdir(f"{path}/todo/0") if todo_split is None else todo_split

    def number_path(self, number: int) -> str:
        """Return "S/N", the form in which the spawn protocol names a message."""
        return f"{number % self.split}/{number}"

    def mess(self, number: int) -> str:
        return f"{self.path}/mess/{number % self.split}/{number}"

    def info(self, number: int) -> str:
        return f"{self.path}/info/{number % self.split}/{number}"

    def local(self, number: int) -> str:
        return f"{self.path}/local/{number % self.split}/{number}"

    def remote(self, number: int) -> str:
        return f"{self.path}/remote/{number % self.split}/{number}"

    def todo(self, number: int) -> str:
        return f"{self.todo_dir(number)}/{number}"

    def intd(self, number: int) -> str:
        return f"{self.path}/intd/{number % self.split}/{number}" if self.todo_split else f"{self.path}/intd/{number}"

    def bounce(self, number: int) -> str:
        return f"{self.path}/bounce/{number}"

    def todo_dir(self, number: int) -> str:
        """Return the folder that todo/N lies in: the one to sync after N was linked there."""
        return f"{self.path}/todo/{number % self.split}" if self.todo_split else f"{self.path}/todo"

    def mess_dir(self, number: int) -> str:
        return f"{self.path}/mess/{number % self.split}"

    def todo_dirs(self) -> list[str]:
        """Return every folder that holds todo files."""
        if self.todo_split:
            return [f"{self.path}/todo/{part}" for part in range(self.split)]
        return [f"{self.path}/todo"]

    @property
    def pool(self) -> str:
        return f"{self.path}/pool"

    @property
    def trigger(self) -> str:
        return f"{self.path}/lock/trigger"

    @property
    def sendmutex(self) -> str:
        return f"{self.path}/lock/sendmutex"


def count_split(path: str) -> int:
    """Return how many folders mess/ is split into: mess/0 up to the first that is missing."""
    split = 0
    while os.path.isdir(f"{path}/mess/{split}"):
        split += 1
    return split or DEFAULT_SPLIT
