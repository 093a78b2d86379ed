"""Group commit: many messages enter and leave the queue with one wait for the disk.

A small message enters:                              a crash now leaves
    the message is in pool/m<N>                      nothing
    envelope written to pool/e<N>
    both appended to the journal                     nothing after a power cut, the message after a kill
    the journal synced (once for the group)          the message: recovery.py puts it into the queue
    pool/m<N> linked to mess/S/N, e<N> to todo/N     S4, as far as the disk has it, and the rest from the journal
    the submitter hears of success

It leaves:
    appended to the journal
    todo/N unlinked                                  S4 or S2; S4 does not come back once the journal is synced
    the journal synced (with the next group, or soon)
    mess/S/N unlinked                                S2 or nothing; only now may both files be used again

A large one, or any without a journal or without our own qmail-send (another one removes messages behind our back, and the journal would
bring them back), waits twice, as qmail-queue does:
    pool/m<N> linked to mess/S/N; data of both files synced; pool/e<N> linked to todo/N; todo/ synced
    todo/N unlinked; todo/ synced; mess/S/N unlinked

The last order matters: were the files written again while todo/N might still come back after a crash, the old envelope would
find a stranger's message under its number.

A message that is preprocessed (S4 to S5) leaves the journal: its own files are synced first.

A group starts as soon as the one before is done and takes everything that has come meanwhile. Everything runs in one thread: while
it waits for the disk, requests wait in their sockets and form the next group.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from pluq.metrics import page
from pluq.queue import refusal
from pluq.queue.cleaner import remove_message, remove_todo
from pluq.queue.entering import Answer, Commit
from pluq.queue.figures import Figures
from pluq.queue.groupsync import GroupSync
from pluq.queue.journal import RECORD, Journal, JournalError, record
from pluq.queue.layout import RECYCLE_BYTES, QueueLayout
from pluq.queue.pool import Pool, Slot
from pluq.queue.todo_dirs import TodoDirs

__all__ = ["Committer"]

# Messages that left may wait so long for a group whose sync they can share, or until they are so many.
LEAVE_SECONDS = 0.05
LEAVE_COUNT = 256
# Those whose folder could not be synced wait so long for the next attempt.
AGAIN_SECONDS = 1.0
# A group is written to the journal in one piece, which has to fit into a segment.
GROUP_BYTES = 8 << 20

# While so many messages are on their way through, new ones wait for some to leave: files that are used again cost a third of new ones, and who
# delivers needs the processor more than who accepts. But not for long, and not where nothing leaves.
FLOW_COUNT = 256
FLOW_SECONDS = 0.05
STILL_SECONDS = 0.005
# Beyond so many, those that a checkpoint has made ordinary are looked for.
IDENTS = 1000


class Held(NamedTuple):
    """A message that is to leave todo/. `ident` is its own in the journal, 0 if it is not in there; `slot` its files, if open."""

    number: int
    ident: int
    slot: Slot | None


Settling = tuple[Held, Answer]


class Committer:
    """The queue's only writer beside qmail-queue programs. `entered` hears of each new message: number, size, todo bytes."""

    def __init__(
        self, layout: QueueLayout, pool: Pool, entered: Callable[[int, int, bytes], bool], journal: Journal | None
    ) -> None:
        self._layout = layout
        self._pool = pool
        self._entered = entered
        self._journal = journal
        self._sync = GroupSync(pool.fd)
        self._todo = TodoDirs(layout)
        self._pending: list[Commit] = []
        self._hot: dict[int, Slot] = {}
        self._idents: dict[int, int] = {}
        """Of messages that are in the journal, and whose files are not open here any more."""
        self.is_sole_remover = True
        """Messages leave the queue by us alone. One that leaves behind our back would be in the journal yet, and come back."""
        self._void: list[bytes] = []
        """Records that take back what was written of messages that were not accepted after all, or have left without a record."""
        self._finished: list[Held] = []
        self._leaving: list[Held] = []
        self._settling: list[Settling] = []
        self._leave_at = 0.0
        self._leave_count = LEAVE_COUNT
        self._came_at = self._left_at = 0.0
        self._is_closing = False
        self._most_idents = IDENTS
        mine = page()
        self._figures = None if mine is None else Figures(mine)

    def add(self, commit: Commit) -> None:
        """Take a message into the next group."""
        if not self._pending:
            self._came_at = monotonic()
        self._pending.append(commit)

    def is_due(self) -> bool:
        """Say whether a group should start now."""
        if self._settling or self._finished or (self._pending and self._hold_back() <= 0):
            return True
        return bool(self._leaving) and self._may_leave()

    @property
    def is_idle(self) -> bool:
        """Nothing is under way."""
        return not (self._pending or self.is_due())

    def _hold_back(self) -> float:
        """Return how many seconds new messages should wait for old ones to leave."""
        if len(self._hot) < FLOW_COUNT or self._is_closing:
            return 0.0
        return min(self._came_at + FLOW_SECONDS, self._left_at + STILL_SECONDS) - monotonic()

    def _may_leave(self) -> bool:
        return len(self._leaving) >= self._leave_count or monotonic() >= self._leave_at or self._is_closing

    def wait_seconds(self) -> float | None:
        """Return how long nothing will be due if nothing comes."""
        waits = [] if self._journal is None else [self._journal.wait_seconds()]
        if self._leaving:
            waits.append(max(0.0, self._leave_at - monotonic()))
        if self._pending:
            waits.append(max(0.0, self._hold_back()))
        return min((wait for wait in waits if wait is not None), default=None)

    def run_group(self) -> None:
        """Commit everything that has come, with one wait for the journal; then answer. Raises JournalError."""
        began = monotonic()
        group = self._take_group()
        finished, self._finished = self._finished, []
        settling, self._settling = self._settling, []
        entering = [commit for commit in group if commit.complete(self._ident_for(commit), self._journal is not None)]
        logged = [commit for commit in entering if commit.slot.ident]
        strict = [commit for commit in entering if not commit.slot.ident]
        settled = self._sync_own_files(settling)
        if not self._append(logged, finished, settled):
            strict, logged = strict + self._without_ids(logged), []
            finished, settled = self._leave_strictly(finished), self._refuse_to_settle(settled)
        self._leave_todo(finished)
        strict = self._enter_strictly(strict)
        if group or settled or self._may_leave():
            self._make_durable(logged, strict, settled)
        for commit in group:
            self._close(commit)
        if self._figures is not None and group:
            self._figures.group([commit.code for commit in group], monotonic() - began)

    def _take_group(self) -> list[Commit]:
        """Return what has come, or so much of it as one group may have."""
        if self._hold_back() > 0:
            return []
        size, count = 0, len(self._pending)
        for index, commit in enumerate(self._pending):
            size += commit.size + len(commit.envelope)
            if size > GROUP_BYTES and index:
                count = index
                break
        group, self._pending = self._pending[:count], self._pending[count:]
        return group

    def _append(self, logged: list[Commit], finished: list[Held], settled: list[Settling]) -> bool:
        """Write to the journal what this group does; False if that cannot be."""
        if self._journal is None:
            return True
        pieces = [
            *self._void,
            *(record(b"d", held.ident, held.number) for held in finished if held.ident),
            *(record(b"s", held.ident, held.number) for held, _answer in settled if held.ident),
        ]
        try:
            for commit in logged:
                slot = commit.slot
                pieces.append(RECORD.pack(b"m", slot.ident, slot.number, len(commit.todo), commit.size))
                pieces += commit.todo, commit.message()
            if pieces:
                self._journal.write(pieces)
        except OSError:
            return False
        self._void.clear()
        return True

    def _without_ids(self, logged: list[Commit]) -> list[Commit]:
        """The journal takes nothing now, as on a full disk: return the messages that can be entered without it."""
        return [commit for commit in logged if commit.complete(0, has_journal=True)]

    def _leave_strictly(self, finished: list[Held]) -> list[Held]:
        """The same for those that leave: the record is for later, so until todo/ is synced nothing of them is used again."""
        self._void += [record(b"d", held.ident, held.number) for held in finished if held.ident]
        return [held._replace(ident=0) for held in finished]

    def _refuse_to_settle(self, settled: list[Settling]) -> list[Settling]:
        """What is in the journal has to stay in todo/."""
        for held, answer in settled:
            if held.ident:
                self._idents[held.number] = held.ident
                answer(refusal.WRITE_ERROR)
        return [item for item in settled if not item[0].ident]

    def _make_durable(self, logged: list[Commit], strict: list[Commit], settled: list[Settling]) -> None:
        """Wait for the disk, then do what had to wait for that."""
        if self._journal is not None:
            self._journal.sync()
        for commit in logged:
            self._link(commit)
        self._take_back()
        settled = [item for item in settled if self._is_out_of_todo(item)]
        durable = self._todo.sync()
        if not durable:
            for commit in strict:
                commit.code = refusal.WRITE_ERROR
        for held, answer in settled:
            answer(0 if held.ident or durable else refusal.WRITE_ERROR)
        self._release(durable)

    def _take_back(self) -> None:
        """Have the journal forget messages that could not be linked, before anybody hears of that and their numbers are free."""
        if self._journal is not None and self._void:
            with contextlib.suppress(OSError):  # then with the next group
                self._journal.write(self._void)
                self._void = []
                self._journal.sync()

    # Entering

    def _ident_for(self, commit: Commit) -> int:
        """Return the id of a new message in the journal, 0 if it does not go there."""
        if self._journal is None or not self.is_sole_remover or commit.size > RECYCLE_BYTES:
            return 0
        return self._journal.next_ident()

    def _link(self, commit: Commit) -> None:
        """Give a message that the journal has its names. Where that fails nobody was promised anything, and the journal is told."""
        if not (commit.link_message() and commit.link_envelope()):
            self._void.append(record(b"d", commit.slot.ident, commit.slot.number))

    def _enter_strictly(self, group: list[Commit]) -> list[Commit]:
        """Put messages that the journal does not take into the queue; return those for which only the name in todo/ is to be synced."""
        group = [commit for commit in group if commit.link_message()]
        if not group:
            return group
        files = [fd for commit in group for fd in (commit.slot.mess_fd, commit.slot.envelope_fd)]
        folders = {self._layout.mess_dir(commit.slot.number) for commit in group}
        failed = self._sync.sync(files, sorted(folders))
        for commit in group:
            if not failed.isdisjoint((commit.slot.mess_fd, commit.slot.envelope_fd)):
                commit.code = refusal.WRITE_ERROR
        entered = [commit for commit in group if commit.code == 0 and commit.link_envelope()]
        for commit in entered:
            self._todo.changed(commit.slot.todo_dir)
        return entered

    def _close(self, commit: Commit) -> None:
        """Tell the submitter and qmail-send what became of a message."""
        slot = commit.slot
        if commit.code != 0:
            # A file that a sync failed on is not to be trusted again, and a half-entered message must not be delivered.
            self._todo.changed(slot.todo_dir)
            if commit.was_in_todo:
                self._pool.withdraw(slot)
            elif commit.was_in_mess:
                self._pool.discard(slot)
            else:
                self._pool.release(slot)  # a name that is there is somebody else's
        commit.answer(commit.code)
        if commit.code != 0:
            return
        is_told = self._entered(slot.number, commit.size, commit.todo)
        if is_told and commit.size <= RECYCLE_BYTES and (slot.ident or self._journal is None):
            self._hot[slot.number] = slot
        else:
            self._let_go(slot)

    # Leaving

    def _hold(self, number: int) -> Held:
        slot = self._hot.pop(number, None)
        return Held(number, self._idents.pop(number, 0) if slot is None else slot.ident, slot)

    def finish(self, number: int, recycle: bool = True) -> None:
        """The message is done with: its files go, durably, in the order that a crash cannot turn into a second delivery."""
        self._left_at = monotonic()
        held = self._hold(number)
        if held.slot is not None and not recycle:
            self._pool.release(held.slot)
            held = held._replace(slot=None)
        self._finished.append(held)

    def _leave_todo(self, finished: list[Held]) -> None:
        """Remove the envelopes of messages that are done with."""
        if finished:
            soon = monotonic() + LEAVE_SECONDS
            self._leave_at = min(self._leave_at, soon) if self._leaving else soon
        for held in finished:
            try:
                if held.slot is None:
                    self._remove_todo(held)
                else:
                    os.unlink(held.slot.todo)
                    self._note_removal(held)
            except FileNotFoundError:
                assert held.slot is not None
                self._pool.discard(held.slot)  # somebody took its envelope away
            except OSError:
                # The message stays where it is: qmail-send finds it again, at worst it is delivered twice.
                if held.slot is not None:
                    self._pool.release(held.slot)
            else:
                self._leaving.append(held)

    def _remove_todo(self, held: Held) -> None:
        remove_todo(self._layout, held.number)
        self._note_removal(held)

    def _note_removal(self, held: Held) -> None:
        """A name left todo/: its folder is to be synced, unless the journal knows of it."""
        if not held.ident:
            self._todo.changed(self._layout.todo_dir(held.number))

    def remove_stale(self, number: int) -> None:
        """Remove a message file that qmail-send saw without todo/N and info/N, unless it is ours, or has become a message,
        or is one whose todo file may come back yet.

        It saw that a moment ago, and its clock may have jumped: then every file is old, also one that is just being committed.
        """
        is_leaving = any(held.number == number for held in self._leaving)
        if is_leaving or self._pool.holds(number) or os.path.lexists(self._layout.todo(number)):
            return
        with contextlib.suppress(OSError):
            remove_message(self._layout, number)

    def settle(self, number: int, answer: Answer) -> None:
        """The message is preprocessed (S4 to S5): todo/N and intd/N go. Answered with 0 when that is durable, and what was finished before.

        No message has the number 0: it only asks for the answer.
        """
        held = self._hold(number)
        if number and not held.ident:
            if held.slot is not None:
                self._pool.release(held.slot)
                held = held._replace(slot=None)
            try:
                self._remove_todo(held)
            except OSError:
                answer(refusal.WRITE_ERROR)
                return
        self._settling.append((held, answer))

    def _sync_own_files(self, settling: list[Settling]) -> list[Settling]:
        """Make those durable that leave the journal; return those for which that was not needed or not in vain. The others are answered."""
        opened = {id(item): self._open_message(item[0]) for item in settling if item[0].ident}
        if not opened:
            return settling
        folders = {self._layout.mess_dir(held.number) for held, _answer in settling if held.ident}
        files = [fd for fd in opened.values() if fd >= 0]
        failed = {-1, *(self._sync.sync(files, sorted(folders)) if files else ())}
        settled = []
        for item in settling:
            held, answer = item
            fd = opened.get(id(item))
            if held.slot is not None:
                self._pool.release(held.slot)
            elif fd is not None and fd >= 0:
                os.close(fd)
            if fd in failed and fd != -1:
                # No second sync could be believed. Who recovers writes the files once more.
                raise JournalError(f"{self._layout.mess(held.number)}: unable to sync")
            if fd in failed:
                self._idents[held.number] = held.ident
                answer(refusal.WRITE_ERROR)
            else:
                settled.append(item)
        return settled

    def _is_out_of_todo(self, item: Settling) -> bool:
        """Take a message out of todo/ that has left the journal; False if that failed, and was answered."""
        held, answer = item
        if held.ident:
            try:
                self._remove_todo(held)
            except OSError:
                self._idents[held.number] = held.ident
                answer(refusal.WRITE_ERROR)
                return False
        return True

    def _open_message(self, held: Held) -> int:
        """Return a descriptor of a message file, -1 if there is none to be had."""
        if held.slot is not None:
            return held.slot.mess_fd
        try:
            return os.open(self._layout.mess(held.number), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1

    def cool_down(self, keep: int = 0) -> None:
        """Let go of the oldest messages in the queue but `keep`: they become ordinary queue files."""
        for number in list(self._hot)[: len(self._hot) - keep]:
            self._let_go(self._hot.pop(number))

    def _let_go(self, slot: Slot) -> None:
        # What another qmail-send took away may have left the id of a former message with this number.
        self._idents.pop(slot.number, None)
        if slot.ident:
            self._idents[slot.number] = slot.ident
        self._pool.release(slot)

    @property
    def hot_count(self) -> int:
        """How many messages in the queue have their files open here."""
        return len(self._hot)

    def _release(self, todo_is_durable: bool) -> None:
        """Remove the message files of what has left todo/ for good."""
        leaving, self._leaving = self._leaving, []
        for held in leaving:
            if not (held.ident or todo_is_durable):
                self._leaving.append(held)
            elif held.slot is None:
                with contextlib.suppress(OSError):  # S2: the cleaner takes it
                    remove_message(self._layout, held.number)
            else:
                self._recycle(held.slot)
        # What is left could not be synced.
        self._leave_at, self._leave_count = monotonic() + AGAIN_SECONDS, len(self._leaving) + LEAVE_COUNT

    def _recycle(self, slot: Slot) -> None:
        try:
            os.unlink(slot.mess)
        except OSError:
            self._pool.discard(slot)
            return
        self._pool.recycle(slot)

    def rest(self) -> None:
        """Nothing is under way: a checkpoint of the journal may begin. Raises JournalError."""
        if self._journal is None:
            return
        self._journal.rest()
        if len(self._idents) > self._most_idents:
            base = self._journal.durable_base
            self._idents = {number: ident for number, ident in self._idents.items() if ident >= base}
            self._most_idents = max(IDENTS, 2 * len(self._idents))

    def close(self) -> None:
        """Finish what is under way and let go of everything. Raises JournalError: then the next daemon has to see to it."""
        self._is_closing = True
        while self.is_due():
            before = len(self._finished) + len(self._leaving)
            self.run_group()
            if len(self._finished) + len(self._leaving) >= before > 0:
                break  # todo/ cannot be synced: S2 after the next start
        self.cool_down()
        self._todo.close()
        if self._journal is not None:
            self._journal.close()
