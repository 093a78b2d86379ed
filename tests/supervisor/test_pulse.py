"""A process whose event loop stands still is ended and started again; one that has grown too large gets a successor.

The stack under test is a process of its own, once under the supervisor and once as workers of one parent: whoever serves appends a line
for each thing that happens to it.
"""

import os
import signal
import subprocess
import sys
import time

import pytest

from pluq.pulse import STILL_LOOKS, Pulse, is_stopped, resident

STACK = """
import asyncio, os, signal, sys, time
from functools import partial
from pluq import pulse

pulse.BEAT_SECONDS, pulse.LOOK_SECONDS = 0.1, 1.0
LIMIT = 100 << 20
events = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
kept = []

def note(text):
    os.write(events, f"{text} {os.getpid()}\\n".encode())

def never_comes_back():
    while True:
        time.sleep(60)

def leak():
    kept.append(b"x" * LIMIT)

async def serve():
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, never_comes_back)
    loop.add_signal_handler(signal.SIGUSR2, leak)
    loop.add_signal_handler(signal.SIGTERM, done.set)
    loop.add_signal_handler(signal.SIGQUIT, note, "quit")
    pulse.keep(loop)
    note("start")
    await done.wait()

def work(lifeline=None):
    asyncio.run(serve())

if sys.argv[1] == "workers":
    from pluq.listen.workers import Workers
    Workers([work], lambda: None, "smtpd", LIMIT).run()
else:
    from pluq.supervisor.notify import Notifier
    from pluq.supervisor.privileges import current_identity
    from pluq.supervisor.processes import Role, Supervisor
    role = Role("smtpd", current_identity(), work, (events,), farewell=signal.SIGQUIT, limit=LIMIT)
    Supervisor([role], Notifier({})).run()
"""


class Stack:
    """One running stack, and what its processes wrote."""

    def __init__(self, kind, folder):
        self.events = folder / "events"
        self.errors = folder / "errors"
        with self.errors.open("wb") as errors:
            command = [sys.executable, "-c", STACK, kind, str(self.events)]
            self.process = subprocess.Popen(command, stderr=errors, stdout=errors)

    def pids(self, what, count=1):
        """The processes of the first lines that begin so."""
        return until(lambda: self.found(what) if len(self.found(what)) >= count else None, what)

    def found(self, what):
        lines = self.events.read_text().splitlines() if self.events.exists() else []
        return [int(line.split()[1]) for line in lines if line.split()[0] == what]

    def said(self, text):
        until(lambda: text in self.errors.read_text(), text)


def until(condition, what):
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.02)
    return found


@pytest.fixture(params=["supervisor", "workers"])
def stack(request, tmp_path):
    running = Stack(request.param, tmp_path)
    yield running
    running.process.terminate()
    running.process.wait(30)


def test_a_process_that_stands_still_is_ended_where_it_stands_and_started_again(stack):
    (first,) = stack.pids("start")
    os.kill(first, signal.SIGUSR1)
    second = stack.pids("start", 2)[1]
    assert second != first
    stack.said(f"{first} stands still" if stack.process.args[3] == "workers" else f"(pid {first}) stands still")
    stack.said("in never_comes_back")


def test_a_process_that_has_grown_too_large_serves_its_last_sessions_beside_its_successor(stack):
    (first,) = stack.pids("start")
    os.kill(first, signal.SIGUSR2)
    second = stack.pids("start", 2)[1]
    assert stack.pids("quit") == [first]
    stack.said("has grown to 1")
    os.kill(first, 0)
    os.kill(first, signal.SIGTERM)
    os.kill(second, signal.SIGKILL)
    stack.pids("start", 3)


class Loop:
    """An event loop that is turned by hand."""

    def call_later(self, seconds, call, *arguments):
        self.turn = lambda: call(*arguments)


def test_only_a_process_that_has_beaten_and_misses_several_looks_is_ended_and_by_force_if_need_be():
    pulse, loop = Pulse(), Loop()
    assert [pulse.look(os.getpid()) for _ in range(2 * STILL_LOOKS)] == [None] * 2 * STILL_LOOKS
    pulse.beat(loop)
    for _ in range(2 * STILL_LOOKS):
        assert pulse.look(os.getpid()) is None
        loop.turn()
    looks = [pulse.look(os.getpid()) for _ in range(STILL_LOOKS + 2)]
    assert looks == [None] * STILL_LOOKS + [signal.SIGABRT, signal.SIGKILL]
    loop.turn()
    assert pulse.look(os.getpid()) is None


def test_a_process_that_somebody_has_stopped_is_left_alone():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        os.kill(child.pid, signal.SIGSTOP)
        until(lambda: is_stopped(child.pid), "the stop")
        pulse = Pulse()
        pulse.beat(Loop())
        assert [pulse.look(child.pid) for _ in range(2 * STILL_LOOKS)] == [None] * 2 * STILL_LOOKS
    finally:
        child.kill()
        child.communicate()
    assert not is_stopped(child.pid)
    assert resident(child.pid) == 0
