"""The syncer: one process that waits for the disk in the name of all workers of qmail-lspawn.

A worker joins through the door, a socket that all of them inherit, and has a line of its own for each disk from then on. Packets, each with
open files:

    door     j   the far end of a new line, and a folder of the disk that the line is for
    line     h   a folder of the disk, which will be written to: it is kept open, so that no write error is missed
             s   files, or folders: make them safe
    answer       1 where the disk is held, 0 where it must be held again; then for each file 0 safe, 1 not

Each disk has a thread, so a slow one holds up nobody who uses another one. What has come on its lines while it was busy forms the next
group, which is synced by whatever is cheaper (queue.groupsync). No other thread has a part in that: handing over each request cost as much
as the rest of it.

It is nobody in particular (qmailp) and has nothing but descriptors to sync; when it dies, workers sync by themselves, and the next worker
gets a new one. It ends when nobody holds the door any more.

Source: docs/internals.md, "Local delivery"; syncfs(2).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import traceback
from typing import NamedTuple, NoReturn

from pluq.local.disks import HOLD, JOIN, MOST_FILES, SAFE, SYNC, sync_group
from pluq.local.packets import receive
from pluq.queue.groupsync import GroupSync

IDLE_SECONDS = 20.0
"""So long a disk that nobody uses is held: as long it cannot be unmounted."""
GROUP_FILES = 512
LOST = 1
PACKET_BYTES = 16
JOIN_FILES = 2
AT_ONCE = int(socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)


class Request(NamedTuple):
    """What a worker asks for, and the line on which it waits for the answer. The files are ours to close."""

    line: socket.socket
    what: bytes
    files: list[int]


class Disk:
    """One disk, the lines of its workers, and the thread that serves them. `group` syncs many files at once while the disk is held."""

    def __init__(self) -> None:
        self._lines = selectors.DefaultSelector()
        self._buffer = bytearray(PACKET_BYTES)
        self._group: GroupSync | None = None
        self._held = -1
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, line: socket.socket) -> None:
        """Serve one more worker. Called by another thread: the kernel takes it while ours waits."""
        self._lines.register(line, selectors.EVENT_READ)

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            traceback.print_exc()
            os._exit(1)  # the workers must not wait for an answer that never comes

    def _serve(self) -> NoReturn:
        while True:
            ready = self._lines.select(IDLE_SECONDS if self._group else None)
            if not ready and self._group:
                self._let_go()
            waiting: list[Request] = []
            count = 0
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                request = self._hear(key.fileobj)
                if request is not None:
                    waiting.append(request)
                    count += len(request.files)
                if count >= GROUP_FILES:
                    break
            self._carry_out(waiting)

    def _hear(self, line: socket.socket) -> Request | None:
        """Take one request; None at the end of the line."""
        try:
            what, files = receive(line, self._buffer, most_files=MOST_FILES)
        except OSError:
            what, files = b"", []
        if what in (HOLD, SYNC) and files:
            return Request(line, what, files)
        self._lines.unregister(line)
        line.close()
        for file in files:
            os.close(file)
        return None

    def _carry_out(self, waiting: list[Request]) -> None:
        wanted = [file for _, what, files in waiting if what == SYNC for file in files]
        was_held = self._group is not None
        lost = sync_group(self._group, wanted) if wanted else set()
        for line, what, files in waiting:
            if what == HOLD and self._group is None:
                self._hold(files[0])
            answer = bytes([was_held or what == HOLD, *(LOST if file in lost else SAFE for file in files)])
            with contextlib.suppress(OSError):  # the worker has died
                line.send(answer, AT_ONCE)
            for file in files:
                os.close(file)

    def _hold(self, folder: int) -> None:
        self._held = os.dup(folder)
        self._group = GroupSync(self._held)

    def _let_go(self) -> None:
        os.close(self._held)
        self._group = None


class Syncer:
    """Takes workers and gives each to its disk."""

    def __init__(self, door: socket.socket) -> None:
        self.door = door
        self.disks: dict[int, Disk] = {}

    def serve(self) -> None:
        """Serve until nobody holds the door."""
        buffer = bytearray(PACKET_BYTES)
        while True:
            try:
                what, files = receive(self.door, buffer, most_files=MOST_FILES)
            except OSError:
                return
            if not what:
                return
            if what == JOIN and len(files) == JOIN_FILES:
                line, folder = files
                self._disk_of(folder).add(socket.socket(fileno=line))
                files = [folder]
            for file in files:
                os.close(file)

    def _disk_of(self, folder: int) -> Disk:
        device = os.fstat(folder).st_dev
        disk = self.disks.get(device)
        if disk is None:
            disk = self.disks[device] = Disk()
        return disk
