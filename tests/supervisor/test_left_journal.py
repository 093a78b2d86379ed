"""A killed queue daemon left its journal: whoever looks at the queue next puts its mail there first."""

import os
import subprocess
from pathlib import Path

import pytest

from pluq.commands import migrate, qmail_start, queue_check
from pluq.config import Home, current_ids
from pluq.errors import ConfigError
from pluq.queue.journal import RECORD, SEGMENTS, Journal, marked
from pluq.queue.layout import QueueLayout
from pluq.queue.recovery import is_needed, todo_files
from pluq.supervisor.hier import make_home
from pluq.supervisor.recovery import recover_queue
from pluq.testing.stack import BIN, Stack

MESSAGE = b"Subject: kept\n\npromised by a journal\n"


def promise(home, recipient=b"user@example.org"):
    """Leave a journal behind that promises one message, as a power cut does."""
    layout = QueueLayout(home.queue)
    os.makedirs(layout.pool, exist_ok=True)
    journal = Journal(layout.pool)
    todo = marked(1, 2, journal.next_ident(), b"Fsender@example.org\0T%b\0" % recipient)
    journal.write([RECORD.pack(b"m", journal.next_ident() - 1, 99, len(todo), len(MESSAGE)), todo, MESSAGE])
    journal.sync()
    return layout


@pytest.fixture
def home(tmp_path):
    home = Home(str(tmp_path / "home"))
    os.makedirs(home.control_dir)
    Path(home.control("singleuser")).touch()
    Path(home.control("me")).write_text("mail.example.org\n")
    make_home(home, current_ids())
    return home


def run(monkeypatch, main, *words):
    monkeypatch.setattr("sys.argv", [*words])
    return main()


@pytest.mark.parametrize("way", ["pluq serve", "qmail-start"])
def test_a_start_of_either_kind_recovers_before_anything_else(home, capfd, way):
    layout = promise(home)
    recover = recover_queue if way == "pluq serve" else qmail_start.recover_queue
    recover(home, home.ids())
    assert [todo.endswith(b"Tuser@example.org\0") for _number, todo in todo_files(layout)] == [True]
    assert not is_needed(layout)
    assert "1 messages written once more" in capfd.readouterr().err


def test_nothing_is_started_when_the_mail_cannot_be_put_into_the_queue(home, capfd):
    layout = promise(home)
    os.rename(f"{home.queue}/mess", f"{home.queue}/away")
    with pytest.raises(ConfigError, match="could not be put into the queue"):
        recover_queue(home, home.ids())
    assert is_needed(layout)
    os.rename(f"{home.queue}/away", f"{home.queue}/mess")
    recover_queue(home, home.ids())
    assert len(list(todo_files(layout))) == 1


def test_queue_check_tells_of_it_and_its_repair_recovers(home, monkeypatch, capsys):
    layout = promise(home)
    assert run(monkeypatch, queue_check.main, "pluq queue check", "--home", home.path) == queue_check.FAULTS
    assert "left its journal" in capsys.readouterr().out
    assert is_needed(layout)
    assert run(monkeypatch, queue_check.main, "pluq queue check", "--home", home.path, "--repair") == 0
    assert len(list(todo_files(layout))) == 1
    assert run(monkeypatch, queue_check.main, "pluq queue check", "--home", home.path) == 0


def test_an_order_to_a_stopped_queue_is_for_the_mail_of_the_journal_too(home):
    layout = promise(home)
    command = [str(BIN / "pluq"), "queue", "remove", "--all", "--home", home.path]
    done = subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert done.stdout == b"1 removed\n"
    recover_queue(home, home.ids())
    assert not list(todo_files(layout))


def test_going_back_to_qmail_warns_of_it(home, monkeypatch, capsys):
    promise(home)
    Path(home.control("pluq.toml")).write_text("")
    run(monkeypatch, migrate.main, "pluq migrate", home.path, "--write")
    assert run(monkeypatch, migrate.main, "pluq migrate", home.path, "--undo") == 0
    assert "pluq queue check --repair" in capsys.readouterr().err


@pytest.mark.integration
def test_mail_that_only_the_journal_has_is_delivered_after_the_start(tmp_path):
    stack = Stack(tmp_path, single=True)
    promise(stack.home, b"joe@example.org")
    stack.start()
    try:
        stack.wait_mail("kept")
        stack.wait_empty()
    finally:
        stack.stop()
    assert not set(SEGMENTS) & set(os.listdir(f"{stack.home.queue}/pool")), "an ordinary stop leaves no journal"
