"""qmail-send as a program between pipes, as qmail-start connects it; the test plays the other three programs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from pluq.queue import cleaner
from pluq.queue.layout import QueueLayout
from pluq.queue.records import Todo, encode_todo
from pluq.wire import spawn

DEADLINE = 60.0
JOE = b"joe@here.example"
START = """
import os, sys
for number, descriptor in enumerate(map(int, sys.argv[1:])):
    os.dup2(descriptor, number)
from pluq.commands.qmail_send import main
sys.exit(main())
"""


class Program:
    def __init__(self, home, log_path, limit=120):
        self.home = home
        self.layout = QueueLayout(home.queue)
        self.log_path = log_path
        self.pipes = [os.pipe() for _ in range(6)]
        ours = [
            self.pipes[0][0],
            self.pipes[1][1],
            self.pipes[2][0],
            self.pipes[3][1],
            self.pipes[4][0],
            self.pipes[5][1],
        ]
        theirs = [
            self.pipes[0][1],
            self.pipes[1][0],
            self.pipes[2][1],
            self.pipes[3][0],
            self.pipes[4][1],
            self.pipes[5][0],
        ]
        self.orders_in, self.reports_out, self.remote_in, self.remote_out, self.clean_in, self.clean_out = ours
        self.ours = ours
        for descriptor in (self.orders_in, self.remote_in, self.clean_in):
            os.set_blocking(descriptor, False)
        for descriptor in (self.reports_out, self.remote_out):
            os.write(descriptor, spawn.encode_limit(limit))
        # Above 6: putting them in their places must not close one of them.
        high = [fd_above(descriptor) for descriptor in theirs]
        log = fd_above(os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, *map(str, [log, *high])],
            pass_fds=[log, *high],
            env={**os.environ, "PLUQ_HOME": home.path},
        )
        for descriptor in (log, *high, *theirs):
            os.close(descriptor)
        self.decoder = spawn.CommandDecoder()
        self.orders = []
        self.answer = lambda recipient: b"Kok"

    def step(self):
        with contextlib.suppress(BlockingIOError):
            for order in self.decoder.feed(os.read(self.orders_in, 65536)):
                self.orders.append(order)
                report = self.answer(order.recipient)
                if report is not None:
                    os.write(self.reports_out, spawn.encode_report(order.number, report))
        if self.clean_in < 0:
            return
        with contextlib.suppress(BlockingIOError):
            for request in os.read(self.clean_in, 65536).split(b"\0")[:-1]:
                what, number = request.split(b"/")
                remove = cleaner.remove_todo if what == b"todo" else cleaner.remove_message
                remove(self.layout, int(number))
                os.write(self.clean_out, b"+")

    def until(self, condition, what):
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"waited too long for {what}: {self.lines[-20:]}"
            self.step()
            time.sleep(0.002)

    def queue(self, *recipients):
        path = f"{self.layout.path}/pid/new"
        with open(path, "wb") as file:
            file.write(b"Subject: test\n\nbody\n")
            number = os.fstat(file.fileno()).st_ino
        os.rename(path, self.layout.mess(number))
        with open(self.layout.intd(number), "wb") as file:
            file.write(encode_todo(Todo(1000, 77, b"sender@here.example", recipients)))
        os.link(self.layout.intd(number), self.layout.todo(number))
        with contextlib.suppress(OSError):
            trigger = os.open(self.layout.trigger, os.O_WRONLY | os.O_NONBLOCK)
            os.write(trigger, b"\0")
            os.close(trigger)
        return number

    @property
    def lines(self):
        with open(self.log_path, "rb") as file:
            return file.read().decode().splitlines()

    def logged(self, start, count=1):
        return lambda: sum(line.startswith(start) for line in self.lines) >= count

    def ended(self):
        return self.process.poll() is not None

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for descriptor in self.ours:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def fd_above(descriptor, least=20):
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, least)


@pytest.fixture
def start_program(send_home, tmp_path):
    with open(send_home.control("me"), "wb") as file:
        file.write(b"here.example\n")
    started = []

    def start(**options):
        started.append(Program(send_home, str(tmp_path / "log"), **options))
        return started[-1]

    yield start
    for program in started:
        program.close()


def test_the_trigger_term_and_the_exit_code(start_program):
    program = start_program()
    program.until(program.logged("status: local 0/10 remote 0/20"), "the start")
    number = program.queue(JOE)
    program.until(program.logged(f"end msg {number}"), "the delivery")
    program.process.send_signal(signal.SIGTERM)
    program.until(program.ended, "the end")

    assert program.process.returncode == 0
    assert program.lines[-1] == "status: exiting"
    assert [order.recipient for order in program.orders] == [JOE]


def test_the_log_has_the_form_that_the_site_wants(start_program, send_home):
    with open(send_home.control("pluq.toml"), "w") as file:
        file.write('[log]\nformat = "json"\n')
    program = start_program()
    number = program.queue(JOE)
    program.until(lambda: any('"event":"end"' in line for line in program.lines), "the delivery")
    told = [json.loads(line) for line in program.lines]
    assert [(one["message"], one["status"]) for one in told if one["event"] == "delivery"] == [(number, "success")]
    assert {one["role"] for one in told} == {"send"}


def test_the_spawner_limits_the_concurrency(start_program):
    program = start_program(limit=3)
    program.until(program.logged("status: local 0/3 remote 0/3"), "the start")


def test_term_waits_for_what_is_in_flight(start_program):
    program = start_program()
    program.answer = lambda recipient: None
    program.queue(JOE)
    program.until(lambda: program.orders, "the order")
    program.process.send_signal(signal.SIGTERM)
    later = program.queue(b"later@here.example")
    os.write(program.reports_out, spawn.encode_report(program.orders[0].number, b"Kok"))
    program.until(program.ended, "the end")

    assert program.process.returncode == 0
    assert "status: local 0/10 remote 0/20 exitasap" in program.lines
    assert os.path.exists(program.layout.todo(later))


def test_a_spawner_that_dies_ends_the_program_and_its_deliveries_stay(start_program):
    program = start_program()
    program.answer = lambda recipient: None
    number = program.queue(JOE)
    program.until(lambda: program.orders, "the order")
    os.close(program.reports_out)
    program.until(program.ended, "the end")

    assert program.process.returncode == 0
    assert "alert: oh no! lost spawn connection! dying..." in program.lines
    with open(program.layout.local(number), "rb") as file:
        assert file.read() == b"Tjoe@here.example\0"


def test_a_cleaner_that_dies_ends_the_program(start_program):
    program = start_program()
    program.until(program.logged("status:"), "the start")
    os.close(program.clean_in)
    os.close(program.clean_out)
    program.clean_in = -1
    number = program.queue(JOE)
    program.until(lambda: "alert: oh no! lost qmail-clean connection! dying..." in program.lines, "the alert")
    program.until(program.ended, "the end")
    assert os.path.exists(program.layout.todo(number))


def test_hup_and_alrm(start_program):
    program = start_program()
    program.answer = lambda recipient: b"Zlater"
    program.queue(JOE)
    program.until(program.logged("delivery 1: deferral"), "the deferral")
    with open(program.home.control("locals"), "wb") as file:
        file.write(b"new.example\n")
    program.process.send_signal(signal.SIGHUP)
    program.answer = lambda recipient: b"Kok"
    program.process.send_signal(signal.SIGALRM)
    program.until(program.logged("delivery 2: success"), "the second try")
    program.queue(b"a@new.example")
    program.until(program.logged("delivery 3: success"), "the new domain")

    assert program.orders[-1].recipient == b"a@new.example"


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda home: os.unlink(home.control("me")), "alert: cannot start: unable to read controls"),
        (lambda home: os.mkdir(home.control("percenthack")), "alert: cannot start: unable to read controls"),
        (
            lambda home: os.rename(home.queue, home.queue + "x"),
            "alert: cannot start: unable to switch to queue directory",
        ),
        (lambda home: os.unlink(f"{home.queue}/lock/sendmutex"), "alert: cannot start: unable to open mutex"),
    ],
)
def test_what_keeps_it_from_starting(start_program, send_home, spoil, line):
    spoil(send_home)
    program = start_program()
    assert program.process.wait(DEADLINE) == 111
    assert program.lines == [line]
