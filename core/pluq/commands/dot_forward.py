"""dot-forward [ -nN ] file ...

For a line in a .qmail file: `|dot-forward .forward`, with the usual delivery on the next line. Forwards the message as the first
of the files that exists and is not empty says, in Sendmail's form: addresses, `|program`, comments; and exits 99, so that the rest
of the .qmail file is left out. It exits 0 if there is no such file, or if the file names the user himself. -n only prints what would
be done. Files and :include: are not supported: the delivery is put off until somebody has mended the file.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from pluq.commands.children import exit_code, feed, spawn
from pluq.commands.databases import failures_end, read_defaults
from pluq.commands.forwarding import forward_message
from pluq.commands.options import Options
from pluq.commands.terminal import complain, die, help_asked, or_die

if TYPE_CHECKING:
    from pluq.mail.aliases import Defaults, Entry

FATAL = "dot-forward: fatal: "
STOP, GO_ON = 99, 0


def main() -> int:
    if help_asked(__doc__):
        return 0
    deliver = True
    options = Options(sys.argv, "nN")
    for letter, _ in options:
        if letter == "?":
            die(100, "dot-forward: usage: dot-forward [ -nN ] file ...")
        deliver = letter == "N"
    with failures_end(FATAL):
        defaults = read_defaults(FATAL)
        for path in options.rest:
            code = Forwarding(path, defaults, deliver).run()
            if code is not None:
                return code
    if not deliver:
        complain("direct delivery")
    return GO_ON


def variable(name: bytes) -> bytes:
    return os.environb.get(name, b"")


class Forwarding:
    """One file and what it asks for."""

    def __init__(self, path: str, defaults: Defaults, deliver: bool) -> None:
        self.path = path
        self.defaults = defaults
        self.deliver = deliver
        self.user = variable(b"USER").lower()
        self.me = self.user + b"@" + variable(b"HOST").lower()
        self.targets: list[bytes] = []
        self.acted = False
        self.direct = False

    def run(self) -> int | None:
        """Do what the file says; return the exit code, None to try the next file. Raises TemporaryFailure."""
        from pluq.mail.aliases import list_entries

        lines = self.read()
        if lines is None:
            return None
        for line in lines:
            if not line.startswith(b"#"):
                for entry in list_entries(line, with_includes=False):
                    self.obey(entry)
        self.forward()
        if self.direct:
            self.say("direct delivery")
            return GO_ON
        if self.acted:
            return STOP
        self.say("skipping empty file ", self.path)
        return None

    def read(self) -> list[bytes] | None:
        """Return the lines; None where there is no file."""
        try:
            file = open(self.path, "rb")  # noqa: SIM115  # only this may fail because there is no file
        except FileNotFoundError:
            return None
        except OSError as error:
            die(111, FATAL, "unable to open ", self.path, ": ", error)
        with file, or_die(FATAL, "unable to read ", self.path):
            return file.readlines()

    def say(self, *parts: str | bytes) -> None:
        """Tell what would be done, if nothing is."""
        if not self.deliver:
            complain(*parts)

    def obey(self, entry: Entry) -> None:
        from pluq.mail.aliases import Kind

        if entry.kind is Kind.FILE:
            die(111, FATAL, "file delivery ", entry.text, " not supported")
        elif entry.kind is Kind.PROGRAM:
            self.acted = True
            self.pipe(entry.text)
        elif entry.text and entry.text.lower() == (self.me if entry.has_at else self.user):
            self.acted = self.direct = True
        elif entry.text:
            address = self.defaults.complete(entry.text if entry.has_at else entry.text + b"@").partition(b"\0")[0]
            self.targets.append(address)
            self.say("forward ", address)

    def pipe(self, command: bytes) -> None:
        """Run a command with the message on its standard input, behind the lines that it expects."""
        from pluq.local.program import PERMANENT

        if not self.deliver:
            complain("pipe through ", command)
            return
        reader, writer = os.pipe()
        with or_die(FATAL, "unable to run /bin/sh"):
            child = spawn(["/bin/sh", "-c", os.fsdecode(command)], stdin=reader)
        os.close(reader)
        try:
            feed(writer, variable(b"UFLINE") + variable(b"RPLINE") + variable(b"DTLINE"))
        except OSError:
            pass  # the command has read what it wanted
        os.close(writer)
        code = exit_code(child)
        if code is None:
            die(111, FATAL, "child crashed")
        if code != 0:
            raise SystemExit(100 if code in PERMANENT else 111)
        with or_die(FATAL, "unable to rewind input"):
            os.lseek(0, 0, os.SEEK_SET)

    def forward(self) -> None:
        if not self.targets:
            return
        self.acted = True
        if self.deliver:
            fatal = FATAL + "unable to forward message: "
            number = forward_message(fatal, variable(b"NEWSENDER"), self.targets, variable(b"DTLINE"))
            complain("dot-forward: info: qp ", str(number))
