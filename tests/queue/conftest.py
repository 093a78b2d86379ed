"""A fresh qmail home, a queue daemon in a process of its own, and ways to look at and to kill what writes the queue."""

import contextlib
import itertools
import os
import resource
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass

import pytest
from tests.kills import Kill

from pluq.config import Home, current_ids
from pluq.queue.daemon import run
from pluq.queue.layout import QueueLayout
from pluq.queue.reader import split_numbers
from pluq.queue.records import parse_todo
from pluq.store.unix import connect
from pluq.supervisor.hier import make_home
from pluq.supervisor.sockets import bind_unix

DEADLINE = 60.0
SOCKETS = {"qmqp": socket.SOCK_STREAM, "lease": socket.SOCK_SEQPACKET, "todo": socket.SOCK_SEQPACKET}


@pytest.fixture(autouse=True)
def close_left_open(tmp_path_factory):
    """Close the descriptors of queue files that a test left open, as its crash would: thousands in one process, and others fail."""
    base, before = str(tmp_path_factory.getbasetemp()), set(os.listdir("/proc/self/fd"))
    yield
    for name in set(os.listdir("/proc/self/fd")) - before:
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith(base):
                os.close(int(name))


@pytest.fixture
def home(tmp_path):
    home = Home(str(tmp_path / "home"))
    make_home(home, current_ids())
    os.makedirs(home.run, exist_ok=True)
    return home


@pytest.fixture
def layout(home):
    return QueueLayout(home.queue)


def wait_until(condition, what):
    """Poll a condition until it is true; its value is returned."""
    end = time.monotonic() + DEADLINE
    while not (value := condition()):
        assert time.monotonic() < end, f"waited too long for {what}"
        time.sleep(0.005)
    return value


@pytest.fixture
def eventually():
    return wait_until


@pytest.fixture
def in_child():
    """Run something in a forked child; return its exit status (negative: the signal that ended it)."""

    def run(work):
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                code = work() or 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return run


@pytest.fixture
def kill_before():
    """`kill_before(n)` makes the current (child) process die right before its n-th change to a file."""
    return lambda count: Kill(count).install()


@dataclass
class Snapshot:
    """What is in a queue: message number to the state of INTERNALS, checked to be one that qmail knows."""

    states: dict[int, str]
    messages: dict[int, bytes]
    envelopes: dict[int, object]

    @property
    def queued(self):
        return [number for number, state in self.states.items() if state in ("S4", "S5")]


@pytest.fixture
def look(layout):
    def snapshot():
        found = Snapshot({}, {}, {})
        for number in split_numbers(layout, "mess"):
            try:
                with open(layout.mess(number), "rb") as file:
                    inode, message = os.fstat(file.fileno()).st_ino, file.read()
            except FileNotFoundError:
                continue  # it has left meanwhile
            assert inode == number, "a message file has its inode number as its name"
            todo, intd = os.path.exists(layout.todo(number)), os.path.exists(layout.intd(number))
            info = os.path.exists(layout.info(number))
            found.states[number] = "S4" if todo else "S5" if info else "S3" if intd else "S2"
            found.messages[number] = message
            if todo:
                with open(layout.todo(number), "rb") as file:
                    found.envelopes[number] = parse_todo(file.read())
        for name in os.listdir(f"{layout.path}/todo"):
            assert int(name) in found.states, "a todo file has its message"
        return found

    return snapshot


class RunningDaemon:
    """A queue daemon in a child process. `owners`: mode and owner of its sockets by name."""

    def __init__(self, home, prepare=None, owners=None):
        self.home = home
        rights = owners or dict.fromkeys(SOCKETS, (0o600, os.getuid()))
        sockets = [bind_unix(f"{home.run}/{name}", kind, *rights[name]) for name, kind in SOCKETS.items()]
        self.pid = os.fork()
        if self.pid == 0:
            self._become(home, sockets, prepare)
        for sock in sockets:
            sock.close()

    @staticmethod
    def _become(home, sockets, prepare):
        code = 99
        try:
            # The child has the parent's event loop and its wakeup descriptor: it needs neither.
            signal.set_wakeup_fd(-1)
            if prepare is not None:
                prepare()
            code = run(home, *sockets)
        finally:
            os._exit(code)

    def stop(self, number=signal.SIGTERM):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
        return self.wait()

    def wait(self):
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        return status


@pytest.fixture
def daemon(home):
    """`daemon(prepare)` starts a queue daemon; `prepare` runs in its process first."""
    started = []

    def start(prepare=None, owners=None):
        started.append(RunningDaemon(home, prepare, owners))
        return started[-1]

    yield start
    for process in started:
        if process.pid:
            process.stop(signal.SIGKILL)


@pytest.fixture
def send_link(home):
    """Connections to run/todo, as qmail-send makes them."""
    opened = []

    def open_link():
        sock = connect(f"{home.run}/todo", socket.SOCK_SEQPACKET, timeout=DEADLINE)
        opened.append(sock)
        return sock

    yield open_link
    for sock in opened:
        sock.close()


@pytest.fixture
def limit_files():
    """Return a preparation that leaves a process only so many descriptors more."""

    def limited(more):
        def limit():
            taken = set(map(int, os.listdir("/proc/self/fd")))
            free = (number for number in itertools.count() if number not in taken)
            count = next(itertools.islice(free, more, None))
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))

        return limit

    return limited
