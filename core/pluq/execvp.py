"""Starting a program as execvp(3) does: a name without a slash is looked up in PATH, and a script without a #! line is run by the shell.

Neither posix_spawnp nor Python's os.execvp knows such scripts, and both have an error of their own for an empty name. Here every
failure is an OSError.

Source: execvp(3), which qmail's programs use to start what a postmaster or a user names.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

__all__ = ["SHELL", "execvp", "in_shell", "spawnv", "spawnvp"]

SHELL = "/bin/sh"


def spawnvp(argv: Sequence[str | bytes], environment: Mapping[Any, Any], **options: Any) -> int:
    """Start a program and return its process id; `options` are those of posix_spawn. Raises OSError."""
    words = _words(argv)
    try:
        return os.posix_spawnp(words[0], words, environment, **options)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return os.posix_spawn(SHELL, in_shell(words), environment, **options)


def spawnv(argv: Sequence[str | bytes], environment: Mapping[Any, Any], **options: Any) -> int:
    """`spawnvp` without looking in PATH: `argv` begins with a path. Raises OSError."""
    words = _words(argv)
    try:
        return os.posix_spawn(words[0], words, environment, **options)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return os.posix_spawn(SHELL, [SHELL, *words], environment, **options)


def execvp(argv: Sequence[str | bytes], path: str | None = None) -> NoReturn:
    """Become a program; `path` is where it is if `argv` begins with another name. Raises OSError."""
    words = _words(argv)
    program = words[0] if path is None else path
    try:
        os.execvp(program, words)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        os.execv(SHELL, in_shell([program, *words[1:]]))


def in_shell(argv: Sequence[str | bytes]) -> list[str]:
    """Return the words that let the shell run the script that `argv` names."""
    from shutil import which

    words = _words(argv)
    return [SHELL, which(words[0]) or words[0], *words[1:]]


def _words(argv: Sequence[str | bytes]) -> list[str]:
    words = [os.fsdecode(word) for word in argv]
    if not words[0]:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return words
