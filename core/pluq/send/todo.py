"""Preprocessing: from todo/N (S4) to info/N, local/N and remote/N (S5).

    write     info/N (sender; its time is the message's birth), local/N, remote/N: T for whom to try, D for who is done
    sync      these files and their folders, together for all messages of a turn
    remove    todo/N, by its owner: at that moment the message is preprocessed

Until todo/N is gone whatever lies in the other three is rubbish, and the next start begins again; so a crash repeats work and
loses none.

Source: INTERNALS section 4; todo_do in qmail-send.c.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pluq import log
from pluq.errors import ProtocolError
from pluq.queue.records import encode_info
from pluq.send.common import CHANNELS, Common, exists
from pluq.send.ending import Ending
from pluq.send.jobs import Jobs
from pluq.send.recipients import Records
from pluq.send.remover import Remover
from pluq.send.syncing import SyncBatch
from pluq.store import durable

BUFFER_BYTES = 65536


class StepError(Exception):
    """One step of preprocessing failed: what was wrong with which file. The message stays in todo."""

    def __init__(self, what: str, path: str) -> None:
        super().__init__(what)
        self.what = what
        self.path = path


@dataclass
class Preprocessed:
    """A message whose files are written. `offsets`: for each channel the caller's mark of a recipient and where it stands."""

    number: int
    offsets: dict[int, list[tuple[int, int]]] = field(default_factory=dict)


Finished = Callable[[Preprocessed | None], None]
"""Called when the message is in S5; with None when it is not, and everything is as before."""


