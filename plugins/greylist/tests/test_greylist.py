"""greylist: who waits, who passes, what is remembered."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq import Recipient, Session, Transaction, Verdict
from pluq.config import Home
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin
from pluq_greylist import COME_BACK, DAY, Greylist
from pluq_greylist.exempt import Exempt, network_of
from pluq_greylist.records import Limits, Records, key_of

NOW = 1_800_000_000
LIMITS = Limits(delay=300, window=43200, keep=36 * DAY, auto=3, entries=1000)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    for part in ("control", "state/smtpd"):
        (tmp_path / part).mkdir(parents=True)
    return Home(str(tmp_path))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time, in its only element."""
    now = [NOW]
    monkeypatch.setattr("pluq_greylist.time.time", lambda: now[0])
    return now


def ask(
    plugin: Greylist, ip: str = "192.0.2.7", sender: bytes = b"s@far.example", recipient: bytes = b"joe@here.example"
) -> Verdict | None:
    return plugin.smtp_rcpt_allowed(Session(remote_ip=ip), Transaction(sender), Recipient(recipient))


def started(home: Home, **settings: int) -> Greylist:
    plugin = make_plugin(Greylist, home=home, **settings)
    plugin.start()
    return plugin


def test_who_comes_back_in_time_is_let_in_and_remembered(home: Home, clock: list[int]) -> None:
    plugin = started(home)
    attempts = [(0, COME_BACK), (299, COME_BACK), (300, None), (301, None), (30 * DAY, None), (60 * DAY, None)]
    for seconds, verdict in attempts:
        clock[0] = NOW + seconds
        assert ask(plugin) == verdict, seconds


def test_who_waits_when_the_clock_is_set_back_waits_no_longer_than_others(home: Home, clock: list[int]) -> None:
    plugin = started(home)
    assert ask(plugin) == COME_BACK
    for seconds, verdict in [(-30 * DAY, COME_BACK), (-30 * DAY + 300, None)]:
        clock[0] = NOW + seconds
        assert ask(plugin) == verdict, seconds


def test_who_comes_back_too_late_begins_again(home: Home, clock: list[int]) -> None:
    plugin = started(home)
    assert ask(plugin) == COME_BACK
    clock[0] += DAY // 2 + 1
    assert ask(plugin) == COME_BACK
    clock[0] += 300
    assert ask(plugin) is None
    clock[0] += 36 * DAY + 1
    assert ask(plugin) == COME_BACK


OTHERS = [
    ({}, True),
    ({"ip": "192.0.2.200"}, True),
    ({"ip": "192.0.3.7"}, False),
    ({"ip": "2001:db8::1"}, False),
    ({"sender": b"S@FAR.example"}, True),
    ({"sender": b"t@far.example"}, False),
    ({"sender": b""}, False),
    ({"recipient": b"Joe@HERE.example"}, True),
    ({"recipient": b"ann@here.example"}, False),
]


@pytest.mark.parametrize(("other", "same"), OTHERS)
def test_network_sender_and_recipient_count_together(
    home: Home, clock: list[int], other: dict[str, bytes], same: bool
) -> None:
    plugin = started(home)
    ask(plugin)
    clock[0] += 300
    assert ask(plugin, **other) == (None if same else COME_BACK)  # type: ignore[arg-type]


def test_a_list_with_a_number_in_each_sender_waits_once(home: Home, clock: list[int]) -> None:
    plugin = started(home)
    ask(plugin, sender=b"list-return-17-joe=here.example@lists.example")
    clock[0] += 300
    assert ask(plugin, sender=b"list-return-18-joe=here.example@lists.example") is None


def test_a_network_that_came_back_often_is_not_asked_any_more(home: Home, clock: list[int]) -> None:
    plugin = started(home, auto=2)
    for name in (b"a", b"b"):
        ask(plugin, sender=name + b"@far.example")
        clock[0] += 300
        assert ask(plugin, sender=name + b"@far.example") is None
    assert ask(plugin, sender=b"new@other.example") is None
    assert ask(plugin, ip="198.51.100.1") == COME_BACK


