"""Roles die and stacks stop while mail flows: what was accepted is delivered, all of it."""

import os
import signal
import smtplib
import threading

import pytest

from pluq.errors import ConfigError
from pluq.supervisor.sockets import lock_run

pytestmark = pytest.mark.integration

DOWN_SECONDS = 30


class Flow:
    """Sends messages one after the other until told to end, and notes each that was accepted."""

    def __init__(self, stack, name):
        self.stack, self.name = stack, name
        self.accepted = []
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        number = 0
        while not self.ending.is_set():
            number += 1
            token = f"{self.name}-{number}"
            try:
                self.stack.send(token)
            except (OSError, smtplib.SMTPException):
                self.ending.wait(0.02)  # a refused or broken session promised nothing
            else:
                self.accepted.append(token)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()

    def wait_accepted(self, more):
        goal = len(self.accepted) + more
        while len(self.accepted) < goal:
            assert self.thread.is_alive()
            self.ending.wait(0.01)


@pytest.mark.parametrize("role", ["smtpd", "queue", "send", "lspawn", "rspawn"])
def test_killing_a_role_loses_nothing(stack, role):
    with Flow(stack, role) as flow:
        for _ in range(3):
            flow.wait_accepted(15)
            before = wait_role(stack, role)
            os.kill(before, signal.SIGKILL)
            while wait_role(stack, role) == before:
                pass
        flow.wait_accepted(15)
    # A queue daemon that died in the middle leaves files that no envelope names (S1, S2), which the cleaner takes a day later.
    stack.wait_empty(*([] if role == "queue" else ["mess/*/*", "intd/*"]))
    stack.wait_mail(*flow.accepted)


def wait_role(stack, role):
    while role not in (pids := stack.role_pids()):
        assert stack.process.poll() is None, stack.told()
    return pids[role]


def test_term_stops_within_seconds_and_a_new_start_goes_on(stack):
    with Flow(stack, "drain") as flow:
        flow.wait_accepted(30)
        assert stack.stop() < DOWN_SECONDS
        stack.start()
        flow.wait_accepted(10)
    stack.wait_mail(*flow.accepted)
    stack.wait_empty()


def test_a_killed_supervisor_leaves_nothing_behind(stack):
    with Flow(stack, "orphans") as flow:
        flow.wait_accepted(20)
        stack.process.kill()
        stack.process.wait()
        stack.start()  # waits until the roles of the killed one are gone
        flow.wait_accepted(10)
    stack.wait_mail(*flow.accepted)


def test_two_stacks_cannot_serve_one_home(stack):
    with pytest.raises(ConfigError, match="another stack"):
        lock_run(f"{stack.home.run}/lock", 0)


def test_a_broken_setting_keeps_a_stack_from_starting(new_stack):
    stack = new_stack()
    stack.control("concurrencylocal", "many")
    with pytest.raises(AssertionError, match="concurrencylocal:1: 'many' is not a number"):
        stack.start()
    assert stack.process.returncode == 111
