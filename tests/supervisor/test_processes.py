"""The supervisor keeps its roles alive, passes signals on, and takes everything down in order.

The stack under test is a process of its own: roles append one line per event to a file, which the tests watch.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pluq.supervisor.processes import MOST_DELAY_SECONDS, restart_delay
from pluq.testing.stack import PATIENCE

STACK = """
import os, signal, sys, time
from functools import partial
from pluq.supervisor.notify import Notifier
from pluq.supervisor.privileges import current_identity
from pluq.supervisor.processes import Role, Supervisor

events = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
kept, lost = os.pipe()

def note(text):
    os.write(events, (text + "\\n").encode())

def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True

def ending(name, *_):
    note(f"{name} end")
    os._exit(0)

def role(name, stubborn):
    signal.signal(signal.SIGTERM, signal.SIG_IGN if stubborn else partial(ending, name))
    signal.signal(signal.SIGQUIT, lambda *_: note(f"{name} quit"))
    if "slow" in sys.argv:
        note(f"{name} early pid={os.getpid()}")
        while not os.path.exists(sys.argv[1] + ".go"):
            time.sleep(0.01)
    signal.signal(signal.SIGHUP, lambda *_: note(f"{name} hup"))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    comm = open("/proc/self/comm").read().strip()
    flags = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
    note(f"{name} start pid={os.getpid()} comm={comm} no_new_privs={flags['NoNewPrivs']} "
         f"kept={is_open(kept)} lost={is_open(lost)} umask={flags['Umask']} blocked={flags['SigBlk'].strip('0')}")
    while True:
        signal.pause()

def make(name, stage, hup=False, stubborn=False, setuid=False):
    passes = frozenset({signal.SIGHUP} if hup else ())
    return Role(name, current_identity(), partial(role, name, stubborn), (events, kept), 0o027, passes, setuid, stage,
                signal.SIGQUIT)

roles = [make("base", 2, setuid=True), make("front", 1, hup=True)]
if "stubborn" in sys.argv:
    roles.append(make("mule", 1, stubborn=True))
if "other" in sys.argv:
    after = [roles[0], make("front2", 1)]
    reload = lambda: after
else:
    reload = (lambda: None) if "broken" in sys.argv else (lambda: roles)
sys.exit(Supervisor(roles, Notifier(os.environ), reload=reload, drain_seconds=0.3).run())
"""


class Stack:
    """One running stack of stub roles and the events that they wrote."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.events = folder / "events"
        self.errors = (folder / "errors").open("w+b")
        command = [sys.executable, "-c", STACK, str(self.events), *words]
        self.process = subprocess.Popen(command, stderr=self.errors)

    def lines(self, start: str) -> list[str]:
        text = self.events.read_text() if self.events.exists() else ""
        return [line for line in text.splitlines() if line.startswith(start)]

    def wait_lines(self, start: str, count: int = 1) -> list[str]:
        deadline = time.monotonic() + PATIENCE
        while len(self.lines(start)) < count:
            assert time.monotonic() < deadline, f"no {start!r} in {self.lines('')}"
            time.sleep(0.01)
        return self.lines(start)

    def pid(self, role: str) -> int:
        return int(self.wait_lines(f"{role} start")[-1].split("pid=")[1].split()[0])

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE)


@pytest.fixture
def start(tmp_path):
    stacks = []

    def start_stack(*words: str) -> Stack:
        stacks.append(Stack(tmp_path, *words))
        return stacks[-1]

    yield start_stack
    for stack in stacks:
        if stack.process.poll() is None:
            stack.stop()
        stack.errors.close()


def test_a_killed_role_comes_back(start):
    stack = start()
    os.kill(stack.pid("front"), signal.SIGKILL)
    first, second = stack.wait_lines("front start", 2)
    assert first != second
    assert len(stack.lines("base start")) == 1


def test_term_ends_the_front_before_what_it_stands_on(start):
    stack = start()
    stack.pid("front"), stack.pid("base")
    assert stack.stop() == 0
    assert stack.lines("front end") + stack.lines("base end") == [e for e in stack.lines("") if e.endswith("end")]


def test_who_does_not_end_is_killed_within_the_grace(start):
    stack = start("stubborn")
    mule = stack.pid("mule")
    began = time.monotonic()
    assert stack.stop() == 0
    assert time.monotonic() - began < PATIENCE
    with pytest.raises(ProcessLookupError):
        os.kill(mule, 0)


def test_hup_reaches_only_the_roles_that_know_it(start):
    stack = start()
    stack.pid("front"), stack.pid("base")
    stack.process.send_signal(signal.SIGHUP)
    stack.wait_lines("front hup")
    stack.stop()
    assert not stack.lines("base hup")


def test_what_a_role_is_told_while_it_starts_it_hears_when_it_has_started(start):
    stack = start("slow")
    front = stack.wait_lines("front early")[0]
    os.kill(int(front.split("pid=")[1]), signal.SIGHUP)
    Path(f"{stack.events}.go").touch()
    stack.wait_lines("front hup")
    assert len(stack.lines("front early")) == 1
    assert stack.stop() == 0


def test_a_broken_configuration_is_not_passed_on(start):
    stack = start("broken")
    stack.pid("front")
    stack.process.send_signal(signal.SIGHUP)
    assert stack.stop() == 0
    assert not stack.lines("front hup")


def test_a_role_that_is_needed_no_more_retires_when_its_place_is_taken(start):
    stack = start("other")
    front, base = stack.pid("front"), stack.pid("base")
    stack.process.send_signal(signal.SIGHUP)
    stack.wait_lines("front quit")
    stack.pid("front2")
    os.kill(front, 0)  # it has not been told to end
    assert stack.pid("base") == base
    assert not stack.lines("front hup")

    os.kill(front, signal.SIGKILL)
    os.kill(stack.pid("front2"), signal.SIGKILL)
    stack.wait_lines("front2 start", 2)
    assert len(stack.lines("front start")) == 1
    assert stack.stop() == 0


def test_term_ends_the_retired_too(start):
    stack = start("other")
    stack.pid("front"), stack.pid("base")
    stack.process.send_signal(signal.SIGHUP)
    stack.wait_lines("front quit")
    stack.pid("front2")
    assert stack.stop() == 0
    assert stack.lines("front end")


def test_a_role_has_only_what_is_its_own(start):
    stack = start()
    front = stack.wait_lines("front start")[0]
    base = stack.wait_lines("base start")[0]
    assert "comm=pluq-front" in front
    assert "kept=True lost=False" in front
    assert "umask=0027 blocked=" in front
    assert front.endswith("blocked=")
    assert "no_new_privs=1" in front
    assert "no_new_privs=0" in base


def test_roles_of_a_killed_supervisor_end(start):
    stack = start()
    stack.pid("front"), stack.pid("base")
    stack.process.kill()
    stack.process.wait(PATIENCE)
    stack.wait_lines("front end")
    stack.wait_lines("base end")


def test_restarts_slow_down_and_never_stop():
    delays = [restart_delay(deaths) for deaths in range(40)]
    assert delays[:4] == [0.0, 0.1, 0.2, 0.4]
    assert delays == sorted(delays)
    assert delays[-1] == MOST_DELAY_SECONDS
