"""What must be right before a stack starts or reloads: everything is read once, and every fault is told at once.

A stack never runs half configured: one fault here and nothing starts, or the reload is not passed on and the roles keep what they
had. Control files are read by the rules of the program that uses them; numbers must be numbers, which qmail would ignore silently.

Plugins are code, and no plugin code runs as root: they are loaded and asked by a child that has become the user they will run as.

Source: qmail-control(5); INTERNALS for the queue's folders.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import stat
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

from pluq.config import Home, Ids
from pluq.config.examine import examine
from pluq.config.watching import check_status
from pluq.errors import ConfigError
from pluq.plan import inspect
from pluq.store.control import first_line, leading_int, read_file
from pluq.supervisor import privileges
from pluq.supervisor.hier import FOLDERS, TCPTO_BYTES, TRIGGER, is_null_client
from pluq.supervisor.keys import answering

NO_HOME = "no qmail home here: make one with `pluq init --home DIR`"
NUMBERS = (
    "bouncemaxbytes",
    "concurrencyincoming",
    "concurrencylocal",
    "concurrencyremote",
    "databytes",
    "queuelifetime",
    "timeoutconnect",
    "timeoutremote",
    "timeoutsmtpd",
)


def faults(home: Home, ids: Ids) -> list[ConfigError]:
    """Return everything that keeps this home from being served, nothing if it is fit."""
    if not os.path.isdir(home.path):
        return [ConfigError(home.path, NO_HOME)]
    if is_null_client(home):
        return [*control_faults(home), *null_client_faults(home)]
    return [
        *control_faults(home),
        *queue_faults(home, ids),
        *state_faults(home, ids),
        *status_faults(home, ids),
        *listen_faults(home),
    ]


def state_faults(home: Home, ids: Ids) -> Iterator[ConfigError]:
    """Check that the folders are there where plugins keep what must survive a restart."""
    if os.path.exists(home.control("pluq.toml")):
        for path, owner, _ in FOLDERS:
            if path.startswith("state/"):
                yield from folder_faults(f"{home.path}/{path}", ids.uid[owner])


def status_faults(home: Home, ids: Ids) -> Iterator[ConfigError]:
    """Check that the status page can be served where the site wants one. Other faults of pluq.toml are told with the plugins'."""
    if not os.path.exists(home.control("pluq.toml")):
        return
    site, _told_elsewhere = examine(home)
    try:
        check_status(site.status, site.file, ids.single)
    except ConfigError as error:
        yield error


def listen_faults(home: Home) -> Iterator[ConfigError]:
    """Check that what profiles listen on are addresses with ports."""
    from pluq.supervisor.ports import addresses

    site, _told_elsewhere = examine(home)
    for profile in site.profiles.values():
        try:
            addresses(profile)
        except ConfigError as error:
            yield error


def null_client_faults(home: Home) -> Iterator[ConfigError]:
    """Check that a host without a queue knows where its mail goes."""
    if not home.controls.lines("qmqpservers"):
        yield ConfigError(
            home.control("qmqpservers"), "missing or empty: it lists the addresses of the hosts that take our mail"
        )


def control_faults(home: Home) -> Iterator[ConfigError]:
    """Check that each control file can be read, that there is a name, and that numbers are numbers."""
    try:
        names = sorted(os.listdir(home.control_dir))
    except OSError as error:
        yield ConfigError(home.control_dir, os.strerror(error.errno or 0))
        return
    if "me" not in names:
        yield ConfigError(
            home.control("me"), "missing: it holds the full name of this host, for example mail.example.org"
        )
    for name in names:
        path = home.control(name)
        try:
            data = None if os.path.isdir(path) else read_file(path)
        except ConfigError as error:
            yield error
            continue
        if data is not None:
            yield from content_faults(path, name, data)


def content_faults(path: str, name: str, data: bytes) -> Iterator[ConfigError]:
    line = first_line(data)
    if name == "me" and not line:
        yield ConfigError(path, "empty: it holds the full name of this host", line=1)
    if name in NUMBERS and line and leading_int(line) is None:
        yield ConfigError(path, f"{line.decode('utf-8', 'replace')!r} is not a number", line=1)


