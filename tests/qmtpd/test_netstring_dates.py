"""[core] local_dates: the zone of the date in the Received fields of the QMTP and QMQP servers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pluq.config import Home
from pluq.hookspecs import Session
from pluq.qmtpd.qmtp import read_controls
from pluq.qmtpd.server import Service, client_of
from pluq.wire.qmqp import encode_request
from pluq.wire.qmtp import encode_package

ZONE = "XXX-5:30"
REQUESTS = {"qmail-qmtpd": encode_package, "qmail-qmqpd": encode_request}
BIN = Path(sys.executable).parent


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "control").mkdir()
    (tmp_path / "control/me").write_text("mx.example.org\n")
    (tmp_path / "queue").write_text(f"#!/bin/sh\ncat >{tmp_path}/message\ncat <&1 >/dev/null\n")
    (tmp_path / "queue").chmod(0o755)
    return tmp_path


def serve(program: str, home: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [BIN / program],
        input=REQUESTS[program](b"x\n", b"a@b", [b"c@mx.example.org"]),
        env={**os.environ, "PLUQ_HOME": str(home), "QMAILQUEUE": f"{home}/queue", "TZ": ZONE},
        capture_output=True,
    )


@pytest.mark.parametrize("program", REQUESTS)
@pytest.mark.parametrize(("toml", "zone"), [(None, "-0000"), ("", "-0000"), ("[core]\nlocal_dates = true\n", "+0530")])
def test_dates_of_the_netstring_servers_are_in_local_time_where_the_site_wants_it(
    program: str, home: Path, toml: str | None, zone: str
) -> None:
    if toml is not None:
        (home / "control/pluq.toml").write_text(toml)
    assert b"Kok " in serve(program, home).stdout
    assert (home / "message").read_text().splitlines()[1].endswith(f" {zone}")


@pytest.mark.parametrize("program", REQUESTS)
def test_a_netstring_server_with_a_setting_that_is_no_switch_takes_nothing(program: str, home: Path) -> None:
    (home / "control/pluq.toml").write_text('[core]\nlocal_dates = "yes"\n')
    assert (serve(program, home).returncode, (home / "message").exists()) == (111, False)


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", ZONE)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("zone")
def test_a_resident_netstring_server_dates_as_its_service_says(home: Path) -> None:
    controls = read_controls(Home(str(home)))
    for local_dates, end in ((False, b"-0000\n"), (True, b"+0530\n")):
        client = client_of(Session(), Service(b"mx.example.org", controls, local_dates))
        assert client.received(b"QMTP", 1_000_000_000).endswith(end)
