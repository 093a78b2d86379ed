"""pluq queue list and show, on a queue that nobody serves."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from pluq.config import Home, current_ids
from pluq.supervisor.hier import make_home, mark_single_user
from pluq.testing.stack import BIN


@pytest.fixture
def home(tmp_path):
    made = Home(str(tmp_path / "home"))
    make_home(made, current_ids())
    mark_single_user(made, current_ids())
    Path(made.control("me")).write_text("mx.example.org\n")
    return made


def run(home, *arguments, **options):
    environment = {**os.environ, "PLUQ_HOME": home.path}
    return subprocess.run([*arguments], env=environment, capture_output=True, timeout=60, check=False, **options)


def inject(home, subject):
    os.symlink(BIN / "qmail-queue", f"{home.bin}/qmail-queue")
    text = f"Subject: {subject}\nX: \x1b[2J\n\nbody\n".encode()
    assert run(home, str(BIN / "qmail-inject"), "-fs@x.example", "r@y.example", input=text).returncode == 0


def test_a_message_is_listed_and_shown(home):
    inject(home, "look")
    (message,) = map(json.loads, run(home, str(BIN / "pluq"), "queue", "list", "--json").stdout.splitlines())
    assert (message["sender"], message["state"]) == ("s@x.example", "todo")
    assert message["recipients"] == [{"address": "r@y.example", "channel": "", "done": False}]
    shown = run(home, str(BIN / "pluq"), "queue", "show", str(message["number"])).stdout
    assert b"<s@x.example>" in shown
    assert b"\nSubject: look\n" in shown
    assert b"\x1b" not in shown


def test_an_empty_queue_has_no_lines(home):
    told = run(home, str(BIN / "pluq"), "queue", "list")
    assert (told.returncode, told.stdout) == (0, b"")


def test_a_message_that_is_not_there_is_told(home):
    told = run(home, str(BIN / "pluq"), "queue", "show", "12")
    assert (told.returncode, told.stderr) == (1, b"pluq queue show: no message 12\n")
