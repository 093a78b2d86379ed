"""A stage of the explanation in a process of its own, as the user who decides there in the real system.

Format: the child writes a Found as JSON to a pipe and ends.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import NoReturn

from pluq.config import Home
from pluq.errors import PluqError
from pluq.explain.step import Found, Outcome, Step
from pluq.supervisor.privileges import Identity, become, current_identity, user_identity

Stage = Callable[[], Found]


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
