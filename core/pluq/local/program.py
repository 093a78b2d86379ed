"""Running a program of the user: sh -c command, with the message on descriptor 0.

    0                              delivered
    99                             delivered, and the rest of the .qmail file is not for this message
    100 64 65 70 76 77 78 112      failed for good
    anything else                  failed for now; so is death by a signal

The program starts through posix_spawn, which copies nothing of this process, as whoever this process is. What it says is for it alone:
a failure adds no words of ours.

Source: qmail-command(8); mailprogram in qmail-local.c.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Protocol

from pluq.errors import PermanentFailure, TemporaryFailure
from pluq.store.oserror import error_text

SHELL = "/bin/sh"
STOP = 99
PERMANENT = frozenset({100, 64, 65, 70, 76, 77, 78, 112})
DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
"""Signals that Python or a role may ignore; a program expects them to do what they always do."""
NO_PROCESS = (errno.EAGAIN, errno.ENOMEM)


class Runner(Protocol):
    """How this process starts programs and waits for them: where their output goes and where they start."""

    def run(self, program: str, argv: Sequence[bytes], environment: Mapping[bytes, bytes], message: int) -> int:
        """Return what waitstatus_to_exitcode gives. Raises OSError if the program cannot be started."""


class Inherit:
    """Programs write where this process writes, and start where it is: qmail-local as a program of its own."""

    def run(self, program: str, argv: Sequence[bytes], environment: Mapping[bytes, bytes], message: int) -> int:
        pid = spawn(program, argv, environment, {0: message} if message else {})
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def spawn(
    program: str,
    argv: Sequence[bytes],
    environment: Mapping[bytes, bytes],
    descriptors: Mapping[int, int],
    group: bool = False,
) -> int:
    """Start a program with these descriptors (its number: ours); return its process id. Raises OSError.

    `group`: it leads a process group of its own, so that all it starts can be ended with it.
    """
    actions = [(os.POSIX_SPAWN_DUP2, ours, its) for its, ours in descriptors.items()]
    words = list(argv)
    if group:
        return os.posix_spawn(
            program, words, environment, file_actions=actions, setsigmask=(), setsigdef=DEFAULT_SIGNALS, setpgroup=0
        )
    return os.posix_spawn(program, words, environment, file_actions=actions, setsigmask=(), setsigdef=DEFAULT_SIGNALS)


def run_command(command: bytes, message: int, environment: Mapping[bytes, bytes], runner: Runner) -> bool:
    """Run a command line; return whether the instructions after it count. Raises TemporaryFailure, PermanentFailure."""
    try:
        os.lseek(message, 0, os.SEEK_SET)
    except OSError as error:
        raise TemporaryFailure("Unable to rewind message. (#4.3.0)") from error
    try:
        code = runner.run(SHELL, (SHELL.encode(), b"-c", command), environment, message)
    except OSError as error:
        what = "fork" if error.errno in NO_PROCESS else f"run {SHELL}"
        raise TemporaryFailure(f"Unable to {what}: {error_text(error.errno)}. (#4.3.0)") from error
    if code < 0:
        raise TemporaryFailure("Aack, child crashed. (#4.3.0)")
    if code in PERMANENT:
        raise PermanentFailure("")
    if code not in (0, STOP):
        raise TemporaryFailure("")
    return code == 0
