"""Running another program and waiting for it, as the delivery programs of qmail do.

The program is looked up in PATH; a script without an interpreter line is given to /bin/sh, as execvp does. It gets the signals
back that Python ignores. A program that cannot be started counts as one that exited 111 if that may pass, else 100.

Source: fork, execvp and wait in bouncesaying.c, condredirect.c, except.c, preline.c, predate.c of qmail.
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn

from pluq.execvp import execvp, spawnvp
from pluq.store.oserror import is_temporary

__all__ = ["exit_code", "feed", "replace_process", "run_condition", "spawn"]

IGNORED_BY_PYTHON = [signal.SIGPIPE, signal.SIGXFSZ]
PIECE = 8192


def spawn(argv: list[str], stdin: int | None = None) -> int:
    """Start a program, with `stdin` as its descriptor 0 if given; return its process id. Raises OSError."""
    actions = [] if stdin is None else [(os.POSIX_SPAWN_DUP2, stdin, 0)]
    return spawnvp(argv, os.environ, file_actions=actions, setsigdef=IGNORED_BY_PYTHON)


def exit_code(pid: int) -> int | None:
    """Wait for a program; return its exit code, None if a signal ended it."""
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return None if code < 0 else code


def run_condition(argv: list[str]) -> int | None:
    """Run a program whose exit code is an answer, on our own descriptors."""
    try:
        return exit_code(spawn(argv))
    except OSError as error:
        return start_failure(error)


def start_failure(error: OSError) -> int:
    """Return the exit code that stands for a program that could not be started."""
    return 111 if is_temporary(error.errno) else 100


def replace_process(path: str, argv: list[str]) -> NoReturn:
    """Become another program. Raises OSError. `path` without a slash is looked up in PATH."""
    for number in IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    execvp(argv, path)


def feed(sink: int, prefix: bytes, source: int = 0) -> None:
    """Copy `prefix` and all of `source` to the descriptor `sink`. Raises OSError.

    What is left at the end, up to PIECE bytes, is written without looking: a reader may stop early, as it does when it has
    seen all it wanted of a short message.
    """
    waiting = prefix
    while chunk := os.read(source, PIECE):
        waiting += chunk
        while len(waiting) > PIECE:
            waiting = waiting[os.write(sink, waiting[:PIECE]) :]
    try:
        while waiting:
            waiting = waiting[os.write(sink, waiting) :]
    except OSError:
        return