def queue_faults(home: Home, ids: Ids) -> Iterator[ConfigError]:
    """Check that the queue's folders are there and belong to whom they must, and that the trigger is a FIFO."""
    for path, owner, _ in FOLDERS:
        if path.startswith("queue") and path != "queue/pool":
            yield from folder_faults(f"{home.path}/{path}", ids.uid[owner])
    trigger = f"{home.path}/{TRIGGER[0]}"
    try:
        if not stat.S_ISFIFO(os.stat(trigger).st_mode):
            yield ConfigError(trigger, "not a FIFO: remove it and run `pluq init`")
    except OSError as error:
        yield ConfigError(trigger, os.strerror(error.errno or 0))
    tcpto = f"{home.queue}/lock/tcpto"
    if os.path.exists(tcpto) and os.path.getsize(tcpto) != TCPTO_BYTES:
        yield ConfigError(tcpto, f"must be {TCPTO_BYTES} bytes: remove it and run `pluq init`")


def folder_faults(path: str, uid: int) -> Iterator[ConfigError]:
    try:
        status = os.stat(path)
    except OSError as error:
        what_to_do = "`pluq init` makes what is missing" if error.errno == errno.ENOENT else "only root can look at all"
        yield ConfigError(path, f"{os.strerror(error.errno or 0)}: {what_to_do}")
        return
    if not stat.S_ISDIR(status.st_mode):
        yield ConfigError(path, "not a folder")
    elif status.st_uid != uid:
        yield ConfigError(path, f"belongs to uid {status.st_uid} and must belong to uid {uid}")


CHECK_SECONDS = 60.0

Question = Callable[[Home, "str | None"], list[str]]
"""Asked of a home and the socket of the role "keys", None for the usual one."""


def warnings(ids: Ids) -> list[str]:
    """Return what does not keep a stack from running, and will be missed."""
    folder = None if ids.single else closed_folder(os.path.realpath(os.__file__))
    if folder is None:
        return []
    return [
        f"{folder}: the qmail users cannot enter this folder, and this Python lies below it: what a plugin imports there fails, and"
        " programs of pluq that another program starts as one of them do not start; install pluq with a Python that all can read"
    ]


def closed_folder(path: str) -> str | None:
    """Return the folder above a path that others may not enter, None where they get through."""
    folder = os.path.dirname(path)
    while folder != "/":
        if not os.stat(folder).st_mode & stat.S_IXOTH:
            return folder
        folder = os.path.dirname(folder)
    return None


def plugin_faults(home: Home, ids: Ids) -> list[str]:
    """Return what is wrong with pluq.toml and its plugins, found as the user that plugins run as."""
    return ask_plugins(home, ids, inspect.faults)


def plugin_warnings(home: Home, ids: Ids) -> list[str]:
    """Return which plugins are enabled where they do nothing."""
    return ask_plugins(home, ids, lambda home, _keys: inspect.idle_plugins(home))


def ask_plugins(home: Home, ids: Ids, question: Question) -> list[str]:
    """Return the answer to a question for which plugins are loaded: by a child that has become their user where we are root."""
    if not os.path.exists(home.control("pluq.toml")):
        return []
    if ids.single or os.geteuid() != 0:
        return question(home, None)
    with answering(home, ids) as keys:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            tell_answer(home, ids, writer, lambda: question(home, keys))
        os.close(writer)
        return heard_answer(reader, pid)


def tell_answer(home: Home, ids: Ids, writer: int, question: Callable[[], list[str]]) -> NoReturn:
    """In the child: give up root, look, and write what was found as JSON."""
    try:
        privileges.become(privileges.user_identity(ids.uid["qmaild"], ids.gid["nofiles"]))
        found = question()
    except BaseException as error:
        found = [f"{home.control('pluq.toml')}: checking it failed: {type(error).__name__}: {error}"]
    with open(writer, "w") as pipe:
        pipe.write(json.dumps(found))
    os._exit(0)


def heard_answer(reader: int, pid: int) -> list[str]:
    """In the parent: return what the child wrote; a child that takes too long or dies has found a fault too."""
    text = b""
    deadline = time.monotonic() + CHECK_SECONDS
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(reader, 65536)
        if not piece:
            break
        text += piece
    else:
        os.kill(pid, signal.SIGKILL)
    os.close(reader)
    os.waitpid(pid, 0)
    try:
        found: list[str] = json.loads(text)
    except ValueError:
        return ["the check of the plugins did not end"]
    return found
