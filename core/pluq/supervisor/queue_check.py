"""Finding and mending what is wrong with a queue directory that nobody uses at the moment.

    folders    missing ones, owners, modes; the locks, the trigger
    journal    what a killed queue daemon left
    strangers  names that are no message number, and files of a message that does not exist: put aside in queue/stray
    numbers    a message is named by its inode number: after a restore from a copy all of them are wrong; so are the folders
               of all messages when the split was changed
    files      owners and modes of message files

Nothing is ever deleted. Each finding says what is wrong and what would be done; whoever wants it done calls `repair`.

Renaming survives a crash at any point: first every file of a message gets its new name with RENAMED added, the message file last;
when no old name is left, the ending goes, from the message file first. A second run finds each message in one of these states and carries on.

Source: INTERNALS of qmail; the queue-fix program of E. Huss, whose job this does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import NamedTuple

from pluq.config import Home, Ids
from pluq.errors import TemporaryFailure
from pluq.queue import recovery
from pluq.queue.layout import DEFAULT_SPLIT, QueueLayout
from pluq.supervisor.hier import FILES, FOLDERS, SPLIT_FOLDERS, TRIGGER

RENAMED = ".renamed"
STRAY = "stray"
STRAY_MODE = 0o700
BIGTODO = ("todo", "intd")
KINDS = ("info", "local", "remote", "bounce", "todo", "intd")  # of one message, beside mess
OWNERS = {"mess": "qmailq", "todo": "qmailq", "intd": "qmailq"}  # all others are the scheduler's
PART_DIGITS = 4
PUBLIC_MODE = 0o644
PRIVATE_MODE = 0o600


def nothing() -> None:
    """Repair what has to be told only."""


@dataclass(frozen=True)
class Finding:
    """One fault: where, what is wrong, what is done about it, and the doing. `repair` raises OSError."""

    path: str
    fault: str
    cure: str
    repair: Callable[[], None] = field(default=nothing, compare=False)

    def __str__(self) -> str:
        return f"{self.path}: {self.fault}; {self.cure}"


class Entry(NamedTuple):
    """A name below one kind of folder: `place` is the path below the queue."""

    kind: str
    place: str
    name: str


class QueueCheck:
    """The checks of one queue. `split` overrides what the folders say."""

    def __init__(self, home: Home, ids: Ids, split: int | None = None) -> None:
        self.base = home.queue
        self.ids = ids
        self.layout = QueueLayout(home.queue, split or find_split(home.queue))

    def steps(self) -> Iterator[list[Finding]]:
        """Yield the findings step by step: a step sees what the repair of the ones before it has changed."""
        yield [*self.folders(), *self.locks()]
        yield self.journal()
        yield self.strangers()
        yield self.numbers()
        yield self.unfinished()
        yield self.files()

    # the journal

    def journal(self) -> list[Finding]:
        """What a queue daemon that was killed had promised, and nobody has put into the queue yet."""
        if not recovery.is_needed(self.layout):
            return []
        fault, cure = "a queue daemon that was killed left its journal", "the next start puts its mail into the queue"
        return [Finding(self.layout.pool, fault, cure, lambda: recovery.report(recovery.recover(self.layout)))]

    # folders and locks

    def folders(self) -> list[Finding]:
        """Every folder with its owner and mode."""
        found: list[Finding] = []
        for path, owner, mode in FOLDERS:
            below, _, name = path.partition("/")
            if below != "queue":
                continue
            parts = path in SPLIT_FOLDERS or (self.layout.todo_split and name in BIGTODO)
            places = [name, *(f"{name}/{number}" for number in range(self.layout.split))] if parts else [name]
            for place in places:
                found += self._folder(place, owner, mode)
        return found

    def _folder(self, place: str, owner: str, mode: int) -> list[Finding]:
        path = self._path(place)
        if os.path.isdir(path):
            return self._rights(place, owner, mode)

        def make() -> None:
            os.mkdir(path)
            self._give(path, owner, mode)

        return [Finding(place or ".", "is missing", "it is made", make)]

    def locks(self) -> list[Finding]:
        """The lock files and the FIFO that wakes the scheduler."""
        found: list[Finding] = []
        for path, owner, mode, size in FILES:
            found += self._lock(path.removeprefix("queue/"), owner, mode, size)
        path, owner, mode = TRIGGER
        return found + self._trigger(path.removeprefix("queue/"), owner, mode)

    def _lock(self, place: str, owner: str, mode: int, size: int) -> list[Finding]:
        path = self._path(place)

        def make() -> None:
            with open(path, "ab") as file:
                file.truncate(size)
            self._give(path, owner, mode)

        status = look(path)
        if status is None:
            return [Finding(place, "is missing", "it is made", make)]
        if size and status.st_size != size:
            return [Finding(place, f"is {status.st_size} bytes long", f"it gets its {size}", make)]
        return self._rights(place, owner, mode)

    def _trigger(self, place: str, owner: str, mode: int) -> list[Finding]:
        path = self._path(place)
        status = look(path)

        def make() -> None:
            if status is not None:
                os.rename(path, self._aside(place))
            os.mkfifo(path)
            self._give(path, owner, mode)

        if status is None:
            return [Finding(place, "is missing", "it is made", make)]
        if not stat.S_ISFIFO(status.st_mode):
            return [Finding(place, "is no FIFO", f"it goes to {STRAY}/ and one is made", make)]
        return self._rights(place, owner, mode)

    # message files

    def strangers(self) -> list[Finding]:
        """What is no file of a message."""
        messages = {entry.name for entry in self._entries("mess")}
        found = []
        for kind in ("mess", *KINDS):
            kept: dict[str, Entry] = {}
            for entry in sorted(self._entries(kind), key=self._is_misplaced):
                fault = self._strangeness(entry, messages, kept)
                if fault:
                    found.append(
                        Finding(entry.place, fault, f"it goes to {STRAY}/", partial(self._put_aside, entry.place))
                    )
                kept.setdefault(entry.name, entry)
        return found

    def _is_misplaced(self, entry: Entry) -> bool:
        number = number_of(entry.name)
        return number is None or entry.place != self._place(entry.kind, number)

    def _strangeness(self, entry: Entry, messages: set[str], kept: dict[str, Entry]) -> str | None:
        status = look(self._path(entry.place))
        if status is None or not stat.S_ISREG(status.st_mode):
            return "is no file"
        if entry.name.endswith(RENAMED):
            return None
        if number_of(entry.name) is None:
            return "is not named by a number"
        if entry.name in kept:
            return f"is there twice, also as {kept[entry.name].place}"
        return None if entry.name in messages else f"there is no message {entry.name}"

    def numbers(self) -> list[Finding]:
        """Messages whose files have another name or place than the inode number of the message file asks for."""
        found = []
        beside = {kind: list(self._entries(kind)) for kind in KINDS}
        for message in self._entries("mess"):
            if number_of(message.name) is None:
                continue
            number = os.lstat(self._path(message.place)).st_ino
            files = [entry for kind in KINDS for entry in beside[kind] if entry.name == message.name]
            # The message file last: as long as it has its old name, the others can be found again.
            moves = [
                (entry.place, wanted)
                for entry in (*files, message)
                if entry.place != (wanted := self._place(entry.kind, number))
            ]
            if moves:
                fault = (
                    f"its inode number is {number}" if message.name != str(number) else "one of its files is misplaced"
                )
                names = ", ".join(wanted for _, wanted in moves)
                found.append(Finding(message.place, fault, f"it becomes {names}", partial(self._move, moves)))
        return found

    def _move(self, moves: list[tuple[str, str]]) -> None:
        for place, wanted in moves:
            rename_to_new(self._path(place), self._path(wanted) + RENAMED)

    def unfinished(self) -> list[Finding]:
        """Files that have their new name but for the ending: of this repair, or of one that was interrupted."""
        return [
            Finding(entry.place, "a repair was interrupted", "it is finished", partial(self._finish, entry.place))
            for kind in ("mess", *KINDS)
            for entry in self._entries(kind)
            if entry.name.endswith(RENAMED)
        ]

    def _finish(self, place: str) -> None:
        rename_to_new(self._path(place), self._path(place.removesuffix(RENAMED)))

    def files(self) -> list[Finding]:
        """Owners and modes of the files of messages."""
        found: list[Finding] = []
        for kind in ("mess", *KINDS):
            owner = OWNERS.get(kind, "qmails")
            for entry in self._entries(kind):
                found += self._file_rights(entry, owner, PUBLIC_MODE if kind in OWNERS else PRIVATE_MODE)
        return found

    def _file_rights(self, entry: Entry, owner: str, mode: int) -> list[Finding]:
        status = look(self._path(entry.place))
        if status is None or not stat.S_ISREG(status.st_mode):
            return []
        if self._owned(status, owner) and readable(status, mode, self.ids.gid["qmail"]):
            return []
        return self._rights(entry.place, owner, mode, group=True)

    # what all of them need

    def _path(self, place: str) -> str:
        return f"{self.base}/{place}" if place else self.base

    def _place(self, kind: str, number: int) -> str:
        path: str = getattr(self.layout, kind)(number)
        return path[len(self.base) + 1 :]

    def _entries(self, kind: str) -> Iterator[Entry]:
        split = f"queue/{kind}" in SPLIT_FOLDERS or (self.layout.todo_split and kind in BIGTODO)
        for folder in [f"{kind}/{part}" for part in part_numbers(self._path(kind))] if split else [kind]:
            try:
                names = sorted(os.listdir(self._path(folder)))
            except FileNotFoundError:
                continue
            yield from (Entry(kind, f"{folder}/{name}", name) for name in names)

    def _owned(self, status: os.stat_result, owner: str) -> bool:
        return os.geteuid() != 0 or status.st_uid == self._uid(owner)

    def _uid(self, owner: str) -> int:
        return 0 if owner == "root" else self.ids.uid[owner]

    def _rights(self, place: str, owner: str, mode: int, group: bool = False) -> list[Finding]:
        """Return a finding if owner or mode is another; the group counts for folders and locks only with `group`."""
        path = self._path(place)
        status = os.lstat(path)
        is_mode = stat.S_IMODE(status.st_mode)
        if self._owned(status, owner) and is_mode == mode and not group:
            return []
        fault = f"belongs to uid {status.st_uid} with mode {is_mode:o}"
        cure = f"it gets {owner if os.geteuid() == 0 else 'the caller'} and mode {mode:o}"
        return [Finding(place or ".", fault, cure, partial(self._give, path, owner, mode))]

    def _give(self, path: str, owner: str, mode: int) -> None:
        if os.geteuid() == 0:
            os.chown(path, self._uid(owner), self.ids.gid["qmail"], follow_symlinks=False)
        os.chmod(path, mode)

    def _aside(self, place: str) -> str:
        """Return an unused path in queue/stray for the file at `place`."""
        folder = self._path(STRAY)
        if not os.path.isdir(folder):
            os.mkdir(folder)
            self._give(folder, "qmailq", STRAY_MODE)
        path = f"{folder}/{place.replace('/', '.')}"
        endings = ("" if number == 0 else f".{number}" for number in count())
        return next(path + ending for ending in endings if not os.path.lexists(path + ending))

    def _put_aside(self, place: str) -> None:
        os.rename(self._path(place), self._aside(place))


def number_of(name: str) -> int | None:
    """Return the message number that a file name is, or None."""
    return int(name) if name.isascii() and name.isdigit() and name == name.lstrip("0") else None


def look(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def readable(status: os.stat_result, mode: int, qmail: int) -> bool:
    """Say whether a message file can be read by those who must, and written by nobody else.

    What is public may instead be readable for the group qmail alone, which all programs of the queue are in.
    """
    bits = stat.S_IMODE(status.st_mode)
    if bits & 0o600 != 0o600 or bits & 0o022:
        return False
    return mode == PRIVATE_MODE or bool(bits & 0o004) or (status.st_gid == qmail and bool(bits & 0o040))


def rename_to_new(path: str, target: str) -> None:
    """Rename, but never over another file. Raises FileExistsError."""
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, "has the name that another file must get", target)
    os.rename(path, target)


def find_split(queue: str) -> int:
    """Return the split of a queue some of whose folders may be missing: one more than the largest number."""
    parts = [number for path in SPLIT_FOLDERS for number in part_numbers(f"{queue}/{path.removeprefix('queue/')}")]
    return max(parts) + 1 if parts else DEFAULT_SPLIT


def part_numbers(folder: str) -> list[int]:
    """Return the numbers of the part folders in a split folder, in order. A longer number can only be a misplaced message."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    numbers = [int(name) for name in names if name.isascii() and name.isdigit() and len(name) <= PART_DIGITS]
    return sorted(number for number in numbers if os.path.isdir(f"{folder}/{number}"))


@contextmanager
def unused(home: Home) -> Iterator[None]:
    """Keep the scheduler and the queue daemon out meanwhile. Raises TemporaryFailure if one of them runs."""
    held = []
    try:
        for path, who in ((f"{home.queue}/lock/sendmutex", "qmail-send"), (f"{home.queue}/pool", "the queue daemon")):
            try:
                held.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
                fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
            except FileNotFoundError:
                continue
            except BlockingIOError:
                raise TemporaryFailure(f"{who} is running; stop it first") from None
        yield
    finally:
        for descriptor in held:
            os.close(descriptor)
