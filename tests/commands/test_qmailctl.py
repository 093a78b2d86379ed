"""The verbs of qmailctl under real daemontools and real runit, and what it says to systemctl."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pluq.commands import qmailctl
from pluq.supervisor import service

DEADLINE = 60.0
# Notes each signal that it gets, and that it started.
RUN = """#!/bin/sh
note() { echo "$1" >>../../notes/%(name)s; }
trap 'note HUP' HUP
trap 'note ALRM' ALRM
trap 'note TERM; exit 0' TERM
note start
while :; do sleep 0.05; done
"""
PROGRAM = """#!/bin/sh
echo %(name)s >>"$PLUQ_HOME/notes/programs"
"""


# The lock is not to be that of this machine.
CTL = """
import sys
from pluq.commands import qmailctl
qmailctl.SUBSYS_LOCK = %r
sys.exit(qmailctl.main())
"""


@dataclass
class Stack:
    home: Path
    services: Path

    def notes(self, name: str) -> list[str]:
        try:
            return (self.home / "notes" / name).read_text().split()
        except FileNotFoundError:
            return []

    def wait(self, name: str, *wanted: str) -> None:
        """Wait until the service has noted exactly this."""
        deadline = time.monotonic() + DEADLINE
        while self.notes(name) != list(wanted):
            assert time.monotonic() < deadline, f"{name} noted {self.notes(name)}, not {wanted}"
            time.sleep(0.02)

    def ctl(self, *arguments: str) -> tuple[int, str]:
        environment = {**os.environ, "PLUQ_HOME": str(self.home), "PLUQ_SERVICES": str(self.services)}
        command = [sys.executable, "-c", CTL % str(self.home / "subsys" / "qmail")]
        done = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        return done.returncode, done.stdout


@pytest.fixture(autouse=True)
def subsys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the lock is in the process of the test."""
    folder = tmp_path / "subsys"
    folder.mkdir()
    monkeypatch.setattr(qmailctl, "SUBSYS_LOCK", str(folder / "qmail"))
    return folder


def make_home(base: Path) -> Path:
    home = base / "home"
    for part in ("notes", "bin", "control", "services"):
        (home / part).mkdir(parents=True)
    for name in ("qmail-send", "qmail-smtpd"):
        folder = home / "services" / name
        folder.mkdir()
        (folder / "run").write_text(RUN % {"name": name})
        (folder / "run").chmod(0o755)
    for name in ("qmail-tcpok", "qmail-qstat", "qmail-qread"):
        program = home / "bin" / name
        program.write_text(PROGRAM % {"name": name})
        program.chmod(0o755)
    return home


def end_daemontools(services: Path) -> None:
    subprocess.run(["svc", "-dx", *map(str, services.iterdir())], check=True)


def end_runit(services: Path) -> None:
    for folder in services.iterdir():
        subprocess.run(["sv", "cont", str(folder)], check=False, capture_output=True)
        subprocess.run(["sv", "force-shutdown", str(folder)], check=False, capture_output=True)


