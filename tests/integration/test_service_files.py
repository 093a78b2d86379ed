"""The shipped run files under real daemontools and real runit, steered by qmailctl."""

import os
import shutil
import signal
import smtplib
import subprocess
from pathlib import Path

import pytest

SHIPPED = Path(__file__).parent.parent.parent / "service"
PATIENCE = 60.0

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.getuid() != 0, reason="loggers run as qmaill: needs root")]


class Supervisor:
    """svscan or runsvdir on a folder with one shipped service."""

    def __init__(self, kind, stack, service):
        self.kind = kind
        self.stack = stack
        self.scan = stack.folder / "services"
        self.logs = stack.folder / "logs"
        shutil.copytree(SHIPPED / service, self.scan / service)
        (self.logs / service).mkdir(parents=True)
        shutil.chown(self.logs / service, "qmaill")
        self.service = self.scan / service
        self.environment = {
            **stack.environment(),
            "PLUQ_SERVICES": str(self.scan),
            "PLUQ_LOGS": str(self.logs),
        }
        scanner = {"daemontools": "svscan", "runit": "runsvdir"}[kind]
        self.process = subprocess.Popen([scanner, str(self.scan)], env=self.environment, stderr=subprocess.DEVNULL)

    def ctl(self, verb):
        command = [f"{self.stack.home.bin}/qmailctl", verb]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout + done.stderr

    def pid(self):
        """Return the process number of the service, 0 while it is down."""
        try:
            if self.kind == "runit":
                return int((self.service / "supervise" / "pid").read_text() or 0)
            return int.from_bytes((self.service / "supervise" / "status").read_bytes()[12:16], "little")
        except (FileNotFoundError, ValueError):
            return 0

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        folders = [str(self.service), str(self.service / "log")]
        if self.kind == "daemontools":
            subprocess.run(["svc", "-dx", *folders], check=False)
        else:
            subprocess.run(["sv", "-w", "10", "force-shutdown", folders[0]], check=False, capture_output=True)


@pytest.fixture(params=["daemontools", "runit"])
def supervised(request, new_stack, tool, until):
    """Start a stack's service; give the supervisor."""
    tool({"daemontools": "svscan", "runit": "runsvdir"}[request.param], request.param)
    running = []

    def start(service, single=False):
        stack = new_stack(single)
        stack.control("pluq.toml", f'[profile.mx]\nlisten = ["127.0.0.1:{stack.port}"]')
        running.append(Supervisor(request.param, stack, service))
        return running[-1]

    yield start
    for supervisor in running:
        supervisor.end()
        until(
            lambda one=supervisor: not one.pid() or not os.path.exists(f"/proc/{one.pid()}"), "the end of the service"
        )


def mail(stack, token):
    with smtplib.SMTP("127.0.0.1", stack.port, timeout=PATIENCE) as client:
        client.sendmail("a@example.net", ["joe@example.org"], f"Subject: {token}\n\nx\n")


def is_up(stack):
    try:
        with smtplib.SMTP("127.0.0.1", stack.port, timeout=PATIENCE):
            return True
    except (OSError, smtplib.SMTPException):
        return False


def test_the_whole_stack_as_one_service(supervised, until):
    supervisor = supervised("pluq")
    stack = supervisor.stack
    until(lambda: is_up(stack), lambda: f"a greeting: {logged(supervisor)}")
    mail(stack, "one")
    stack_log = lambda: logged(supervisor)  # noqa: E731
    until(lambda: "one" in stack.subjects(), stack_log)
    first = supervisor.pid()

    assert supervisor.ctl("restart")[0] == 0
    until(lambda: supervisor.pid() not in (0, first) and is_up(stack), stack_log)
    mail(stack, "two")
    until(lambda: "two" in stack.subjects(), stack_log)
    assert supervisor.ctl("reload")[0] == 0
    assert supervisor.ctl("flush")[0] == 0
    assert "pluq" in supervisor.ctl("stat")[1]
    assert "delivery" in logged(supervisor)

    assert supervisor.ctl("stop")[0] == 0
    until(lambda: not is_up(stack), stack_log)
    assert supervisor.ctl("start")[0] == 0
    until(lambda: is_up(stack), stack_log)


def test_qmails_own_programs_as_a_service(supervised, until):
    supervisor = supervised("qmail-send", single=True)  # one user: every user may run this Python then
    stack = supervisor.stack
    Path(stack.home.control("pluq.toml")).unlink()
    until(lambda: "status: local 0/10 remote 0/20" in logged(supervisor), lambda: logged(supervisor))
    stack.run("qmail-inject", "-fa@example.net", "joe@example.org", input=b"Subject: injected\n\nx\n")
    until(lambda: "injected" in stack.subjects(), lambda: logged(supervisor))
    assert supervisor.ctl("stop")[0] == 0
    until(lambda: "status: exiting" in logged(supervisor), lambda: logged(supervisor))


def logged(supervisor):
    current = supervisor.logs / supervisor.service.name / "current"
    return current.read_text(errors="replace") if current.exists() else "no log"
