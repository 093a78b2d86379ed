"""smtproutes, exchangers in order, and never to ourselves."""

from __future__ import annotations

import pytest

from pluq.dns import Answer, Mx, Status
from pluq.errors import TemporaryFailure
from pluq.remote import report
from pluq.remote.route import (
    Candidate,
    Route,
    Routes,
    Undeliverable,
    find_candidates,
    in_random_order,
    literal_address,
    parse_relay,
    without_ourselves,
)


class Zone:
    """A resolver that reads a dict: (name, type) -> records, an Answer, or an exception."""

    def __init__(self, records: dict[tuple[bytes, str], object]) -> None:
        self.records = records

    async def lookup(self, name: bytes | str, rdtype: str) -> Answer:
        assert isinstance(name, bytes)
        found = self.records.get((name, rdtype))
        if isinstance(found, Exception):
            raise found
        if isinstance(found, Answer):
            return found
        if found is None:
            return Answer(name, rdtype, Status.NO_NAME, canonical=name)
        assert isinstance(found, tuple)
        return Answer(name, rdtype, Status.FOUND, found, name)


@pytest.mark.parametrize(
    ("host", "relay"),
    [
        (b"exact.example.org", b"first"),
        (b"EXACT.Example.ORG", b"first"),
        (b"a.exact.example.org", b"suffix"),
        (b"example.org", b"all"),
        (b"x.example.org", b"suffix"),
        (b"direct.example.org", None),
        (b"sub.direct.example.org", b"suffix"),
        (b"twice.test", b"last"),
        (b"", b"all"),
    ],
)
def test_the_longest_suffix_with_a_line_counts(host: bytes, relay: bytes | None) -> None:
    routes = Routes(
        [
            b"exact.example.org:first",
            b".example.org:suffix",
            b"direct.example.org:",
            b"twice.test:first",
            b"TWICE.test:last",
            b"no colon",
            b":all",
        ]
    )
    assert routes.find(host) == relay


@pytest.mark.parametrize(
    ("relay", "host", "port"),
    [
        (b"mx.test", b"mx.test", 25),
        (b"mx.test:26", b"mx.test", 26),
        (b"mx.test:26x", b"mx.test", 26),
        (b"mx.test:", b"mx.test", 0),
        (b"mx.test:65562", b"mx.test", 26),
        (b":26", b"", 26),
        (b"[192.0.2.1]:26", b"[192.0.2.1]", 26),
        (b"[2001:db8::1]", b"[2001:db8::1]", 25),
        (b"[2001:db8::1]:26", b"[2001:db8::1]", 26),
        (b"127.0.0.1:25|user|secret", b"127.0.0.1", 25),
    ],
)
def test_a_relay_may_have_a_port(relay: bytes, host: bytes, port: int) -> None:
    assert parse_relay(relay) == Route(host, port)


def test_a_route_does_not_show_a_password() -> None:
    assert "secret" not in repr(Route(b"mx.test", login=(b"user", b"secret")))


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (b"192.0.2.1", "192.0.2.1"),
        (b"[192.0.2.1]", "192.0.2.1"),
        (b"192.0.2.257", "192.0.2.1"),
        (b"192.0.2", None),
        (b"[192.0.2.1", None),
        (b"192.0.2.1]", None),
        (b"192.0.2.1.", None),
        (b"", None),
    ],
)
def test_addresses_stand_for_themselves(name: bytes, address: str | None) -> None:
    assert literal_address(name) == address


async def test_exchangers_are_tried_by_preference() -> None:
    zone = Zone(
        {
            (b"d.test", "MX"): (Mx(20, b"b.test"), Mx(10, b"a.test"), Mx(30, b"gone.test")),
            (b"a.test", "A"): ("192.0.2.1", "192.0.2.2"),
            (b"b.test", "A"): ("192.0.2.3",),
        }
    )
    found = await find_candidates(Route(b"d.test", relay=False), zone)
    assert found == [
        Candidate("192.0.2.1", 10, b"a.test"),
        Candidate("192.0.2.2", 10, b"a.test"),
        Candidate("192.0.2.3", 20, b"b.test"),
    ]


