"""fastforward [ -nNpPdD ] data.cdb

For a line in a .qmail file: forwards the message as a database made by setforward or newaliases says for its recipient
(RECIPIENT, or with -d DEFAULT@HOST or EXT@HOST). Without an instruction it bounces the message, or with -p exits 0, and exits 99
where there was one. -n only prints what would be done.

Source: fastforward(1).
"""

from __future__ import annotations

import os
import stat
import sys

from pluq.commands.children import exit_code, spawn
from pluq.commands.databases import failures_end
from pluq.commands.forwarding import forward_message
from pluq.commands.options import Options
from pluq.commands.terminal import complain, die, help_asked, or_die

FATAL = "fastforward: fatal: "
USAGE = "fastforward: usage: fastforward [ -nNpP ] data.cdb"
UNKNOWN = "Sorry, no mailbox here by that name. (#5.1.1)"


def main() -> int:
    if help_asked(__doc__):
        return 0
    chosen = {"n": False, "p": False, "d": False}
    options = Options(sys.argv, "nNpPdD")
    for letter, _ in options:
        if letter == "?":
            die(100, USAGE)
        chosen[letter.lower()] = letter.islower()
    if not options.rest:
        die(100, USAGE)
    with failures_end(FATAL):
        return forward(options.rest[0], recipient_of(chosen["d"]), deliver=not chosen["n"], pass_through=chosen["p"])


def recipient_of(by_extension: bool) -> bytes:
    """Return whom the message is for. qmail-local sets the variables."""
    environment = os.environb
    if not by_extension:
        return environment[b"RECIPIENT"] if b"RECIPIENT" in environment else die(100, FATAL, "$RECIPIENT must be set")
    local = environment.get(b"DEFAULT", environment.get(b"EXT"))
    if local is None:
        die(100, FATAL, "$DEFAULT or $EXT must be set")
    if b"HOST" not in environment:
        die(100, FATAL, "$HOST must be set")
    return local + b"@" + environment[b"HOST"]


def forward(path: str, recipient: bytes, deliver: bool, pass_through: bool) -> int:
    """Do what the database says for the recipient; return the exit code. Raises ConfigError for a broken one."""
    expansion = Expansion(path, deliver)
    done = 99 if pass_through else 0
    if not expansion.begin(recipient):
        if pass_through:
            return 0
        die(100, UNKNOWN)
    expansion.finish()
    targets = expansion.forward[::-1]
    if deliver and targets:
        number = forward_message(FATAL, expansion.sender, targets, os.environb.get(b"DTLINE", b""))
        complain("fastforward: qp ", str(number))
    elif not targets:
        expansion.say("no forwarding")
    else:
        expansion.say("from <", safe(expansion.sender), ">")
        for target in targets:
            expansion.say("to <", safe(target), ">")
    return done


def safe(text: bytes) -> bytes:
    """Return text for a person to read, without control characters."""
    return bytes(byte if byte >= 32 and byte < 128 else 0x5F for byte in text)


class Expansion:
    """Follows the instructions until only addresses are left, each once. `todo` is a stack, as the order of the copies shows."""

    def __init__(self, path: str, deliver: bool) -> None:
        from pluq.store.cdb import Cdb

        with or_die(FATAL, "unable to read ", path):
            self.database = Cdb(path)
        self.deliver = deliver
        self.sender = os.environb.get(b"SENDER", b"original envelope sender")
        self.todo: list[bytes] = []
        self.done: set[bytes] = set()
        self.forward: list[bytes] = []

    def say(self, *parts: str | bytes) -> None:
        if not self.deliver:
            complain(*parts)

    def begin(self, recipient: bytes) -> bool:
        """Take the instructions for the recipient of the message; False if there are none."""
        from pluq.mail.envelope import is_bounce

        self.done.add(recipient)
        owner = None if is_bounce(self.sender) else self.look_up(b"?", recipient)
        if owner is not None:
            self.sender = owner
        data = self.look_up(b":", recipient)
        if data is None:
            return False
        self.obey(data)
        return True

    def look_up(self, kind: bytes, address: bytes) -> bytes | None:
        """Return the record for an address, else the one for its host, else the one for its box."""
        box, at, host = address.lower().rpartition(b"@")
        keys = [box + at + host]
        if at:
            keys += [at + host, box + at]
        return next((data for key in keys if (data := self.database.get(kind + key)) is not None), None)

    def finish(self) -> None:
        """Follow instructions until there are none left."""
        while self.todo:
            command = self.todo.pop()
            if command in self.done:
                continue
            self.done.add(command)
            if command.startswith(b"&"):
                self.address(command[1:])
            else:
                self.todo += mailing_list(os.fsdecode(command))

    def address(self, address: bytes) -> None:
        """Forward to an address, or follow its own instructions; not if it has an owner, whose list is its own affair."""
        key = address.lower()
        data = None if self.database.get(b"?" + key) is not None else self.database.get(b":" + key)
        if data is None:
            self.forward.append(address)
        else:
            self.obey(data)

    def obey(self, data: bytes) -> None:
        from pluq.mail.forwarding import split_commands

        for command in split_commands(data):
            if command[:1] in (b"|", b"!"):
                self.run(command)
            else:
                self.todo.append(command)

    def run(self, command: bytes) -> None:
        """Run a program with the message on its standard input."""
        from pluq.local.program import PERMANENT

        if not self.deliver:
            complain("run ", safe(command))
            return
        argv = ["sh", "-c", os.fsdecode(command[1:])]
        if command.startswith(b"!"):
            argv.insert(0, "preline")
        with or_die(FATAL, "unable to run ", command):
            code = exit_code(spawn(argv))
        if code is None:
            die(111, FATAL, "child crashed in ", command)
        if code != 0:
            raise SystemExit(100 if code in PERMANENT else 111)
        with or_die(FATAL, "unable to rewind input"):
            os.lseek(0, 0, os.SEEK_SET)


def mailing_list(path: str) -> list[bytes]:
    """Return what a binary mailing list asks for; a program in it is left out."""
    from pluq.mail.forwarding import split_commands

    with or_die(FATAL, "unable to read ", path), open(path, "rb") as file:
        # who can have this file opened by us must not learn what he may not read
        if os.fstat(file.fileno()).st_mode & 0o444 != stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH:
            die(111, FATAL, path, " is not world-readable")
        return [command for command in split_commands(file.read()) if command[:1] not in (b"|", b"!")]