class RecipientFile:
    """local/N or remote/N being written."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = create(path)
        self._buffer: list[bytes] = []
        self._buffered = 0
        self.size = 0

    def add(self, address: bytes, done: bool) -> int:
        """Add a recipient; returns its offset."""
        record = b"%b%b\0" % (b"D" if done else b"T", address)
        offset = self.size
        self.size += len(record)
        self._buffered += len(record)
        self._buffer.append(record)
        if self._buffered >= BUFFER_BYTES:
            self._flush()
        return offset

    def _flush(self) -> None:
        write(self._descriptor, b"".join(self._buffer), self._path)
        self._buffer.clear()
        self._buffered = 0

    def finish(self, batch: SyncBatch, due: int) -> None:
        """Write the rest, set the time of the next try, and leave the file to the batch."""
        self._flush()
        set_time(self._descriptor, due, self._path)
        batch.add_file(self._descriptor)
        batch.add_folder(os.path.dirname(self._path))
        self._descriptor = -1

    def abandon(self) -> None:
        """Leave the file as it is."""
        if self._descriptor >= 0:
            os.close(self._descriptor)


class Preprocessor:
    """Writes the three files, for messages of any size, and sees them through to S5."""

    def __init__(self, common: Common, jobs: Jobs, ending: Ending, remover: Remover, batch: SyncBatch) -> None:
        self._common = common
        self._jobs = jobs
        self._ending = ending
        self._remover = remover
        self._batch = batch
        self._written: list[tuple[Preprocessed, Finished]] = []
        self._leaving: dict[int, tuple[Preprocessed, Finished]] = {}
        self._begun: set[int] = set()

    def knows(self, number: int) -> bool:
        """Say whether a message is on its way to S5."""
        return number in self._leaving or any(written.number == number for written, _finished in self._written)

    def has_begun(self, number: int) -> bool:
        """Say whether files of a message in todo/ may have been written, also by an attempt that failed."""
        return number in self._begun

    @property
    def settled(self) -> bool:
        """Nothing is on its way to S5."""
        return not (self._written or self._leaving)

    # The classic way: straight from todo/N

    def preprocess(self, number: int) -> None:
        """Preprocess a message as qmail does: all recipients are to be tried, now."""
        try:
            self._preprocess(number)
        except StepError as error:
            self._common.warn(error.what, error.path)

    def _preprocess(self, number: int) -> None:
        common, layout = self._common, self._common.layout
        path = layout.todo(number)
        try:
            records = Records(path)
        except OSError as error:
            raise StepError("unable to open", path) from error
        files: dict[int, RecipientFile] = {}
        info = -1
        try:
            size = message_size(layout.mess(number))
            self._clear(number)
            info = create(layout.info(number))
            common.log(log.new_message(number))
            self._copy(number, size, read_all(records, path), info, files)
            self._batch.add_file(info)
            self._batch.add_folder(os.path.dirname(layout.info(number)))
            info = -1
            for file in files.values():
                file.finish(self._batch, self._common.now)
        finally:
            records.close()
            if info >= 0:
                os.close(info)
            for file in files.values():
                file.abandon()
        self._written.append((Preprocessed(number, {channel: [] for channel in files}), self._wait))

    def _copy(
        self, number: int, size: int, records: Iterator[bytes], info: int, files: dict[int, RecipientFile]
    ) -> None:
        """Sort the records of todo/N into the new files."""
        common = self._common
        uid = pid = 0
        sender = None
        for record in records:
            letter, value = record[:1], record[1:]
            if letter == b"T":
                channel, address = common.settings.routing.route(value)
                if channel not in files:
                    files[channel] = RecipientFile(common.recipients_path(number, channel))
                files[channel].add(address, False)
            elif letter == b"F":
                sender = value
                write(info, encode_info(sender), common.layout.info(number))
                set_time(info, common.now, common.layout.info(number))
                common.log(log.info(number, size, sender, pid, uid))
            elif letter == b"u":
                uid = leading_number(value)
            elif letter == b"p":
                pid = leading_number(value)
            else:
                raise StepError("unknown record type in", common.layout.todo(number))
        if sender is None:
            # qmail-send would take it for preprocessed, and then try for ever to read the sender.
            raise StepError("trouble reading", common.layout.todo(number))

    def _wait(self, written: Preprocessed | None) -> None:
        """Let the recipients of a message that is in S5 be tried."""
        if written is None:
            return
        for channel in written.offsets:
            self._jobs.waiting[channel].add(self._common.now, written.number)
        if not written.offsets:
            self._ending.add(written.number)

    # After the fast path: with what is known already

    def write(
        self,
        number: int,
        sender: bytes,
        birth: int,
        recipients: list[tuple[int, bytes]],
        done: bytes | bytearray,
        finished: Finished,
    ) -> None:
        """Write the files of a message whose recipients were tried; `done` has a true byte for each that is done."""
        files: dict[int, RecipientFile] = {}
        written = Preprocessed(number)
        path = self._common.layout.info(number)
        try:
            self._clear(number)
            info = create(path)
            self._batch.add_file(info)
            self._batch.add_folder(os.path.dirname(path))
            write(info, encode_info(sender), path)
            set_time(info, birth, path)
            for mark, (channel, address) in enumerate(recipients):
                if channel not in files:
                    files[channel] = RecipientFile(self._common.recipients_path(number, channel))
                offset = files[channel].add(address, bool(done[mark]))
                written.offsets.setdefault(channel, []).append((mark, offset))
            for file in files.values():
                file.finish(self._batch, self._common.now)
        except StepError as error:
            self._common.warn(error.what, error.path)
            for file in files.values():
                file.abandon()
            finished(None)
            return
        self._written.append((written, finished))

    # The end of a turn

    def settle(self) -> None:
        """Make durable what this turn wrote, and have the todo files removed."""
        pairs = self._written
        if not pairs:
            return
        self._written = []
        durable_now = self._batch.commit()
        for written, finished in pairs:
            if not durable_now:
                self._common.warn("trouble fsyncing", self._common.layout.info(written.number))
                finished(None)
                continue
            self._leaving[written.number] = (written, finished)
        for written, _finished in pairs if durable_now else ():
            self._remover.remove_todo(written.number, self._removed)

    def _removed(self, number: int, done: bool) -> None:
        written, finished = self._leaving.pop(number)
        if done or self._has_left_todo(number):
            self._begun.discard(number)
            finished(written)
        else:
            finished(None)

    def _has_left_todo(self, number: int) -> bool:
        """Say whether a todo file is gone, although its owner is not sure that it will stay away.

        Then there is no way back: nobody would find the message in todo/. If a crash brings the file back, its recipients are tried once more.
        """
        try:
            return not exists(self._common.layout.todo(number))
        except OSError:
            return False

    def _clear(self, number: int) -> None:
        """Begin: remove what an earlier attempt left."""
        self._begun.add(number)
        for path in (
            *(self._common.recipients_path(number, channel) for channel in CHANNELS),
            self._common.layout.info(number),
        ):
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StepError("unable to unlink", path) from error


def message_size(path: str) -> int:
    """Return the bytes of a message. Raises StepError."""
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise StepError("unable to stat", path) from error


def create(path: str) -> int:
    """Return a descriptor of a new file. Raises StepError."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StepError("unable to create", path) from error


def write(descriptor: int, data: bytes, path: str) -> None:
    """Write all of it. Raises StepError."""
    try:
        durable.write_all(descriptor, data)
    except OSError as error:
        raise StepError("trouble writing to", path) from error


def set_time(descriptor: int, when: int, path: str) -> None:
    """Say when a message was born, or is due. Raises StepError."""
    try:
        os.utime(descriptor, (when, when))
    except OSError as error:
        raise StepError("trouble writing to", path) from error


def read_all(records: Records, path: str) -> Iterator[bytes]:
    """Yield the records of a todo file; an unfinished last one is not there yet. Raises StepError."""
    while True:
        try:
            found = records.next()
        except (OSError, ProtocolError) as error:
            raise StepError("trouble reading", path) from error
        if found is None:
            return
        yield found[1]


def leading_number(value: bytes) -> int:
    """Return the digits that a value begins with, 0 without any. What follows them is for later versions."""
    digits = value[: len(value) - len(value.lstrip(b"0123456789"))]
    return int(digits or b"0")
