"""popauth: which addresses may relay after a login, for how long, and how a login leaves its trace."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq import Session
from pluq.testing.conformance import Conformance
from pluq.testing.plugins import make_plugin
from pluq_popauth import PopAuth, is_fresh
from pluq_popauth.allow import note

NOW = 1_800_000_000.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "allow"
    path.mkdir()
    return path


def touch(path: Path, age: float) -> None:
    path.write_text("USER=ana\n")
    os.utime(path, (NOW - age, NOW - age))


AGES = [(0, True), (899, True), (900, False), (10_000, False), (-299, True), (-301, False)]


@pytest.mark.parametrize(("age", "fresh"), AGES)
def test_a_login_counts_as_long_as_it_is_young(folder: Path, age: float, fresh: bool) -> None:
    touch(folder / "192.0.2.7", age)
    assert is_fresh(str(folder), "192.0.2.7", 900, NOW) is fresh


def test_what_is_no_file_of_an_address_lets_nobody_relay(folder: Path) -> None:
    touch(folder / "secret", 0)
    (folder / "192.0.2.8").symlink_to(folder / "secret")
    (folder / "192.0.2.9").mkdir()
    for address in ("192.0.2.8", "192.0.2.9", "192.0.2.10", "secret", "../allow/secret", "unknown", ""):
        assert not is_fresh(str(folder), address, 900, NOW)
    assert not is_fresh(str(folder / "gone"), "192.0.2.8", 900, NOW)


@given(st.text())
def test_no_address_breaks_it(text: str) -> None:
    assert not is_fresh("/nowhere", text, 900, NOW)


def test_a_client_that_logged_in_may_relay(folder: Path) -> None:
    plugin = make_plugin(PopAuth, folder=str(folder), relayclient="@relay.example")
    (folder / "2001:db8::7").touch()
    known, stranger = Session(remote_ip="2001:0db8:0:0::7"), Session(remote_ip="192.0.2.7")
    for session in (known, stranger):
        assert plugin.smtp_connect(session, None) is None
    assert (known.environment, stranger.may_relay) == ({"RELAYCLIENT": "@relay.example"}, False)


def test_rules_can_say_where_and_how_long(folder: Path) -> None:
    (folder / "192.0.2.7").touch()
    rules = {"RELAY_CTRL_DIR": str(folder), "RELAY_CTRL_EXPIRY": "60"}
    late = {**rules, "RELAY_CTRL_EXPIRY": "0"}
    sessions = [Session(remote_ip="192.0.2.7", environment=dict(one)) for one in (rules, late)]
    for session in sessions:
        make_plugin(PopAuth).smtp_connect(session, None)
    assert [session.may_relay for session in sessions] == [True, False]


def test_what_may_relay_already_keeps_its_suffix(folder: Path) -> None:
    (folder / "192.0.2.7").touch()
    session = Session(remote_ip="192.0.2.7", environment={"RELAYCLIENT": "@x"})
    make_plugin(PopAuth, folder=str(folder)).smtp_connect(session, None)
    assert session.environment["RELAYCLIENT"] == "@x"


def test_a_folder_is_an_absolute_path(folder: Path) -> None:
    assert make_plugin(PopAuth, folder=str(folder)).check() == []
    assert "does not begin with /" in make_plugin(PopAuth, folder="allow").check()[0]


def test_a_login_is_noted_and_the_program_runs(folder: Path) -> None:
    code = "import sys; from pluq_popauth.allow import allow; sys.exit(allow(sys.argv[1:]))"
    environment = {**os.environ, "RELAY_CTRL_DIR": str(folder), "TCPREMOTEIP": "192.0.2.7"}
    command = [sys.executable, "-c", code, "sh", "-c", "echo served; exit 3"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "served\n", "")
    assert is_fresh(str(folder), "192.0.2.7", 900, time.time())


def test_another_login_from_the_same_address_makes_it_young_again(folder: Path) -> None:
    touch(folder / "192.0.2.7", 5000)
    assert note({"RELAY_CTRL_DIR": str(folder), "TCPREMOTEIP": "192.0.2.7"}) == ""
    assert is_fresh(str(folder), "192.0.2.7", 900, time.time())
    assert note({"RELAY_CTRL_DIR": str(folder), "TCPREMOTEIP": "192.0.2.8"}) == ""
    assert (folder / "192.0.2.8").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("address", ["../../etc/passwd", "", "name", "192.0.2.7/../x"])
def test_an_address_is_no_path(folder: Path, address: str) -> None:
    assert note({"RELAY_CTRL_DIR": str(folder), "TCPREMOTEIP": address}) == "TCPREMOTEIP is no address"
    assert list(folder.iterdir()) == []


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    touch(victim, 5000)
    (folder / "192.0.2.7").symlink_to(victim)
    assert "192.0.2.7" in note({"RELAY_CTRL_DIR": str(folder), "TCPREMOTEIP": "192.0.2.7"})
    assert victim.stat().st_mtime == NOW - 5000


class TestConformance(Conformance):
    plugin = PopAuth
