"""What a scheduler needs before it starts: the home, its settings, the queue, and that no other one is running.

Source: main in qmail-send.c, in its order, for the texts.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pluq.errors import ConfigError, TemporaryFailure
from pluq.plan import Plan
from pluq.queue.layout import QueueLayout
from pluq.send.plugins import load_plan
from pluq.send.settings import Settings, read_settings

if TYPE_CHECKING:
    from pluq.config import Home


class CannotStartError(Exception):
    """Why the scheduler gives up at once, in qmail-send's words. `detail` is what an administrator needs besides."""

    def __init__(self, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.detail = detail


def enter_queue(home: Home) -> Settings:
    """Go to the queue directory and return the settings. Raises CannotStartError."""
    try:
        os.chdir(home.path)
    except OSError as error:
        raise CannotStartError("unable to switch to home directory", str(error)) from error
    try:
        settings = read_settings(home.controls)
    except ConfigError as error:
        raise CannotStartError("unable to read controls", str(error)) from error
    try:
        os.chdir(home.queue)
    except OSError as error:
        raise CannotStartError("unable to switch to queue directory", str(error)) from error
    os.umask(0o077)
    return settings


def start_plugins(home: Home, remark: Callable[[str], None]) -> Plan:
    """Return the plan of `[send]`, started. Raises CannotStartError."""
    try:
        return load_plan(home, remark)
    except (ConfigError, TemporaryFailure) as error:
        raise CannotStartError("unable to read controls", str(error)) from error


def lock_queue(home: Home) -> int:
    """Take the lock that a scheduler holds while it runs; it goes with the process. Raises CannotStartError."""
    path = QueueLayout(home.queue).sendmutex
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CannotStartError("unable to open mutex", str(error)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise CannotStartError("qmail-send is already running", str(error)) from error
    return descriptor
