"""Every state that a power cut may leave, of a queue that the real committer and the real journal wrote: what does recovery make of it?

The calls that change files are watched while they work on a real folder. Of each file every content since its last sync is kept, of the
names every state. A crash then leaves

    of the names      any state since the last that was made durable: file systems with a journal keep the order
    of the bytes      each page of each file as it was at any moment since its last sync, and any of its lengths

which is more than ext4 and XFS allow. A checkpoint makes durable what was there when it began, and is over when the test says so.
After recovery each message that was promised is there once and whole, none is that of somebody else, and what has left stays away.
"""

import contextlib
import errno
import os
import random
import tempfile

import pytest

from pluq.queue import committer as committer_module
from pluq.queue import groupsync, recovery
from pluq.queue import journal as journal_module
from pluq.queue.committer import Committer
from pluq.queue.entering import Commit
from pluq.queue.journal import Journal
from pluq.queue.layout import RECYCLE_BYTES, QueueLayout
from pluq.queue.pool import Owner, Pool
from pluq.queue.records import parse_todo

PAGE = journal_module.PAGE_BYTES
STATES_A_CRASH = 4


class PowerCut(BaseException):
    """The machine stops before a call."""


class File:
    """One inode: what it held at each moment since its last sync."""

    def __init__(self):
        self.contents = [b""]

    def after_a_crash(self, dice):
        size = len(dice.choice(self.contents))
        pages = []
        for at in range(0, size, PAGE):
            page = dice.choice(self.contents)[at : at + PAGE]
            pages.append(page.ljust(PAGE, b"\0"))
        return b"".join(pages)[:size]


class Disk:
    """Watches the calls below a folder. `cut_before` is the number of the call that the power cut comes before."""

    def __init__(self, root, patch):
        self.root = root
        self.files = {}
        self.names = [{}]
        self.calls = 0
        self.cut_before = None
        self.full = False
        self.refuse_links = 0
        self.original = {name: getattr(os, name) for name in ("open", "pread", "fstat", "pwrite")}
        for name in ("open", "link", "unlink", "rename", "pwrite", "pwritev", "ftruncate", "fsync", "fdatasync"):
            patch.setattr(os, name, self.watched(getattr(os, name), getattr(self, name)))

    def watched(self, call, note):
        def work(*arguments, **options):
            self.step()
            return note(call, *arguments, **options)

        return work

    def step(self):
        self.calls += 1
        if self.calls == self.cut_before:
            raise PowerCut

    # Names

    def changed(self, change):
        names = dict(self.names[-1])
        change(names)
        self.names.append(names)

    def open(self, call, path, flags, *arguments, **options):
        is_new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
        fd = call(path, flags, *arguments, **options)
        if is_new:
            file = self.files[self.original["fstat"](fd).st_ino] = File()
            self.changed(lambda names: names.__setitem__(os.fsdecode(path), file))
        elif flags & os.O_TRUNC:
            self.wrote(fd)
        return fd

    def link(self, call, source, target):
        if self.refuse_links and b"/todo/" in os.fsencode(target):
            self.refuse_links -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        call(source, target)
        self.changed(lambda names: names.__setitem__(os.fsdecode(target), names[os.fsdecode(source)]))

    def unlink(self, call, path):
        call(path)
        self.changed(lambda names: names.pop(os.fsdecode(path)))

    def rename(self, call, source, target):
        call(source, target)
        self.changed(lambda names: names.__setitem__(os.fsdecode(target), names.pop(os.fsdecode(source))))

    # Bytes

    def wrote(self, fd):
        file = self.files.get(self.original["fstat"](fd).st_ino)
        if file is not None:
            file.contents.append(self.original["pread"](fd, 1 << 30, 0))

    def pwrite(self, call, fd, data, at):
        if self.full and at + len(data) > self.original["fstat"](fd).st_size and len(data) == PAGE and not any(data):
            raise OSError(errno.ENOSPC, "No space left on device")  # only a journal grows by zeros
        written = call(fd, data, at)
        self.wrote(fd)
        return written

    def pwritev(self, call, fd, pieces, at):
        written = call(fd, pieces, at)
        self.wrote(fd)
        return written

    def ftruncate(self, call, fd, size):
        call(fd, size)
        self.wrote(fd)

    # Syncs

    def fsync(self, call, fd):
        file = self.files.get(self.original["fstat"](fd).st_ino)
        if file is None:
            del self.names[:-1]  # a folder
        else:
            del file.contents[:-1]

    fdatasync = fsync

    def syncfs(self, fd):
        self.step()
        self.sync_all(self.everything())

    def everything(self):
        return self.names[-1], {file: file.contents[-1] for file in {*self.files.values(), *self.names[-1].values()}}

    def sync_all(self, everything):
        """Make durable what was there at a certain moment."""
        names, contents = everything
        for index, state in enumerate(self.names):
            if state is names:
                del self.names[:index]
                break
        for file, content in contents.items():
            for index, present in enumerate(file.contents):
                if present is content:
                    del file.contents[:index]
                    break

    def leave(self, folder, dice):
        """Make in another folder what a crash may leave."""
        for path, file in dice.choice(self.names).items():
            with open(folder + path.removeprefix(self.root), "wb") as out:
                out.write(file.after_a_crash(dice))