@pytest.fixture(params=["daemontools", "runit"])
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    scanner = {"daemontools": "svscan", "runit": "runsvdir"}[request.param]
    if shutil.which(scanner) is None:
        pytest.skip(f"needs {request.param} (Debian package)")
    home = make_home(tmp_path)
    services = home / "services"
    # Shells cannot catch a HUP that was ignored when they began, as it is under nohup.
    command = ["env", "--default-signal=HUP", scanner, str(services)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        stack = Stack(home, services)
        stack.wait("qmail-send", "start")
        stack.wait("qmail-smtpd", "start")
        yield stack
    finally:
        # First the scanner, which would start them again.
        process.terminate()
        process.wait(DEADLINE)
        {"runit": end_runit, "daemontools": end_daemontools}[request.param](services)


@pytest.mark.integration
def test_reload_and_flush_signal_the_scheduler_alone(stack: Stack) -> None:
    assert stack.ctl("reload") == (0, "Sending HUP signal to qmail-send.\n")
    stack.wait("qmail-send", "start", "HUP")
    assert stack.ctl("flush")[0] == 0
    stack.wait("qmail-send", "start", "HUP", "ALRM")
    assert stack.notes("programs") == ["qmail-tcpok"]
    assert stack.notes("qmail-smtpd") == ["start"]


@pytest.mark.integration
def test_stop_and_start(stack: Stack) -> None:
    code, said = stack.ctl("stop")
    assert (code, said.split()) == (0, ["Stopping", "qmail...", "qmail-smtpd", "qmail-send"])
    for name in ("qmail-send", "qmail-smtpd"):
        stack.wait(name, "start", "TERM")
    assert stack.ctl("start") == (0, "Starting qmail\n")
    for name in ("qmail-send", "qmail-smtpd"):
        stack.wait(name, "start", "TERM", "start")


@pytest.mark.integration
def test_restart_ends_and_starts_everything(stack: Stack) -> None:
    assert stack.ctl("restart")[0] == 0
    for name in ("qmail-send", "qmail-smtpd"):
        stack.wait(name, "start", "TERM", "start")


@pytest.mark.integration
def test_a_paused_service_notes_nothing_until_it_continues(stack: Stack) -> None:
    assert stack.ctl("pause") == (0, "Pausing qmail-send\nPausing qmail-smtpd\n")
    stack.ctl("reload")
    assert "paused" in stack.ctl("stat")[1]
    assert stack.notes("qmail-send") == ["start"]
    assert stack.ctl("cont")[0] == 0
    stack.wait("qmail-send", "start", "HUP")


@pytest.mark.integration
def test_stat_shows_the_services_and_the_queue(stack: Stack) -> None:
    code, said = stack.ctl("stat")
    assert code == 0
    assert "qmail-send" in said and "qmail-smtpd" in said
    assert stack.notes("programs") == ["qmail-qstat"]


@pytest.mark.integration
def test_a_service_that_nobody_supervises_is_said_so(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    code, said = Stack(home, home / "services").ctl("start")
    assert code == 111
    assert said == "Starting qmail\nqmail-send supervise not running\nqmail-smtpd supervise not running\n"


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that knows two units and notes its arguments."""
    home = make_home(tmp_path)
    notes = home / "notes" / "systemctl"
    program = home / "bin" / "systemctl"
    program.write_text(
        f'#!/bin/sh\ncase $1 in list-unit-files) echo "pluq.service enabled enabled"; echo "qmail-pop3d.service static -";;\n'
        f'*) echo "$*" >>{notes};; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("PLUQ_HOME", str(home))
    monkeypatch.delenv("PLUQ_SERVICES", raising=False)
    monkeypatch.setattr(service, "SCAN_FOLDERS", ())
    monkeypatch.setattr(service, "SYSTEMD_RUNS", str(tmp_path))
    return notes


def test_the_lock_tells_init_scripts_that_qmail_was_started_by_one(
    systemd: Path, subsys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for verb, is_there in (("start", True), ("stop", False)):
        monkeypatch.setattr("sys.argv", ["qmailctl", verb])
        assert qmailctl.main() == 0
        assert (subsys / "qmail").exists() is is_there


def test_services_start_where_the_lock_cannot_be_made(
    systemd: Path, subsys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (subsys / "qmail").mkdir()
    monkeypatch.setattr("sys.argv", ["qmailctl", "start"])
    assert qmailctl.main() == 0
    assert capsys.readouterr().err == f"qmailctl: {subsys}/qmail: Is a directory\n"


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("start", ["start pluq.service", "start qmail-pop3d.service"]),
        ("stop", ["stop qmail-pop3d.service", "stop pluq.service"]),
        ("restart", ["stop qmail-pop3d.service", "restart pluq.service", "start qmail-pop3d.service"]),
        ("reload", ["kill --kill-who=main --signal=HUP pluq.service"]),
        ("alarm", ["kill --kill-who=main --signal=ALRM pluq.service"]),
        ("pause", ["kill --signal=STOP pluq.service", "kill --signal=STOP qmail-pop3d.service"]),
        ("cont", ["kill --signal=CONT pluq.service", "kill --signal=CONT qmail-pop3d.service"]),
        (
            "stat",
            [f"status --no-pager --lines=0 {unit}.service" for unit in ("pluq", "qmail-pop3d")],
        ),
    ],
)
def test_the_same_verbs_under_systemd(
    systemd: Path, verb: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["qmailctl", verb])
    assert qmailctl.main() == 0
    assert systemd.read_text().splitlines() == said


def test_cdb_compiles_the_rules_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "control" / "tcp.smtp"
    rules.parent.mkdir()
    rules.write_text('127.:allow,RELAYCLIENT=""\n:allow\n')
    monkeypatch.setenv("PLUQ_HOME", str(tmp_path))
    monkeypatch.setattr(qmailctl, "RULES", ("control/tcp.smtp",))
    monkeypatch.setattr("sys.argv", ["qmailctl", "cdb"])
    assert qmailctl.main() == 0
    assert capsys.readouterr().out == f"Reloaded {rules}.\n"
    assert (rules.parent / "tcp.smtp.cdb").stat().st_mode & 0o777 == 0o644
    rules.write_text("127.:perhaps\n")
    assert qmailctl.main() == 111
    assert f"{rules}:1" in capsys.readouterr().err


def test_help_names_every_verb_and_anything_else_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["qmailctl", "help"])
    assert qmailctl.main() == 0
    said = capsys.readouterr().out
    assert all(f" {verb} -- " in said for verb in (*qmailctl.VERBS, *qmailctl.HOME_VERBS))
    for argv in (["qmailctl"], ["qmailctl", "explode"], ["qmailctl", "stop", "now"]):
        monkeypatch.setattr("sys.argv", argv)
        assert qmailctl.main() == 1


def test_no_services_at_all_names_where_was_looked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLUQ_SERVICES", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["qmailctl", "stop"])
    assert qmailctl.main() == 111
    assert str(tmp_path) in capsys.readouterr().err
