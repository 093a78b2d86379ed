"""Group commit: many messages enter and leave the queue with two waits for the disk.

A message enters:                                    a crash now leaves
    the message is in pool/m<N>                      nothing
    envelope written to pool/e<N>
    pool/m<N> linked to mess/S/N                     S2, or nothing
    data of both files synced (the group at once)    S2
    pool/e<N> linked to todo/N                       S2 or S4: nobody was promised anything yet
    todo/ synced (once for the group)                S4: the submitter hears of success

A message leaves:
    todo/N unlinked                                  S4 or S2
    todo/ synced (with the next group, or soon)      S2
    mess/S/N unlinked                                S2 or nothing; only now may both files be used again

The last order matters: were the files written again while todo/N might still come back after a crash, the old envelope would
find a stranger's message under its number.

A group starts as soon as the one before is done and takes everything that has come meanwhile. Everything runs in one thread: while
it waits for the disk, requests wait in their sockets and form the next group.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from time import monotonic

from pluq.metrics import page
from pluq.queue import refusal
from pluq.queue.cleaner import remove_message, remove_todo
from pluq.queue.figures import Figures
from pluq.queue.groupsync import GroupSync
from pluq.queue.layout import RECYCLE_BYTES, QueueLayout
from pluq.queue.pool import Pool, Slot
from pluq.store.durable import fsync

__all__ = ["Commit", "Committer"]

# Messages that left may wait so long for a group whose sync they can share, or until they are so many.
LEAVE_SECONDS = 0.05
LEAVE_COUNT = 256

Answer = Callable[[int], None]


class Commit:
    """A message whose bytes are in a leased file, and its envelope in qmail-queue's form.

    `answer` is called once, with 0 when the message is durable, else with qmail-queue's exit code.
    """

    __slots__ = ("answer", "code", "envelope", "pid", "size", "slot", "todo", "uid")

    def __init__(self, slot: Slot, size: int, uid: int, pid: int, envelope: bytes, answer: Answer) -> None:
        self.slot = slot
        self.size = size
        self.uid = uid
        self.pid = pid
        self.envelope = envelope
        self.answer = answer
        self.code = 0
        self.todo = b""


class Committer:
    """The queue's only writer beside qmail-queue programs. `entered` hears of each new message: number, size, todo bytes."""

    def __init__(self, layout: QueueLayout, pool: Pool, entered: Callable[[int, int, bytes], bool]) -> None:
        self._layout = layout
        self._pool = pool
        self._entered = entered
        self._sync = GroupSync(pool.fd)
        self._todo_dirs = {path: os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in layout.todo_dirs()}
        self._dirty: set[str] = set()
        self._pending: list[Commit] = []
        self._hot: dict[int, Slot] = {}
        self._leaving: list[Slot] = []
        self._leaving_cold: list[int] = []
        self._settling: list[Answer] = []
        self._leave_at = 0.0
        mine = page()
        self._figures = None if mine is None else Figures(mine)

    def add(self, commit: Commit) -> None:
        """Take a message into the next group."""
        self._pending.append(commit)

    def is_due(self) -> bool:
        """Say whether a group should start now."""
        if self._pending or self._settling:
            return True
        leaving = len(self._leaving) + len(self._leaving_cold)
        return leaving > 0 and (leaving >= LEAVE_COUNT or monotonic() >= self._leave_at)

    def wait_seconds(self) -> float | None:
        """Return how long nothing will be due if nothing comes."""
        if self._leaving or self._leaving_cold:
            return max(0.0, self._leave_at - monotonic())
        return None

    def run_group(self) -> None:
        """Commit everything that has come, with one wait for data and one for names; then answer."""
        began = monotonic()
        group, self._pending = self._pending, []
        entering = [commit for commit in group if self._prepare(commit)]
        if entering:
            self._sync_data(entering)
            entering = [commit for commit in entering if commit.code == 0 and self._enter(commit)]
        leaving, self._leaving = self._leaving, []
        cold, self._leaving_cold = self._leaving_cold, []
        settling, self._settling = self._settling, []
        durable = self._sync_todo()
        if not durable:
            for commit in entering:
                commit.code = refusal.WRITE_ERROR
        for commit in group:
            self._close(commit)
        if self._figures is not None and group:
            self._figures.group([commit.code for commit in group], monotonic() - began)
        for answer in settling:
            answer(0 if durable else refusal.WRITE_ERROR)
        if durable:
            self._release(leaving, cold)
        else:
            self._leaving += leaving
            self._leaving_cold += cold

    # Entering

    def _prepare(self, commit: Commit) -> bool:
        """Complete both files and link the message to mess/ (S2)."""
        slot = commit.slot
        todo = b"u%d\0p%d\0%b" % (commit.uid, commit.pid, commit.envelope[:-1])
        try:
            size = os.fstat(slot.mess_fd).st_size
            if size < commit.size:
                raise OSError(5, "the message is shorter than its writer says")
            if size > commit.size:
                os.ftruncate(slot.mess_fd, commit.size)
            write_whole(slot.envelope_fd, todo)
            if len(todo) < slot.envelope_size:
                os.ftruncate(slot.envelope_fd, len(todo))
            slot.envelope_size = len(todo)
        except OSError:
            commit.code = refusal.WRITE_ERROR
            return False
        try:
            os.link(slot.pool_mess, slot.mess)
        except OSError:
            commit.code = refusal.MESS_ERROR
            return False
        commit.todo = todo
        return True

    def _sync_data(self, group: list[Commit]) -> None:
        files = [fd for commit in group for fd in (commit.slot.mess_fd, commit.slot.envelope_fd)]
        folders = {self._layout.mess_dir(commit.slot.number) for commit in group}
        failed = self._sync.sync(files, sorted(folders))
        if failed:
            for commit in group:
                if not failed.isdisjoint((commit.slot.mess_fd, commit.slot.envelope_fd)):
                    commit.code = refusal.WRITE_ERROR

    def _enter(self, commit: Commit) -> bool:
        """Link the envelope to todo/ (S4, but not for sure yet)."""
        slot = commit.slot
        try:
            os.link(slot.pool_envelope, slot.todo)
        except OSError:
            commit.code = refusal.TODO_ERROR
            return False
        self._dirty.add(slot.todo_dir)
        return True

    def _sync_todo(self) -> bool:
        """Make every change in todo/ durable."""
        dirty, self._dirty = self._dirty, set()
        try:
            for path in dirty:
                fsync(self._todo_dirs[path])
        except OSError:
            self._dirty = dirty
            return False
        return True

    def _close(self, commit: Commit) -> None:
        """Tell the submitter and qmail-send what became of a message."""
        slot = commit.slot
        if commit.code != 0:
            # A file that a sync failed on is not to be trusted again, and a half-entered message must not be delivered.
            self._dirty.add(slot.todo_dir)
            self._pool.discard(slot)
        commit.answer(commit.code)
        if commit.code != 0:
            return
        if self._entered(slot.number, commit.size, commit.todo) and commit.size <= RECYCLE_BYTES:
            self._hot[slot.number] = slot
        else:
            self._pool.release(slot)

    # Leaving

    def finish(self, number: int, recycle: bool = True) -> None:
        """The message is done with: its files go, durably, in the order that a crash cannot turn into a second delivery."""
        if not self._leaving and not self._leaving_cold:
            self._leave_at = monotonic() + LEAVE_SECONDS
        slot = self._hot.pop(number, None)
        if slot is not None and not recycle:
            self._pool.release(slot)
            slot = None
        try:
            if slot is None:
                remove_todo(self._layout, number)
                self._leaving_cold.append(number)
                self._dirty.add(self._layout.todo_dir(number))
            else:
                os.unlink(slot.todo)
                self._leaving.append(slot)
                self._dirty.add(slot.todo_dir)
        except FileNotFoundError:
            if slot is not None:
                self._pool.discard(slot)  # somebody took its envelope away
        except OSError:
            # The message stays where it is: qmail-send finds it again, at worst it is delivered twice.
            if slot is not None:
                self._pool.release(slot)

    def remove_stale(self, number: int) -> None:
        """Remove a message file that qmail-send saw without todo/N and info/N, unless it is ours or has become a message.

        It saw that a moment ago, and its clock may have jumped: then every file is old, also one that is just being committed.
        """
        if self._pool.holds(number) or os.path.lexists(self._layout.todo(number)):
            return
        with contextlib.suppress(OSError):
            remove_message(self._layout, number)

    def settle(self, number: int, answer: Answer) -> None:
        """The message is preprocessed (S4 to S5): todo/N and intd/N go. Answered with 0 when that is durable."""
        slot = self._hot.pop(number, None)
        if slot is not None:
            self._pool.release(slot)
        try:
            remove_todo(self._layout, number)
        except OSError:
            answer(refusal.WRITE_ERROR)
            return
        self._dirty.add(self._layout.todo_dir(number))
        self._settling.append(answer)

    def cool_down(self, keep: int = 0) -> None:
        """Let go of the oldest messages in the queue but `keep`: they become ordinary queue files."""
        for number in list(self._hot)[: len(self._hot) - keep]:
            self._pool.release(self._hot.pop(number))

    @property
    def hot_count(self) -> int:
        """How many messages in the queue have their files open here."""
        return len(self._hot)

    def _release(self, leaving: list[Slot], cold: list[int]) -> None:
        for slot in leaving:
            try:
                os.unlink(slot.mess)
            except OSError:
                self._pool.discard(slot)
                continue
            self._pool.recycle(slot)
        for number in cold:
            try:
                remove_message(self._layout, number)
            except OSError:
                continue  # S2: the cleaner takes it

    def close(self) -> None:
        """Finish what is under way and let go of everything."""
        while self._pending or self._settling or self._leaving or self._leaving_cold:
            before = len(self._leaving) + len(self._leaving_cold)
            self.run_group()
            if len(self._leaving) + len(self._leaving_cold) >= before > 0:
                break  # todo/ cannot be synced: S2 after the next start
        self.cool_down()
        for fd in self._todo_dirs.values():
            os.close(fd)


def write_whole(fd: int, data: bytes) -> None:
    """Write the file from its beginning, however the kernel cuts it. Raises OSError."""
    written = os.pwrite(fd, data, 0)
    while written < len(data):
        written += os.pwrite(fd, data[written:], written)