class Checkpoint:
    """One that takes its time."""

    def __init__(self, disk):
        self.disk = disk
        self.covered = disk.everything()
        self.over = False

    def done(self):
        return self.over

    def end(self):
        self.over = True
        self.disk.sync_all(self.covered)

    def result(self):
        self.end()


class Thread:
    def __init__(self, disk):
        self.disk = disk
        self.checkpoint = None

    def submit(self, work, *arguments):
        self.checkpoint = Checkpoint(self.disk)
        return self.checkpoint

    def shutdown(self):
        pass


class Message:
    """What the submitter, and qmail-send, know of one message."""

    def __init__(self, index, size):
        self.sender = b"sender-%d" % index
        self.text = b"text of %d " % index * (size // 8 + 1)
        self.number = 0
        self.code = None
        self.is_preprocessed = False
        self.is_finished = False
        self.has_left = False


def make_queue(path):
    """Return the layout of a small queue in a new folder."""
    for folder in ("pool", "todo", "intd", *(f"{kind}/{part}" for kind in ("mess", "info") for part in range(2))):
        os.makedirs(f"{path}/{folder}")
    return QueueLayout(path)


class Machine:
    """A queue, its daemon and a scheduler, up to the power cut."""

    def __init__(self, path, patch):
        self.layout = make_queue(path)
        self.now = 1000.0
        patch.setattr(journal_module, "monotonic", lambda: self.now)
        patch.setattr(committer_module, "monotonic", lambda: self.now)
        patch.setattr(journal_module, "SEGMENT_BYTES", 8 * PAGE)
        patch.setattr(journal_module, "STEP_BYTES", PAGE)
        patch.setattr(committer_module, "GROUP_BYTES", 6 * PAGE)
        patch.setattr(committer_module, "IDENTS", 2)
        self.disk = Disk(path, patch)
        patch.setattr(journal_module, "syncfs", self.disk.syncfs)
        patch.setattr(groupsync, "syncfs", self.disk.syncfs)
        self.pool = Pool(self.layout)
        self.owner = Owner()
        self.journal = Journal(self.layout.pool)
        self.journal._thread = self.thread = Thread(self.disk)
        self.messages = []
        self.tells = True
        self.committer = Committer(self.layout, self.pool, lambda *message: self.tells, self.journal)

    def present(self):
        return [message for message in self.messages if message.code == 0 and not message.is_finished]

    def enter(self, size):
        message = Message(len(self.messages), size)
        self.messages.append(message)
        slot = self.pool.lease(self.owner)
        message.number = slot.number
        os.pwrite(slot.mess_fd, message.text, 0)
        envelope = b"F" + message.sender + b"\0Tx\0\0"

        def answer(code):
            message.code = code

        self.committer.add(Commit(slot, len(message.text), 1, 2, envelope, answer))

    def finish(self, which):
        if present := self.present():
            message = present[which % len(present)]
            message.is_finished = True
            if os.path.exists(self.layout.info(message.number)):
                os.unlink(self.layout.info(message.number))
            self.committer.finish(message.number)

    def preprocess(self, which):
        if present := [message for message in self.present() if not message.is_preprocessed]:
            message = present[which % len(present)]
            path = self.layout.info(message.number)
            if not os.path.exists(path):
                fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
                os.pwrite(fd, b"F" + message.sender + b"\0", 0)
                os.fsync(fd)
                os.close(fd)
                folder = os.open(os.path.dirname(path), os.O_RDONLY)
                os.fsync(folder)
                os.close(folder)

            def answer(code):
                message.is_preprocessed = code == 0

            self.committer.settle(message.number, answer)
            while self.committer._settling:
                self.group()

    def group(self):
        if self.committer.is_due():
            self.committer.run_group()
        self.committer.rest()
        busy = {held.number for held in (*self.committer._finished, *self.committer._leaving)}
        for message in self.messages:
            is_told = not self.committer._void and not self.journal._unsynced
            if message.is_finished and message.number not in busy and is_told:
                message.has_left = True

    def do(self, what, number):
        if what == "enter":
            self.enter(1 + number * 90)
        elif what == "large":
            self.enter(RECYCLE_BYTES + 1)
        elif what == "finish":
            self.finish(number)
        elif what == "preprocess":
            self.preprocess(number)
        elif what == "group":
            self.group()
        elif what == "later":
            self.now += number / 10
        elif what == "checkpoint" and self.thread.checkpoint is not None:
            if not self.thread.checkpoint.over:
                self.thread.checkpoint.end()
        elif what == "cool":
            self.committer.cool_down(number % 3)
        elif what == "deaf":
            self.tells = not self.tells
        elif what == "full":
            self.disk.full = not self.disk.full
        elif what == "refuse":
            self.disk.refuse_links = 1

    def close(self):
        for name in ("open", "pread", "fstat", "pwrite"):
            assert getattr(os, name) is self.disk.original[name]
        self.committer._todo.close()
        os.close(self.pool.fd)
        os.close(self.journal._folder)
        for segment in self.journal._segments:
            os.close(segment.fd)


def check(machine, layout):
    """Recover what a crash left in a queue, and compare."""
    recovery.recover(layout)
    counts = {message.sender: 0 for message in machine.messages}
    texts = {message.sender: message.text for message in machine.messages}
    numbers = set()
    for number, todo in recovery.todo_files(layout):
        sender = parse_todo(todo).sender
        assert recovery.read_file(layout.mess(number)) == texts[sender], "a message is whole, and nobody else's"
        counts[sender] += 1
        numbers.add(number)
    for part in os.listdir(f"{layout.path}/info"):
        for name in os.listdir(f"{layout.path}/info/{part}"):
            sender = recovery.read_file(layout.info(int(name)))[1:-1]
            if int(name) not in numbers and os.path.exists(layout.mess(int(name))):
                assert recovery.read_file(layout.mess(int(name))) == texts[sender]
                counts[sender] += 1
    for message in machine.messages:
        count = counts[message.sender]
        assert count <= 1, "nothing is there twice"
        if message.code == 0 and not message.is_finished:
            assert count == 1, "what was promised is there"
        if message.has_left:
            assert count == 0, "what has left stays away"


def crash(machine, dice, folder):
    """Look at some of the states that the crash may have left."""
    for _ in range(STATES_A_CRASH):
        layout = make_queue(tempfile.mkdtemp(dir=folder))
        machine.disk.leave(layout.path, dice)
        with pytest.MonkeyPatch.context() as patch:
            # The files of a crash are copies here: their inodes have other numbers.
            patch.setattr(recovery, "has_own_inode", lambda layout, number: os.path.exists(layout.mess(number)))
            patch.setattr(os, "fsync", lambda fd: None)
            check(machine, layout)


WEIGHTS = {"enter": 8, "group": 8, "finish": 4, "later": 3, "checkpoint": 3, "preprocess": 2}
RARE = ("large", "cool", "deaf", "full", "refuse")
KINDS = [*(what for what, weight in WEIGHTS.items() for _ in range(weight)), *RARE]
HISTORIES = 25
MOST_STEPS = 160
MOST_CALLS = 700


@pytest.mark.parametrize("seed", range(12))
def test_whatever_a_power_cut_leaves_recovery_keeps_every_promise(tmp_path, seed):
    for history in range(HISTORIES):
        dice = random.Random(1000 * seed + history)
        steps = [(dice.choice(KINDS), dice.randrange(100)) for _ in range(dice.randrange(5, MOST_STEPS))]
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            run(steps, dice.randrange(MOST_CALLS), dice, folder)


def run(steps, calls, dice, folder):
    """Do the steps until the power is cut before one of the calls, or at the end."""
    with pytest.MonkeyPatch.context() as patch:
        machine = Machine(tempfile.mkdtemp(dir=folder), patch)
        machine.disk.cut_before = machine.disk.calls + 1 + calls
        with contextlib.suppress(PowerCut):
            for what, number in steps:
                machine.do(what, number)
    machine.close()
    crash(machine, dice, folder)