def test_equal_exchangers_come_in_any_order() -> None:
    exchangers = [Mx(10, b"a"), Mx(10, b"b"), Mx(5, b"c")]
    orders = {tuple(mx.host for mx in in_random_order(exchangers)) for _ in range(200)}
    assert orders == {(b"c", b"a", b"b"), (b"c", b"b", b"a")}


async def test_a_host_without_exchangers_is_its_own() -> None:
    zone = Zone({(b"d.test", "A"): ("192.0.2.1",)})
    assert await find_candidates(Route(b"d.test", relay=False), zone) == [Candidate("192.0.2.1", 0, b"d.test")]


async def test_a_relay_has_no_exchangers() -> None:
    zone = Zone({(b"r.test", "MX"): (Mx(1, b"other.test"),), (b"r.test", "A"): ("192.0.2.9",)})
    assert await find_candidates(Route(b"r.test"), zone) == [Candidate("192.0.2.9", 0, b"r.test")]


async def test_an_exchanger_that_is_an_address_has_preference_0() -> None:
    zone = Zone({(b"d.test", "MX"): (Mx(10, b"192.0.2.5"),)})
    assert await find_candidates(Route(b"d.test", relay=False), zone) == [Candidate("192.0.2.5", 0, b"192.0.2.5")]


LATER = TemporaryFailure("no answer")
ALIAS = Answer(b"d.test", "A", Status.NO_DATA, canonical=b"elsewhere.test")


@pytest.mark.parametrize(
    ("records", "record"),
    [
        ({}, report.no_such_host(b"d.test")),
        ({(b"d.test", "MX"): LATER}, report.DNS_TROUBLE),
        ({(b"d.test", "A"): LATER}, report.DNS_TROUBLE),
        ({(b"d.test", "A"): ALIAS}, report.NO_EXCHANGER),
        ({(b"d.test", "MX"): (Mx(0, b""),)}, report.NO_EXCHANGER),  # null MX
        ({(b"d.test", "MX"): (Mx(0, b"gone.test"),)}, report.NO_EXCHANGER),
        ({(b"d.test", "MX"): (Mx(0, b"gone.test"), Mx(5, b"x.test")), (b"x.test", "A"): LATER}, report.DNS_TROUBLE),
    ],
)
async def test_what_is_reported_when_nobody_can_be_tried(
    records: dict[tuple[bytes, str], object], record: bytes
) -> None:
    with pytest.raises(Undeliverable) as error:
        await find_candidates(Route(b"d.test", relay=False), Zone(records))
    assert error.value.record == record


async def test_plugins_may_add_addresses_to_each_host() -> None:
    async def more(host: bytes, addresses: list[str]) -> list[str]:
        return ["2001:db8::1", *addresses] if host == b"a.test" else addresses

    zone = Zone({(b"d.test", "MX"): (Mx(10, b"a.test"),), (b"a.test", "A"): ("192.0.2.1",)})
    found = await find_candidates(Route(b"d.test", relay=False), zone, more)
    assert [one.address for one in found] == ["2001:db8::1", "192.0.2.1"]


@pytest.mark.parametrize(
    ("preferences", "left"),
    [
        ([10, 20, 30], [10]),
        ([10, 10, 30], []),
    ],
)
def test_mail_never_comes_back_to_ourselves(preferences: list[int], left: list[int]) -> None:
    # The second one is us.
    candidates = [Candidate(f"192.0.2.{at}", preference, b"h") for at, preference in enumerate(preferences)]
    ours = frozenset({"192.0.2.1"})
    if left:
        assert [one.preference for one in without_ourselves(candidates, ours)] == left
    else:
        with pytest.raises(Undeliverable) as error:
            without_ourselves(candidates, ours)
        assert error.value.record == report.OURSELVES
