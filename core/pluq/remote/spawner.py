"""qmail-rspawn as a program: commands on descriptor 0, reports on descriptor 1, a qmail-remote for each delivery.

    qmail-remote host sender recipient      descriptor 0 the message, 1 and 2 a pipe to us; bin/qmail-remote, or QMAILREMOTE

A delivery ends when its program has died and nobody holds the pipe any more; then it is reported. When the scheduler closes
descriptor 0 no more commands come; deliveries that run are finished first. If nobody reads the reports, deliveries go on.

Source: qmail-rspawn(8); spawn.c, qmail-rspawn.c of qmail.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from pluq.config import Home
from pluq.execvp import spawnvp
from pluq.remote import report
from pluq.remote.queued import open_queued
from pluq.store.oserror import is_temporary
from pluq.wire.spawn import Command, CommandDecoder, complaint, encode_limit, encode_report

# conf-spawn of stock qmail.
LIMIT = 120

# What a program may write; a report is cut at 10000 bytes by qmail-send anyway.
MAX_OUTPUT = 1 << 20
READ_BYTES = 65536

IN_USE = b"ZInternal error: delnum in use. (#4.3.5)\n"
NO_PIPE = b"Zqmail-spawn unable to create pipe. (#4.3.0)\n"


def remote_program(home: Home, environment: Mapping[str, str]) -> str:
    """Return the program that delivers: QMAILREMOTE, else the one in the home, else what PATH has."""
    chosen = environment.get("QMAILREMOTE")
    if chosen is not None:
        return chosen
    installed = f"{home.bin}/qmail-remote"
    return installed if os.access(installed, os.X_OK) else "qmail-remote"


def remote_arguments(program: str, sender: bytes, recipient: bytes) -> list[bytes]:
    """Return argv of one delivery. The host is what follows the last @."""
    return [os.fsencode(program), recipient.rpartition(b"@")[2], sender, recipient]


@dataclass(slots=True)
class Child:
    """One delivery: the pipe's two ends and the process (0 when it has died, with `status`)."""

    number: int
    reading: int
    writing: int
    pid: int
    status: int = 0
    output: bytearray = field(default_factory=bytearray)


class Spawner:
    """The loop. `directory` is queue/mess, `owner` the uid that message files must have."""

    def __init__(self, program: str, directory: bytes, owner: int) -> None:
        self.program = program
        self.directory = directory
        self.owner = owner
        self._children: dict[int, Child] = {}
        self._decoder = CommandDecoder()
        self._selector = selectors.DefaultSelector()
        self._is_heard = True

    def run(self) -> None:
        """Serve descriptors 0 and 1 until no command can come and all deliveries have ended."""
        wakeup, alarm = socket.socketpair()
        wakeup.setblocking(False)
        alarm.setblocking(False)
        signal.set_wakeup_fd(alarm.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._say(encode_limit(LIMIT))
        self._selector.register(wakeup, selectors.EVENT_READ, lambda: self._bury(wakeup))
        self._register_commands()
        while self._children or self._commands_come:
            for key, _ in self._selector.select():
                key.data()

    _commands_come = True

    def _register_commands(self) -> None:
        try:
            self._selector.register(0, selectors.EVENT_READ, self._take_commands)
        except PermissionError:  # a file on descriptor 0 is always ready, and epoll does not take it
            while self._commands_come:
                self._take_commands()

    def _take_commands(self) -> None:
        data = os.read(0, READ_BYTES)
        for command in self._decoder.feed(data):
            refused = self._start(command)
            if refused is not None:
                self._say(encode_report(command.number, refused))
        if not data:
            self._commands_come = False
            if 0 in self._selector.get_map():
                self._selector.unregister(0)

    def _start(self, command: Command) -> bytes | None:
        """Start one delivery; return the report if it cannot be."""
        if command.number in self._children:
            return IN_USE
        refused = complaint(command, LIMIT)
        if refused is not None:
            return refused
        opened = open_queued(self.directory + b"/" + command.message, self.owner)
        if isinstance(opened, bytes):
            return opened
        message, _ = opened
        try:
            reading, writing = os.pipe()
        except OSError:
            os.close(message)
            return NO_PIPE
        child = Child(command.number, reading, writing, 0)
        self._execute(child, message, remote_arguments(self.program, command.sender, command.recipient))
        os.close(message)
        self._children[command.number] = child
        self._selector.register(reading, selectors.EVENT_READ, lambda: self._read(child))
        return None

    def _execute(self, child: Child, message: int, arguments: list[bytes]) -> None:
        """Start the program. One that cannot be started is a child that died at once."""
        actions = [
            (os.POSIX_SPAWN_DUP2, message, 0),
            (os.POSIX_SPAWN_DUP2, child.writing, 1),
            (os.POSIX_SPAWN_DUP2, child.writing, 2),
        ]
        try:
            child.pid = spawnvp(arguments, os.environb, file_actions=actions)
        except OSError as error:
            child.status = (111 if is_temporary(error.errno) else 100) << 8
            os.close(child.writing)

    def _bury(self, wakeup: socket.socket) -> None:
        """Take the exit status of every child that died; what it wrote may still be in the pipe."""
        wakeup.recv(READ_BYTES)
        living = {child.pid: child for child in self._children.values() if child.pid}
        while living:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = living.pop(pid, None)
            if child is not None:
                child.pid, child.status = 0, status
                os.close(child.writing)  # our copy of it kept the end of the pipe away until now

    def _read(self, child: Child) -> None:
        data = os.read(child.reading, READ_BYTES)
        if data:
            child.output += data[: MAX_OUTPUT + 1 - len(child.output)]
            return
        self._selector.unregister(child.reading)
        os.close(child.reading)
        del self._children[child.number]
        too_much = len(child.output) > MAX_OUTPUT
        text = report.TOO_MUCH_OUTPUT if too_much else report.exit_report(child.status, bytes(child.output))
        self._say(encode_report(child.number, text))

    def _say(self, data: bytes) -> None:
        while data and self._is_heard:
            try:
                data = data[os.write(1, data) :]
            except OSError:
                self._is_heard = False
