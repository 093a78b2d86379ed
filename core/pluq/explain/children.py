"""A stage of the explanation in a process of its own, as the user who decides there in the real system.

Files that only root may read are handed out as in the real system, by the code of the role "keys", on a socket of our own: the stack need
not run.

Format: the child writes a Found as JSON to a pipe and ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from pluq.config import Home
from pluq.errors import PluqError
from pluq.explain.step import Found, Outcome, Step
from pluq.supervisor import keys
from pluq.supervisor.privileges import Identity, become, current_identity, user_identity
from pluq.supervisor.sockets import bind_unix

Stage = Callable[[], Found]


@contextmanager
def answered_keys(home: Home) -> Iterator[str | None]:
    """Answer for private keys while the block runs; give the socket, None where everything is one user."""
    ids = home.ids()
    if ids.single or os.geteuid() != 0:
        yield None
        return
    folder = tempfile.mkdtemp(prefix="pluq-explain-")
    os.chmod(folder, 0o711)  # noqa: S103  # the qmail users pass through to the socket
    path = f"{folder}/keys"
    sock = bind_unix(path, socket.SOCK_SEQPACKET, 0o666, 0)
    pid = os.fork()
    if pid == 0:
        try:
            keys.run(home, ids, sock)
        finally:
            os._exit(0)
    try:
        yield path
    finally:
        sock.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        shutil.rmtree(folder, ignore_errors=True)


def identity_of(home: Home, user: str, group: str) -> Identity:
    """Return one of the qmail users, the current user in a home of one user."""
    ids = home.ids()
    if ids.single or os.geteuid() != 0:
        return current_identity()
    return user_identity(ids.uid[user], ids.gid[group])


def run_as(identity: Identity, stage: Stage) -> Found:
    """Return what a stage finds as that user. A stage that fails is a step that says so."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        tell(identity, stage, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(pid, 0)
    try:
        steps, facts = json.loads(answer)
    except ValueError:
        return Found([Step("this could not be found out: the process that looked died", outcome=Outcome.DEFERRED)], {})
    return Found([Step.from_json(step) for step in steps], facts)


def tell(identity: Identity, stage: Stage, writer: int) -> NoReturn:
    """In the child: become the user, look, and write what was found."""
    try:
        become(identity)
        os.umask(0o077)
        found = stage()
    except PluqError as error:
        found = Found([Step(str(error), outcome=Outcome.DEFERRED)], {})
    except Exception as error:
        what = f"this could not be found out: {type(error).__name__}: {error}"
        found = Found([Step(what, outcome=Outcome.DEFERRED)], {})
    with open(writer, "w") as pipe:
        json.dump([[step.as_json() for step in found.steps], found.facts], pipe)
    os._exit(0)
