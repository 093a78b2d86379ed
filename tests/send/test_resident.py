"""The resident role in a process of its own, beside the real queue daemon and deliverers that the test plays."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time

import pytest

from pluq.queue.layout import QueueLayout
from pluq.queue.submit import submit_sync
from pluq.supervisor.sockets import bind_unix
from pluq.wire import spawn

DEADLINE = 60.0
MESSAGE = b"Subject: test\n\nbody\n"
JOE = b"joe@here.example"
FAR = b"far@there.example"


class Deliverer:
    """Listens where lspawn or rspawn would, and answers what the test says."""

    def __init__(self, path):
        self.listener = bind_unix(path, socket.SOCK_STREAM, 0o600, os.getuid())
        self.sock = None
        self.orders = []
        self.answer = lambda recipient: b"Kok"

    def step(self):
        if self.sock is None:
            with contextlib.suppress(BlockingIOError):
                self.sock, _address = self.listener.accept()
                self.sock.setblocking(False)
                self.send(spawn.encode_limit(300, 2))
                self.decoder = spawn.CommandDecoder(2)
            return
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self.hang_up()
            return
        for order in self.decoder.feed(data):
            self.orders.append(order)
            report = self.answer(order.recipient)
            if report is not None:
                self.send(spawn.encode_report(order.number, report, 2))

    def send(self, data):
        """To a scheduler that may have been killed since: it is seen to be gone at the next step."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.send(data)

    def hang_up(self):
        self.sock.close()
        self.sock = None

    def close(self):
        if self.sock is not None:
            self.sock.close()
        self.listener.close()


