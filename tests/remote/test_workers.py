"""The resident deliverer as a process of its own, driven as the scheduler drives it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pluq.testing.ports import free_port
from pluq.testing.remote_home import WIRE, RemoteHome
from pluq.testing.smtp_peer import Fault, SmtpPeer
from pluq.wire.spawn import ReportDecoder, decode_limit, encode_command

PATIENCE = 60.0
SINK = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin")
ROLE = """
import socket, sys
from pluq.config import Home
from pluq.remote.workers import run
sock = socket.socket(socket.AF_UNIX)
sock.bind(sys.argv[1] + "/rspawn")
sock.listen()
run(Home(sys.argv[1]), sock)
"""


class Scheduler:
    """The other side of run/rspawn."""

    def __init__(self, path: Path, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.socket.connect(str(path / "rspawn"))
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.01)
        self.limit = decode_limit(self.socket.recv(2))
        self.decoder = ReportDecoder(2)

    def order(self, number: int, message: bytes = b"8/123", recipient: bytes = b"r@dst.example") -> None:
        self.socket.sendall(encode_command(number, message, b"s@src.example", recipient, 2))

    def reports(self, count: int) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        while len(found) < count:
            data = self.socket.recv(65536)
            assert data, "the deliverer hung up"
            found.update(self.decoder.feed(data))
        return found


@pytest.fixture
def running(remote_home: RemoteHome) -> Iterator[Callable[..., Scheduler]]:
    schedulers: list[Scheduler] = []

    def start(**environment: str) -> Scheduler:
        process = subprocess.Popen(
            [sys.executable, "-c", ROLE, str(remote_home.path)], env={**os.environ, **environment}
        )
        schedulers.append(Scheduler(remote_home.path, process))
        return schedulers[-1]

    remote_home.message(123)
    yield start
    for scheduler in schedulers:
        scheduler.socket.close()
        scheduler.process.kill()
        scheduler.process.wait()


def test_many_deliveries_at_once_each_get_their_report(
    remote_home: RemoteHome, running: Callable[..., Scheduler]
) -> None:
    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        scheduler = running()
        assert scheduler.limit > 255
        for number in range(300):
            scheduler.order(number)
        reports = scheduler.reports(300)
    assert sorted(reports) == list(range(300))
    assert all(text.startswith(b"K127.0.0.1 accepted message.\n") for text in reports.values())
    assert peer.messages == [WIRE] * 300


def test_bad_orders_are_refused_as_by_qmail_rspawn(remote_home: RemoteHome, running: Callable[..., Scheduler]) -> None:
    (remote_home.path / "queue/mess/8/9").mkdir()
    scheduler = running()
    for number, message in enumerate([b"8/124", b"8/x", b"/8/123", b"", b"8/9"]):
        scheduler.order(number, message)
    scheduler.order(5, recipient=b"nowhere")
    reports = scheduler.reports(6)
    assert [reports[number] for number in range(6)] == [
        b"Zqmail-spawn unable to open message. (#4.3.0)\n",
        b"DInternal error: messid has nonnumerics. (#5.3.5)\n",
        b"DInternal error: messid has nonnumerics. (#5.3.5)\n",
        b"DInternal error: messid too short. (#5.3.5)\n",
        b"ZSorry, message has wrong type. (#4.3.5)\n",
        b"DSorry, address must include host name. (#5.1.3)\n",
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_only_the_queues_owner_can_give_messages(remote_home: RemoteHome, running: Callable[..., Scheduler]) -> None:
    os.chown(remote_home.path / "queue/mess/8/123", 12345, -1)
    scheduler = running()
    scheduler.order(1)
    assert scheduler.reports(1) == {1: b"ZSorry, message has wrong owner. (#4.3.5)\n"}


def test_term_finishes_what_has_begun_and_takes_nothing_more(
    remote_home: RemoteHome, running: Callable[..., Scheduler]
) -> None:
    remote_home.control("timeoutremote", "2\n")
    with SmtpPeer({"MESSAGE": [Fault.SILENCE]}) as peer:
        remote_home.relay_to(peer)
        scheduler = running()
        scheduler.order(1)
        deadline = time.monotonic() + PATIENCE
        while not peer.messages:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        scheduler.process.send_signal(signal.SIGTERM)
        assert b"Possible duplicate!" in scheduler.reports(1)[1]
        assert scheduler.process.wait(PATIENCE) == 0
    assert len(peer.messages) == 1


def test_a_scheduler_that_comes_back_is_served(remote_home: RemoteHome, running: Callable[..., Scheduler]) -> None:
    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        first = running()
        first.socket.close()
        second = Scheduler(remote_home.path, first.process)
        second.order(7)
        assert second.reports(1)[7].startswith(b"K")
        second.socket.close()


def test_qmailremote_is_run_for_each_delivery(
    remote_home: RemoteHome, running: Callable[..., Scheduler], tmp_path: Path
) -> None:
    program = tmp_path / "remote"
    program.write_text("#!/bin/sh\nprintf 'r\\0K'; printf '%s|' \"$@\"; pwd; cat; printf '\\0'\n")
    program.chmod(0o755)
    scheduler = running(QMAILREMOTE=str(program))
    scheduler.order(1)
    where = f"{remote_home.path}/queue/mess".encode()
    said = scheduler.reports(1)[1]
    assert said == b"Kdst.example|s@src.example|r@dst.example|" + where + b"\nSubject: x\n\n.body\n"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 111", b"ZUnable to run qmail-remote.\n"),
        ("exit 1", b"DUnable to run qmail-remote.\n"),
        ("kill -9 $$", b"Zqmail-remote crashed.\n"),
        ("exit 0", b"Zqmail-remote produced no output.\n"),
        ("head -c 2000000 /dev/zero", b"Zqmail-remote wrote too much.\n"),
    ],
)
def test_how_qmailremote_ends_is_reported(
    running: Callable[..., Scheduler], tmp_path: Path, script: str, said: bytes
) -> None:
    program = tmp_path / "remote"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    scheduler = running(QMAILREMOTE=str(program))
    scheduler.order(1)
    assert scheduler.reports(1) == {1: said}


def test_hup_takes_new_plugins_and_keeps_the_old_ones_when_they_are_wrong(
    remote_home: RemoteHome, running: Callable[..., Scheduler]
) -> None:
    (remote_home.path / "plugins").mkdir()
    (remote_home.path / "plugins/refuse.py").write_text(
        "from pluq import Plugin, Reject, hook\n\n\n"
        "class Refuse(Plugin):\n    name = 'refuse'\n\n"
        "    @hook\n    def remote_policy(self, delivery):\n        return Reject(text='by plugin')\n"
    )
    with SmtpPeer() as peer:
        remote_home.relay_to(peer)
        scheduler = running()
        scheduler.order(1)
        assert scheduler.reports(1)[1].startswith(b"K")
        for text in ('[remote]\nplugins = ["refuse"]\n', '[remote]\nplugins = ["nonsense"]\n'):
            remote_home.control("pluq.toml", text)
            scheduler.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + PATIENCE
            said = b""
            while said != b"Dby plugin (#5.7.1)\n":
                assert time.monotonic() < deadline, said
                scheduler.order(1)
                said = scheduler.reports(1)[1]


@contextmanager
def smtp_sink(*options: str) -> Iterator[int]:
    assert SINK is not None
    port = free_port()
    user = ["-u", "root"] if os.geteuid() == 0 else []
    process = subprocess.Popen([SINK, *user, *options, f"127.0.0.1:{port}", "100"])
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.mark.integration
@pytest.mark.skipif(SINK is None, reason="smtp-sink of Debian's postfix is missing")
@pytest.mark.parametrize("options", [(), ("-p",), ("-e",)], ids=["pipelining", "no pipelining", "no EHLO"])
def test_smtp_sink_takes_everything(
    remote_home: RemoteHome, running: Callable[..., Scheduler], options: tuple[str, ...]
) -> None:
    with smtp_sink(*options) as port:
        remote_home.control("smtproutes", f":127.0.0.1:{port}\n")
        remote_home.message(124, b"Subject: big\n\n" + b".0123456789\n" * 100_000)
        scheduler = running()
        for number in range(200):
            scheduler.order(number, b"8/124" if number % 50 == 0 else b"8/123")
        reports = scheduler.reports(200)
    assert all(text.startswith(b"K") for text in reports.values())
