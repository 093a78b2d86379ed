"""A host without a queue (qmail-qmqpc in the place of qmail-queue) gives its mail to a hub; the hub goes down and comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pluq.config import Home, current_ids
from pluq.queue.layout import QueueLayout
from pluq.queue.reader import read_todo, todo_numbers
from pluq.supervisor.hier import make_home, mark_single_user

pytestmark = pytest.mark.integration

BIN = Path(sys.executable).parent
PATIENCE = 60


class Hub:
    """A home with a queue, whose qmail-qmqpd listens on a port."""

    def __init__(self, folder, programs):
        self.home = Home(str(folder))
        make_home(self.home, current_ids())
        mark_single_user(self.home, current_ids())
        Path(self.home.control("me")).write_text("hub.example\n")
        os.symlink(BIN / "qmail-queue", f"{self.home.bin}/qmail-queue")
        self._programs = programs
        self.port = 0

    def up(self):
        program = [f"{BIN}/qmail-qmqpd"]
        self.port = self._programs.start(program, {"PLUQ_HOME": self.home.path}, self.port)

    def down(self):
        self._programs.stop(self.port)

    def queued(self):
        """Return subject, sender and recipients of each message in the queue."""
        layout = QueueLayout(self.home.queue)
        found = []
        for number in todo_numbers(layout):
            todo = read_todo(layout, number)
            lines = Path(layout.mess(number)).read_bytes().split(b"\n")
            subject = next(line for line in lines if line.startswith(b"Subject: "))
            found.append((subject[9:].decode(), todo.sender, sorted(todo.recipients)))
        return sorted(found)


class MiniHost:
    """bin/, control/ with two files, and no queue."""

    def __init__(self, folder, hub):
        self.folder = folder
        self.hub = hub
        for name in ("bin", "control"):
            (folder / name).mkdir(parents=True)
        (folder / "control" / "me").write_text("mini.example\n")
        (folder / "control" / "qmqpservers").write_text("127.0.0.1\n")
        os.symlink(BIN / "qmail-qmqpc", folder / "bin" / "qmail-queue")
        os.symlink(BIN / "qmail-inject", folder / "bin" / "qmail-inject")

    def inject(self, subject):
        """Send a message; return the exit code."""
        environment = {**os.environ, "PLUQ_HOME": str(self.folder), "PORT_QMQP": str(self.hub.port)}
        environment.pop("QMAILQUEUE", None)
        text = f"To: joe@example.org, ann@example.org\nSubject: {subject}\n\nhello\n".encode()
        program = [f"{self.folder}/bin/qmail-inject", "-fsender@mini.example"]
        return subprocess.run(program, input=text, env=environment, check=False, timeout=PATIENCE).returncode


@pytest.fixture
def hub(tmp_path, under_tcpserver):
    return Hub(tmp_path / "hub", under_tcpserver)


def test_what_the_hub_took_is_there_once_and_what_it_did_not_take_is_told(hub, tmp_path):
    hub.up()
    host = MiniHost(tmp_path / "mini", hub)
    assert host.inject("first") == 0
    hub.down()
    assert host.inject("second") == 111
    hub.up()
    assert host.inject("second") == 0

    envelope = (b"sender@mini.example", [b"ann@example.org", b"joe@example.org"])
    assert hub.queued() == [("first", *envelope), ("second", *envelope)]


def test_the_hubs_message_tells_its_way(hub, tmp_path):
    hub.up()
    MiniHost(tmp_path / "mini", hub).inject("way")
    layout = QueueLayout(hub.home.queue)
    (number,) = todo_numbers(layout)
    lines = Path(layout.mess(number)).read_text().split("\n")
    assert lines[0].startswith("Received: (qmail ")
    assert lines[1].startswith("Received: from unknown (127.0.0.1)")
    assert " with QMQP; " in lines[2]


def test_a_hub_without_a_usable_queue_loses_nothing(hub, tmp_path):
    hub.up()
    host = MiniHost(tmp_path / "mini", hub)
    os.rename(f"{hub.home.path}/queue", f"{hub.home.path}/away")
    assert host.inject("lost?") == 111
    os.rename(f"{hub.home.path}/away", f"{hub.home.path}/queue")
    assert hub.queued() == []
    assert host.inject("found") == 0
    assert len(hub.queued()) == 1
