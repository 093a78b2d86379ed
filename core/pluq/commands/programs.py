"""One program of the qmail home running another: bin/sendmail runs bin/qmail-inject, and so on.

Each can be replaced alone, so the one that stands in HOME/bin is run, whoever wrote it. Where that is our own, with the same
interpreter, its main() is called in this process instead: starting Python again takes longer than sending a message.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

from pluq.commands.children import replace_process, run_condition
from pluq.commands.options import program_name
from pluq.commands.terminal import die, or_die
from pluq.config import Home

__all__ = ["read_mail_with", "run_program"]

SCRIPT = 1024
"""The scripts that installers write for entry points are shorter than this."""


def run_program(home: Home, name: str, arguments: list[str], *complaint: str) -> NoReturn:
    """Become the program HOME/bin/NAME, in the home folder; end with `complaint` and 111 if there is none."""
    path = f"{home.bin}/{name}"
    module = f"pluq.commands.{name.replace('-', '_')}"
    try:
        if not is_ours(path, module):
            replace_process(path, [f"bin/{name}", *arguments])
    except OSError:
        die(111, *complaint)
    sys.argv = [path, *arguments]
    raise SystemExit(importlib.import_module(module).main())


def is_ours(path: str, module: str) -> bool:
    """Say whether a file is the entry script of this very installation for a module."""
    with open(path, "rb") as file:
        script = file.read(SCRIPT)
    interpreter, _, rest = script.partition(b"\n")
    return interpreter == b"#!" + os.fsencode(sys.executable) and f"from {module} import main".encode() in rest


def read_mail_with(reader: str) -> int:
    """Move new mail from the maildir to the mbox, then become the mail reader `reader` with our own arguments."""
    code = run_condition([f"{Home.from_environment().bin}/maildir2mbox"])
    if code != 0:
        return 111 if code is None else code
    return become(reader, sys.argv[1:])


def become(program: str, arguments: list[str]) -> NoReturn:
    with or_die(program_name(sys.argv), ": fatal: unable to run ", program):
        replace_process(program, [program, *arguments])
