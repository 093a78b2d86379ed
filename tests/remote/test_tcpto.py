"""The shared memory of addresses that do not answer, in qmail's file format."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pluq.remote.tcpto import FILE_BYTES, TcpTo, clear, forget, parse_records

NOW = 1_800_000_000
HOUR = 60 << 6


def record(address: str, count: int, when: int, rest: bytes = b"\0\0\0") -> bytes:
    return socket.inet_aton(address) + bytes([count]) + rest + when.to_bytes(4, "little") + b"\0\0\0\0"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "tcpto"
    file.write_bytes(bytes(FILE_BYTES))
    return file


def used(path: Path) -> list[tuple[str, int, int]]:
    return [(one.address, one.count, one.when) for one in parse_records(path.read_bytes()) if one.count]


@pytest.mark.parametrize(
    ("count", "age", "dead"),
    [(1, 0, False), (2, 0, True), (2, HOUR - 1, True), (2, HOUR, False), (10, 5, True), (2, -60, False)],
)
def test_two_timeouts_make_an_address_dead_for_an_hour(path: Path, count: int, age: int, dead: bool) -> None:
    path.write_bytes(record("192.0.2.9", 3, NOW) + record("192.0.2.1", count, NOW - age))
    assert TcpTo(str(path), pid=0).is_dead("192.0.2.1", NOW) is dead


def test_the_hour_is_a_bit_longer_for_some_processes(path: Path) -> None:
    path.write_bytes(record("192.0.2.1", 2, NOW - HOUR))
    assert TcpTo(str(path), pid=31).is_dead("192.0.2.1", NOW)


def test_timeouts_count_when_they_are_two_minutes_apart(path: Path) -> None:
    tcpto = TcpTo(str(path))
    for when in (NOW, NOW + 119, NOW + 120, NOW + 500):
        tcpto.note("192.0.2.1", timed_out=True, now=when)
    assert used(path) == [("192.0.2.1", 3, NOW + 500)]


def test_a_connection_clears_the_count(path: Path) -> None:
    path.write_bytes(record("192.0.2.1", 2, NOW - 2 * HOUR) + bytes(16))
    tcpto = TcpTo(str(path))
    assert not tcpto.is_dead("192.0.2.1", NOW)
    tcpto.note("192.0.2.1", timed_out=False, now=NOW)
    assert path.read_bytes() == record("192.0.2.1", 0, NOW - 2 * HOUR) + bytes(16)


def test_a_new_address_takes_a_free_record_or_the_one_worth_least(path: Path) -> None:
    records = [record(f"192.0.2.{at}", 1, NOW - at) for at in range(64)]
    records[5] = record("192.0.2.5", 1, NOW - 900)  # the oldest, and one timeout only
    records[6] = record("192.0.2.6", 9, NOW - 2000)
    path.write_bytes(b"".join(records))
    TcpTo(str(path)).note("198.51.100.1", timed_out=True, now=NOW)
    assert parse_records(path.read_bytes())[5].address == "198.51.100.1"
    path.write_bytes(b"".join(records[:2]) + bytes(16) + b"".join(records[3:]))
    TcpTo(str(path)).note("198.51.100.1", timed_out=True, now=NOW)
    assert parse_records(path.read_bytes())[2].address == "198.51.100.1"


def test_bytes_that_are_not_ours_stay(path: Path) -> None:
    path.write_bytes(record("192.0.2.1", 1, NOW - 500, rest=b"abc") + bytes(32))
    TcpTo(str(path)).note("192.0.2.1", timed_out=True, now=NOW)
    assert path.read_bytes() == record("192.0.2.1", 2, NOW, rest=b"abc") + bytes(32)


def test_the_count_stops_at_ten(path: Path) -> None:
    path.write_bytes(record("192.0.2.1", 10, NOW - 500) + bytes(16))
    TcpTo(str(path)).note("192.0.2.1", timed_out=True, now=NOW)
    assert used(path) == [("192.0.2.1", 10, NOW)]


def test_ipv6_addresses_have_no_place_in_the_file(path: Path) -> None:
    tcpto = TcpTo(str(path))
    tcpto.note("2001:db8::1", timed_out=True, now=NOW)
    assert not tcpto.is_dead("2001:db8::1", NOW)
    assert used(path) == []


def test_without_the_file_everybody_is_tried(tmp_path: Path) -> None:
    tcpto = TcpTo(str(tmp_path / "missing"))
    tcpto.note("192.0.2.1", timed_out=True, now=NOW)
    assert not tcpto.is_dead("192.0.2.1", NOW)


def test_an_empty_file_stays_empty(tmp_path: Path) -> None:
    file = tmp_path / "tcpto"
    file.write_bytes(b"")
    TcpTo(str(file)).note("192.0.2.1", timed_out=True, now=NOW)
    assert file.read_bytes() == b""


def test_clearing_forgets_all(path: Path) -> None:
    path.write_bytes(record("192.0.2.1", 2, NOW) * 64)
    clear(str(path))
    assert path.read_bytes() == bytes(FILE_BYTES)


def test_some_addresses_are_forgotten_and_the_others_are_not(path: Path) -> None:
    path.write_bytes(b"".join(record(f"192.0.2.{number}", 2, NOW) for number in range(64)))
    forget(str(path), {"192.0.2.0", "192.0.2.63", "198.51.100.1"})
    assert used(path) == [(f"192.0.2.{number}", 2, NOW) for number in range(1, 63)]
    with pytest.raises(FileNotFoundError):
        forget(str(path.with_name("missing")), {"192.0.2.0"})