class Stack:
    def __init__(self, home, log_path):
        self.home = home
        self.layout = QueueLayout(home.queue)
        self.log_path = log_path
        kinds = {"qmqp": socket.SOCK_STREAM, "lease": socket.SOCK_SEQPACKET, "todo": socket.SOCK_SEQPACKET}
        self.sockets = {name: bind_unix(f"{home.run}/{name}", kind, 0o600, os.getuid()) for name, kind in kinds.items()}
        self.local, self.remote = Deliverer(f"{home.run}/lspawn"), Deliverer(f"{home.run}/rspawn")
        with open(home.control("me"), "wb") as file:
            file.write(b"here.example\n")
        self.daemon = self.fork(self.run_daemon)
        self.send = self.fork(self.run_send)

    def run_daemon(self):
        from pluq.queue import daemon

        return daemon.run(self.home, *self.sockets.values())

    def run_send(self):
        from pluq.send import loop

        run = self.home.run
        log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return loop.run(self.home, f"{run}/todo", f"{run}/lspawn", f"{run}/rspawn", log)

    @staticmethod
    def fork(work):
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                signal.set_wakeup_fd(-1)
                code = work()
            finally:
                os._exit(code)
        return pid

    @staticmethod
    def kill(pid, number=signal.SIGKILL):
        os.kill(pid, number)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def submit(self, *recipients, sender=b"sender@here.example"):
        return submit_sync(self.home, MESSAGE, sender, recipients, {}).qp

    def until(self, condition, what):
        """Play the deliverers until something is true."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, f"waited too long for {what}: {self.lines[-20:]}"
            self.local.step()
            self.remote.step()
            time.sleep(0.002)

    def retry_until(self, condition):
        """Have everything tried now, as often as it takes: what is on its way to disk hears of the next signal."""

        def tried():
            os.kill(self.send, signal.SIGALRM)
            return condition()

        self.until(tried, "an empty queue")

    @property
    def lines(self):
        with contextlib.suppress(FileNotFoundError), open(self.log_path, "rb") as file:
            return file.read().decode().splitlines()
        return []

    def logged(self, start, count=1):
        return lambda: sum(line.startswith(start) for line in self.lines) >= count

    def empty(self, kinds=("mess", "info", "local", "remote")):
        path = self.layout.path
        parts = [f"{kind}/{part}" for kind in kinds for part in range(self.layout.split)]
        return not any(os.listdir(f"{path}/{name}") for name in ("todo", "intd", "bounce", *parts))

    def nothing_queued(self):
        """No message is left. A killed daemon may leave S2, which is removed after 36 hours."""
        return self.empty(("info", "local", "remote"))

    def close(self):
        for pid in (self.send, self.daemon):
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                self.kill(pid)
        for sock in self.sockets.values():
            sock.close()
        self.local.close()
        self.remote.close()


@pytest.fixture
def stack(send_home, tmp_path):
    stack = Stack(send_home, str(tmp_path / "log"))
    yield stack
    stack.close()


def test_messages_go_through_and_term_leaves(stack):
    for index in range(20):
        stack.submit(JOE, b"u%d@there.example" % index)
    stack.until(stack.empty, "an empty queue")

    assert stack.logged("end msg", 20)()
    assert [order.recipient for order in stack.local.orders] == [JOE] * 20
    assert len(stack.remote.orders) == 20
    os.kill(stack.send, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(stack.send, 0)[1]) == 0
    assert stack.lines[-1] == "status: exiting"


def test_deferred_messages_are_in_s5_and_alrm_tries_them(stack):
    stack.remote.answer = lambda recipient: b"Zlater\n"
    stack.submit(JOE, FAR)
    stack.until(stack.logged("delivery 2: deferral: later/"), "the deferral")
    stack.until(lambda: os.listdir(f"{stack.layout.path}/todo") == [], "preprocessing")

    stack.remote.answer = lambda recipient: b"Kok\n"
    stack.retry_until(stack.empty)
    assert len(stack.local.orders) == 1


def test_a_bounce_goes_through_the_daemon_without_stopping_the_loop(stack):
    stack.local.answer = lambda recipient: b"Dno such user\n" if recipient == b"nobody@here.example" else b"Kok"
    stack.submit(b"nobody@here.example")
    stack.until(stack.logged("end msg", 2), "the bounce")
    stack.until(stack.empty, "an empty queue")

    assert [order.sender for order in stack.local.orders] == [b"sender@here.example", b""]
    assert stack.local.orders[1].recipient == b"sender@here.example"
    bounced = next(line for line in stack.lines if line.startswith("bounce msg"))
    qp = bounced.rpartition(" ")[2]
    assert any(f"from <> qp {qp} " in line for line in stack.lines), "the log lines of a bounce fit together"


def test_a_deliverer_that_dies_is_connected_again(stack):
    stack.local.answer = lambda recipient: None
    stack.submit(JOE)
    stack.until(stack.logged("starting delivery 1"), "the delivery")
    stack.until(lambda: stack.local.orders, "the order")
    stack.local.hang_up()
    stack.until(stack.logged("delivery 1: deferral: The_delivery_agent_went_away"), "the deferral")
    stack.until(stack.logged("warning: lost connection to the local deliverer"), "the warning")

    stack.local.answer = lambda recipient: b"Kok"
    stack.until(lambda: stack.local.sock is not None, "the new connection")
    stack.submit(JOE)
    stack.until(stack.logged("delivery 2: success"), "the next message")
    stack.retry_until(stack.empty)


@pytest.mark.parametrize("victim", ["daemon", "send"])
def test_killing_one_role_while_mail_flows_loses_nothing(stack, victim):
    stack.local.answer = lambda recipient: b"Zlater" if recipient == b"later@here.example" else b"Kok"
    accepted = []
    for index in range(60):
        recipient = b"r%d@here.example" % index
        with contextlib.suppress(Exception):
            stack.submit(recipient, b"later@here.example") if index % 7 == 0 else stack.submit(recipient)
            accepted.append(recipient)
        stack.local.step()
        stack.remote.step()
        if index in (20, 40):
            stack.kill(getattr(stack, victim))
            setattr(stack, victim, stack.fork(getattr(stack, f"run_{victim}")))
    assert len(accepted) > 40

    stack.until(lambda: {order.recipient for order in stack.local.orders} >= set(accepted), "every recipient")
    stack.local.answer = lambda recipient: b"Kok"
    stack.until(lambda: os.listdir(f"{stack.layout.path}/todo") == [], "preprocessing")
    stack.retry_until(stack.nothing_queued)


def test_a_stack_that_is_told_to_leave_does_not_wait_for_ever(stack):
    stack.local.answer = lambda recipient: None
    stack.submit(JOE)
    stack.until(lambda: stack.local.orders, "the order")
    began = time.monotonic()
    os.kill(stack.send, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(stack.send, 0)[1]) == 0

    assert time.monotonic() - began < DEADLINE
    assert stack.lines[-1] == "status: exiting"
    stack.send = stack.fork(stack.run_send)
    stack.local.answer = lambda recipient: b"Kok"
    os.kill(stack.send, 0)
    stack.until(lambda: stack.local.sock is not None, "the new connection")


def test_a_second_scheduler_refuses_to_start(stack):
    stack.until(stack.logged("status"), "the first one")
    second = stack.fork(stack.run_send)
    assert os.waitstatus_to_exitcode(os.waitpid(second, 0)[1]) == 111
    assert any("cannot start: qmail-send is already running" in line for line in stack.lines)


def test_a_new_scheduler_looks_into_todo_only_after_the_daemon_has_answered_it(stack):
    """What its predecessor said last may not have been read: todo/ can still name a message that is done."""
    stack.until(stack.logged("status"), "the first one")
    stack.kill(stack.send)
    stack.submit(JOE)
    os.kill(stack.daemon, signal.SIGSTOP)
    os.unlink(stack.log_path)
    stack.send = stack.fork(stack.run_send)
    stack.until(stack.logged("status"), "the second one")
    stack.until(lambda: stack.local.sock is not None, "its deliverer")
    for _ in range(50):
        stack.local.step()
        assert not stack.logged("new msg")()
        time.sleep(0.002)
    os.kill(stack.daemon, signal.SIGCONT)
    stack.until(stack.logged("end msg"), "the delivery")


def test_hup_takes_the_plugins_that_the_site_names_now(stack):
    stack.local.answer = lambda recipient: b"Dno such user\n"

    def site(text, concurrency):
        with open(stack.home.control("concurrencylocal"), "w") as file:
            file.write(f"{concurrency}\n")
        with open(stack.home.control("pluq.toml"), "w") as file:
            file.write(text)
        os.kill(stack.send, signal.SIGHUP)
        stack.until(stack.logged(f"status: local 0/{concurrency} "), "the new settings")

    stack.until(stack.logged("status: local 0/10 "), "the start")
    site('[send]\nplugins = ["bounce"]\nbounce.discard_double = true\n', 7)
    site('[send]\nplugins = ["nosuch"]\n', 8)
    assert any("nosuch" in line and "plugins go on as they were" in line for line in stack.lines)
    stack.submit(b"nobody@here.example", sender=b"")
    stack.until(stack.logged("double bounce: discarding"), "the verdict of the plugin")
    stack.until(stack.empty, "an empty queue")
    assert len(stack.local.orders) == 1