WHITE = "# ours\n192.0.2.9\n198.51.100.0/24\n203.0.\n2001:db8::/32\npostmaster@here.example\n@lists.example\n"
PASSING = [
    ({"ip": "192.0.2.9"}, None),
    ({"ip": "192.0.2.8"}, COME_BACK),
    ({"ip": "198.51.100.77"}, None),
    ({"ip": "203.0.113.4"}, None),
    ({"ip": "2001:db8:9::1"}, None),
    ({"ip": "unknown"}, COME_BACK),
    ({"recipient": b"Postmaster@here.example"}, None),
    ({"recipient": b"any@lists.example"}, None),
    ({"recipient": b"any@sub.lists.example"}, COME_BACK),
]


@pytest.mark.parametrize(("who", "verdict"), PASSING)
def test_the_list_of_those_who_need_not_wait(
    home: Home, clock: list[int], who: dict[str, bytes], verdict: Verdict | None
) -> None:
    Path(home.control("greylist.white")).write_text(WHITE)
    assert ask(started(home), **who) == verdict  # type: ignore[arg-type]


@pytest.mark.parametrize("variable", ["RELAYCLIENT", "GREYLISTSKIP"])
def test_who_may_relay_and_whom_the_rules_exempt_passes(home: Home, variable: str) -> None:
    session = Session(remote_ip="192.0.2.7", environment={variable: "1"})
    assert started(home).smtp_rcpt_allowed(session, Transaction(b"s@x"), Recipient(b"r@x")) is None


def test_check_names_lines_that_are_no_address(home: Home) -> None:
    Path(home.control("greylist.white")).write_text("192.0.2.1\n192.0.2.999\nmail.example\n")
    faults = make_plugin(Greylist, home=home).check()
    assert [fault.split(": ")[1] for fault in faults] == ["'192.0.2.999'", "'mail.example'"]


def test_records_that_cannot_be_used_keep_nobody_out(home: Home) -> None:
    logged: list[str] = []
    plugin = make_plugin(Greylist, home=home, log=logged.append)
    plugin.start()
    other = sqlite3.connect(plugin.records.path, isolation_level=None)
    other.execute("drop table seen")
    assert ask(plugin) is None
    assert "no such table" in logged[0]
    other.close()


def test_processes_share_the_records(home: Home, clock: list[int]) -> None:
    first, second = started(home), started(home)
    assert ask(first) == COME_BACK
    clock[0] += 300
    assert ask(second) is None


def test_a_flood_fills_no_disk(tmp_path: Path) -> None:
    records = Records(str(tmp_path / "db"), Limits(300, 43200, DAY, 5, entries=100))
    records.open()
    waits = []
    for i in range(300):
        network = b"%d" % i
        waits.append(records.wait(network, key_of(network, b"s@x", b"r@x"), NOW + 10 * i))
    rows = sqlite3.connect(tmp_path / "db").execute("select count(*) from seen").fetchone()[0]
    # It is looked at every ten minutes, here every sixty messages.
    assert 100 <= rows <= 160
    assert waits[:100] == [300] * 100 and waits[-1] == 0
    later = NOW + 2 * DAY
    assert records.wait(b"x", key_of(b"x", b"s@x", b"r@x"), later) == 300
    records.close()


def test_writers_at_the_same_time_wait_for_each_other(tmp_path: Path) -> None:
    path = str(tmp_path / "db")
    Records(path, LIMITS).open()
    faults: list[Exception] = []

    def hammer(worker: int) -> None:
        records = Records(path, LIMITS)
        try:
            records.open()
            for i in range(200):
                records.wait(b"%d" % worker, key_of(b"%d" % worker, b"%d" % i, b"r@x"), NOW)
        except sqlite3.Error as error:
            faults.append(error)
        records.close()

    threads = [threading.Thread(target=hammer, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


@given(st.binary(max_size=40), st.binary(max_size=60), st.text(max_size=40))
def test_no_line_and_no_client_breaks_the_list(line: bytes, address: bytes, ip: str) -> None:
    exempt = Exempt.of([line])
    exempt.has_client(ip)
    exempt.has_recipient(address)
    network_of(ip, 24, 64)
    assert len(key_of(line, address, line)) == 16


class TestConformance(Conformance):
    plugin = Greylist

    @pytest.fixture(autouse=True)
    def in_a_home(self, home: Home) -> None:
        self.home = home

    def make(self) -> Greylist:
        return make_plugin(Greylist, home=self.home)
