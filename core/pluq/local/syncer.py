"""The syncer: one process that waits for the disk in the name of all workers of qmail-lspawn.

A worker joins through the door, a socket that all of them inherit, and has a line of its own from then on. Packets, each with open files:

    door     j   the far end of a new line
    line     h   a folder of a disk that will be written to: it is kept open, so that no write error is missed
             s   files, or folders, of one disk: make them safe
    answer       1 where the disk is held, 0 where it must be held again; then for each file 0 safe, 1 not

What has come for a disk while it was busy forms the next group, which is synced by whatever is cheaper (queue.groupsync). Each disk has a thread,
so a slow one holds up nobody who uses another one.

It is nobody in particular (qmailp) and has nothing but descriptors to sync; when it dies, workers sync by themselves, and the next worker
gets a new one. It ends when nobody holds the door any more.

Source: DESIGN "Durability"; syncfs(2).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import traceback
from queue import Empty, SimpleQueue
from typing import NoReturn

from pluq.local.disks import HOLD, JOIN, MOST_FILES, SAFE, SYNC, sync_group
from pluq.local.packets import receive
from pluq.queue.groupsync import GroupSync

IDLE_SECONDS = 20.0
"""So long a disk that nobody uses is held: as long it cannot be unmounted."""
GROUP_FILES = 512
LOST = 1
PACKET_BYTES = 16


class Disk:
    """One disk and the requests for it. `group` syncs many files at once while the disk is held."""

    def __init__(self) -> None:
        self._requests: SimpleQueue[tuple[socket.socket, bytes, list[int]]] = SimpleQueue()
        self._group: GroupSync | None = None
        self._held = -1
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, line: socket.socket, what: bytes, files: list[int]) -> None:
        self._requests.put((line, what, files))

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            traceback.print_exc()
            os._exit(1)  # the workers must not wait for an answer that never comes

    def _serve(self) -> NoReturn:
        while True:
            try:
                waiting = [self._requests.get(timeout=IDLE_SECONDS if self._group else None)]
            except Empty:
                self._let_go()
                continue
            count = len(waiting[0][2])
            while count < GROUP_FILES and not self._requests.empty():
                waiting.append(self._requests.get())
                count += len(waiting[-1][2])
            self._carry_out(waiting)

    def _carry_out(self, waiting: list[tuple[socket.socket, bytes, list[int]]]) -> None:
        wanted = [file for _, what, files in waiting if what == SYNC for file in files]
        was_held = self._group is not None
        lost = sync_group(self._group, wanted) if wanted else set()
        for line, what, files in waiting:
            if what == HOLD and self._group is None:
                self._hold(files[0])
            answer = bytes([was_held or what == HOLD, *(LOST if file in lost else SAFE for file in files)])
            with contextlib.suppress(OSError):  # the worker has died
                line.send(answer, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            for file in files:
                os.close(file)

    def _hold(self, folder: int) -> None:
        self._held = os.dup(folder)
        self._group = GroupSync(self._held)

    def _let_go(self) -> None:
        os.close(self._held)
        self._group = None


class Syncer:
    """The loop: takes workers and their requests, gives each to its disk."""

    def __init__(self, door: socket.socket) -> None:
        self.door = door
        self.selector = selectors.DefaultSelector()
        self.disks: dict[int, Disk] = {}
        self._buffer = bytearray(PACKET_BYTES)

    def serve(self) -> None:
        """Serve until nobody holds the door."""
        self.selector.register(self.door, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if not self._hear(sock) and sock is self.door:
                    return

    def _hear(self, sock: socket.socket) -> bool:
        """Take one packet; False at the end of the socket."""
        try:
            what, files = receive(sock, self._buffer, most_files=MOST_FILES)
        except OSError:
            what, files = b"", []
        if not what:
            # A thread may be about to answer there: the last one who has the socket closes it.
            self.selector.unregister(sock)
        elif what == JOIN and sock is self.door and files:
            self.selector.register(socket.socket(fileno=files.pop()), selectors.EVENT_READ)
        elif what in (HOLD, SYNC) and sock is not self.door and files:
            self._disk_of(files[0]).add(sock, what, files)
            files = []
        for file in files:
            os.close(file)
        return bool(what)

    def _disk_of(self, file: int) -> Disk:
        device = os.fstat(file).st_dev
        disk = self.disks.get(device)
        if disk is None:
            disk = self.disks[device] = Disk()
        return disk
