"""ratelimit: who is counted, where it ends, and what is left of yesterday."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pluq import Recipient, Session, Transaction, Verdict
from pluq.config import Home
from pluq.hookspecs import Login
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin
from pluq_ratelimit import CANNOT_COUNT, TOO_MANY, RateLimit, parse

AWAY = b"ann@far.example"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    for part in ("control", "state/smtpd"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "control" / "rcpthosts").write_text("here.example\n")
    return Home(str(tmp_path))


def started(home: Home, *lines: str) -> RateLimit:
    plugin = make_plugin(RateLimit, home=home, relaylimits=lines)
    plugin.start()
    return plugin


def login(user: bytes) -> Session:
    return Session(remote_ip="192.0.2.7", environment={"RELAYCLIENT": ""}, login=Login(user, "PLAIN"))


def ask(plugin: RateLimit, session: Session, recipient: bytes = AWAY) -> Verdict | None:
    return plugin.smtp_rcpt_allowed(session, Transaction(b"s@here.example"), Recipient(recipient))


def test_the_limit_ends_the_session_at_the_recipient_beyond_it(home: Home) -> None:
    plugin = started(home, ":3")
    assert [ask(plugin, login(b"joe")) for _ in range(5)] == [None, None, None, TOO_MANY, TOO_MANY]
    assert ask(plugin, login(b"ann")) is None


LINES = (":2", "news:3", "free:0", "joe:9", "joe:1", "192.0.2.9:1")
CLIENTS = [
    (login(b"anybody"), 2),
    (login(b"NEWS"), 3),
    (login(b"joe"), 1),
    (login(b"xjoe"), 2),
    (login(b"free"), None),
    (login(b"../../etc/passwd\0\xff/"), 2),
    (login(b"x" * 500), 2),
    (Session(remote_ip="192.0.2.9", environment={"RELAYCLIENT": ""}), 1),
    (Session(remote_ip="2001:db8::1", environment={"RELAYCLIENT": ""}), 2),
    (Session(remote_ip="192.0.2.9"), None),
]


@pytest.mark.parametrize(("session", "limit"), CLIENTS)
def test_each_client_has_the_limit_of_its_last_line(home: Home, session: Session, limit: int | None) -> None:
    plugin = started(home, *LINES)
    verdicts = [ask(plugin, session) for _ in range(12)]
    assert verdicts.count(None) == (12 if limit is None else limit)
    assert all(len(found) <= 255 for _, _, names in os.walk(home.path) for found in names)


def test_without_a_line_nobody_is_counted(home: Home) -> None:
    plugin = started(home)
    assert [ask(plugin, login(b"joe")) for _ in range(100)] == [None] * 100


def test_recipients_here_are_not_counted(home: Home) -> None:
    plugin = started(home, ":1")
    assert [ask(plugin, login(b"joe"), b"ann@here.example") for _ in range(5)] == [None] * 5
    assert ask(plugin, login(b"joe")) is None


def test_processes_count_together(home: Home) -> None:
    plugins = [started(home, ":50") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        verdicts = list(pool.map(lambda i: ask(plugins[i % 4], login(b"joe")), range(100)))
    # Two that look at the same moment may both see room: as many too many as there are processes, at most.
    assert 50 <= verdicts.count(None) <= 53


def test_a_new_day_begins_at_nothing_and_forgets_the_old(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = started(home, ":1")
    for day in ("2026-11-21", "2026-11-22"):
        monkeypatch.setattr("pluq_ratelimit.time.strftime", lambda form, now, day=day: day)
        assert [ask(plugin, login(b"joe")) for _ in range(2)] == [None, TOO_MANY]
    assert os.listdir(plugin.folder) == ["2026-11-22"]


def test_a_count_that_cannot_be_written_is_temporary(home: Home) -> None:
    plugin = started(home, ":1")
    os.rmdir(plugin.folder)
    Path(plugin.folder).write_text("")
    assert ask(plugin, login(b"joe")) == CANNOT_COUNT


def test_check_names_lines_without_a_number(home: Home) -> None:
    faults = make_plugin(RateLimit, home=home, relaylimits=("joe:5", "joe", "ann:many")).check()
    assert [fault.split(": ")[1] for fault in faults] == ["'joe'", "'ann:many'"]
    assert parse("2001:db8::1:7") == ("2001:db8::1", 7)


class TestConformance(Conformance):
    plugin = RateLimit

    @pytest.fixture(autouse=True)
    def in_a_home(self, home: Home) -> None:
        self.home = home

    def make(self) -> RateLimit:
        return make_plugin(RateLimit, home=self.home, relaylimits=(":5",))
