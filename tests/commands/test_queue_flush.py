"""pluq queue flush: whose timeouts are forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pluq.commands.queue_flush import MAX_HOSTS, addresses, forget_timeouts
from pluq.config import Home
from pluq.dns import Resolver
from pluq.remote.tcpto import FILE_BYTES, parse_records
from pluq.testing.dns import FakeDns

ZONE = {
    "far.example": [("MX", (10, "mx1.far.example")), ("MX", (20, "mx2.far.example"))],
    "mx1.far.example": [("A", "192.0.2.1")],
    "mx2.far.example": [("A", "192.0.2.2")],
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "control").mkdir()
    (tmp_path / "queue/lock").mkdir(parents=True)
    (tmp_path / "control/smtproutes").write_text("routed.example:198.51.100.7:26\n")
    full = b"".join(bytes((192, 0, 2, number, 2)) + bytes(11) for number in range(64))
    (tmp_path / "queue/lock/tcpto").write_bytes(full)
    return Home(str(tmp_path))


def known(home: Home) -> int:
    return sum(one.count > 0 for one in parse_records(Path(home.queue, "lock/tcpto").read_bytes()))


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDns]:
    with FakeDns(ZONE) as server:
        monkeypatch.setattr(Resolver, "from_system", lambda: Resolver([server.address]))
        yield server


async def test_the_addresses_are_those_of_the_route_or_of_all_exchangers(home: Home, dns: FakeDns) -> None:
    assert await addresses(home, [b"far.example", b"routed.example"]) == {"192.0.2.1", "192.0.2.2", "198.51.100.7"}
    assert await addresses(home, [b"nowhere.example"]) is None


def test_those_of_the_messages_are_forgotten_and_no_others(home: Home, dns: FakeDns) -> None:
    forget_timeouts(home, [b"far.example"])
    assert known(home) == 62


@pytest.mark.parametrize("hosts", [None, [b"nowhere.example"], [b"far.example"] * (MAX_HOSTS + 1)])
def test_all_are_forgotten_where_it_is_not_known_which(home: Home, dns: FakeDns, hosts: list[bytes] | None) -> None:
    forget_timeouts(home, hosts)
    assert known(home) == 0
    assert Path(home.queue, "lock/tcpto").stat().st_size == FILE_BYTES
