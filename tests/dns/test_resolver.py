"""The resolver against a server that can do everything wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq.dns import Budget, Mx, NoRecords, Resolver, Status, Tlsa, lookup_now
from pluq.dns.codec import answers_question, decode_answer, encode_name, encode_query, encode_question
from pluq.dns.resolver import parse_resolv_conf, parse_server
from pluq.errors import ProtocolError, TemporaryFailure
from pluq.plan.chain import resumed
from pluq.testing.clock import virtual_time
from pluq.testing.dns import FakeDns, Fault

ZONE = {
    "example.org": [("MX", (10, "mx1.example.org")), ("MX", (20, "mx2.example.org")), ("TXT", ["v=spf1 ", "-all"])],
    "mx1.example.org": [("A", "192.0.2.1"), ("AAAA", "2001:db8::1")],
    "alias.example.org": [("CNAME", "Alias2.example.org")],
    "alias2.example.org": [("CNAME", "mx1.example.org")],
    "dangling.example.org": [("CNAME", "nowhere.example.org")],
    "nodata.example.org": [("CNAME", "example.org")],
    "loop.example.org": [("CNAME", "pool.example.org")],
    "pool.example.org": [("CNAME", "loop.example.org")],
    "null.example.org": [("MX", (0, "."))],
    "big.example.org": [("TXT", "x" * 3000)],
    "_25._tcp.mx1.example.org": [("TLSA", (3, 1, 1, b"\xaa" * 32))],
    "1.2.0.192.in-addr.arpa": [("PTR", "mx1.example.org")],
    "odd.example.org": [("TXT", b'\0\xff"\\')],
    "deep.below.example.org": [("A", "192.0.2.9")],
} | {f"{fault.name.lower().replace('_', '-')}.test": [fault, ("A", "192.0.2.7")] for fault in Fault}


@pytest.fixture
def server() -> Iterator[FakeDns]:
    with FakeDns(ZONE) as running:
        yield running


@asynccontextmanager
async def resolving(server: FakeDns, timeout: float = 20.0, attempts: int = 1) -> AsyncIterator[Resolver]:
    resolver = Resolver([server.address], timeout=timeout, attempts=attempts)
    try:
        yield resolver
    finally:
        await resolver.close()


async def test_each_type_comes_as_plain_values(server: FakeDns) -> None:
    async with resolving(server) as resolver:
        assert set(await resolver.mx(b"Example.ORG.")) == {Mx(10, b"mx1.example.org"), Mx(20, b"mx2.example.org")}
        assert await resolver.a("mx1.example.org") == ("192.0.2.1",)
        assert await resolver.aaaa("mx1.example.org") == ("2001:db8::1",)
        assert await resolver.txt("example.org") == (b"v=spf1 -all",)
        assert await resolver.txt("odd.example.org") == (b'\0\xff"\\',)
        assert await resolver.ptr("192.0.2.1") == (b"mx1.example.org",)
        assert await resolver.tlsa("_25._tcp.mx1.example.org") == (Tlsa(3, 1, 1, b"\xaa" * 32),)
        assert await resolver.mx("null.example.org") == (Mx(0, b""),)


async def test_no_name_and_no_data_are_told_apart(server: FakeDns) -> None:
    async with resolving(server) as resolver:
        with pytest.raises(NoRecords) as missing:
            await resolver.a("missing.example.org")
        assert not missing.value.exists
        for name in ("example.org", "below.example.org", "nodata.example.org", "loop.example.org"):
            with pytest.raises(NoRecords) as empty:
                await resolver.a(name)
            assert empty.value.exists, name


async def test_aliases_are_followed_within_the_answer(server: FakeDns) -> None:
    async with resolving(server) as resolver:
        answer = await resolver.lookup("alias.example.org", "A")
        assert (answer.records, answer.canonical) == (("192.0.2.1",), b"mx1.example.org")
        dangling = await resolver.lookup("dangling.example.org", "A")
        assert (dangling.status, dangling.canonical) == (Status.NO_NAME, b"nowhere.example.org")


async def test_a_loop_of_aliases_leads_to_no_data(server: FakeDns) -> None:
    async with resolving(server) as resolver:
        loop = await resolver.lookup("loop.example.org", "A")
        assert (loop.status, loop.canonical) == (Status.NO_DATA, b"pool.example.org")


async def test_answers_too_big_for_udp_come_over_tcp(server: FakeDns) -> None:
    async with resolving(server) as resolver:
        assert await resolver.txt("big.example.org") == (b"x" * 3000,)
        assert await resolver.a("truncated.test") == ("192.0.2.7",)
        assert [query[2] for query in server.queries] == ["udp", "tcp", "udp", "tcp"]


@pytest.mark.parametrize(
    "fault", ["timeout", "servfail", "refused", "truncated-no-tcp", "garbage", "wrong-id", "wrong-question"]
)
@virtual_time
async def test_a_server_that_fails_is_a_temporary_failure(server: FakeDns, fault: str) -> None:
    async with resolving(server) as resolver:
        with pytest.raises(TemporaryFailure):
            await resolver.a(f"{fault}.test")


@pytest.mark.parametrize("fault", ["lies-first", "foreign-records", "no-edns"])
async def test_the_true_answer_is_found_among_others(server: FakeDns, fault: str) -> None:
    async with resolving(server) as resolver:
        assert await resolver.a(f"{fault}.test") == ("192.0.2.7",)


async def test_the_next_server_is_asked_when_one_fails(server: FakeDns) -> None:
    with FakeDns({"example.org": Fault.SERVFAIL}) as broken:
        resolver = Resolver([("127.0.0.1", 1), broken.address, server.address], timeout=20, attempts=1)
        assert len(await resolver.mx("example.org")) == 2
        await resolver.close()


async def test_a_closed_port_is_noticed_at_once() -> None:
    resolver = Resolver([("127.0.0.1", 1)], timeout=60, attempts=1)
    async with asyncio.timeout(10):
        with pytest.raises(TemporaryFailure):
            await resolver.a("example.org")
    await resolver.close()


@pytest.mark.parametrize("name", ["a..b", ".a", "x" * 64 + ".test", ".".join(["x" * 60] * 5)])
async def test_an_impossible_name_does_not_exist_and_nobody_is_asked(server: FakeDns, name: str) -> None:
    async with resolving(server) as resolver:
        with pytest.raises(NoRecords):
            await resolver.a(name)
    assert server.queries == []


async def test_names_are_absolute(server: FakeDns) -> None:
    async with resolving(server) as resolver:
        with pytest.raises(NoRecords):
            await resolver.a("mx1")
    assert server.queries == [("mx1", "A", "udp")]


async def test_answers_are_remembered_for_their_time(server: FakeDns) -> None:
    now = 1000.0
    resolver = Resolver([server.address], clock=lambda: now)
    await resolver.mx("example.org")
    await resolver.mx("EXAMPLE.org")
    assert len(server.queries) == 1
    now += server.ttl + 1
    await resolver.mx("example.org")
    assert len(server.queries) == 2
    await resolver.close()


async def test_a_ttl_of_zero_is_not_remembered(server: FakeDns) -> None:
    server.ttl = 0
    async with resolving(server) as resolver:
        await resolver.mx("example.org")
        await resolver.mx("example.org")
    assert len(server.queries) == 2


async def test_a_question_asked_by_many_goes_out_once(server: FakeDns) -> None:
    async with resolving(server) as resolver:
        await asyncio.gather(*(resolver.mx("example.org") for _ in range(50)))
    assert len(server.queries) == 1


async def test_one_who_stops_waiting_does_not_stop_the_others(server: FakeDns) -> None:
    async with resolving(server) as resolver:
        first = asyncio.ensure_future(resolver.mx("example.org"))
        second = asyncio.ensure_future(resolver.mx("example.org"))
        await asyncio.sleep(0)
        first.cancel()
        assert len(await second) == 2


async def test_sockets_are_changed_and_every_query_is_answered(server: FakeDns) -> None:
    server.ttl = 0
    async with resolving(server) as resolver:
        for _ in range(5):
            await asyncio.gather(*(resolver.a(f"{n}.wild.test") for n in range(50)), return_exceptions=True)
        assert len(server.queries) == 250


async def test_a_budget_bounds_lookups_and_time(server: FakeDns) -> None:
    async with resolving(server, timeout=30) as resolver:
        budget = Budget(queries=2, seconds=60)
        await resolver.mx("example.org", budget)
        await resolver.mx("example.org", budget)  # counts although it is remembered
        with pytest.raises(TemporaryFailure):
            await resolver.mx("example.org", budget)
        async with asyncio.timeout(10):
            with pytest.raises(TemporaryFailure):
                await resolver.a("timeout.test", Budget(queries=9, seconds=0.1))


async def test_a_lookup_may_begin_outside_of_any_task(server: FakeDns) -> None:
    async with resolving(server) as resolver:
        for budget in (None, Budget(1, 5.0)):
            lookup = resolver.lookup("mx1.example.org", "A" if budget else "AAAA", budget)
            begun: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(
                lambda begun, lookup: begun.set_result(lookup.send(None)), begun, lookup
            )
            answer = await resumed(lookup, await begun)
            assert answer.status is Status.FOUND


async def test_the_ad_bit_is_passed_on(server: FakeDns) -> None:
    server.authentic = True
    async with resolving(server) as resolver:
        assert (await resolver.lookup("example.org", "MX")).authentic


def test_a_program_without_a_loop_can_ask(server: FakeDns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUQ_DNS_SERVER", server.text)
    assert lookup_now("mx1.example.org", "A").records == ("192.0.2.1",)


def test_resolv_conf_gives_servers_and_patience() -> None:
    text = "search corp.test\nnameserver 192.0.2.1\nnameserver ::1\n#nameserver 192.0.2.9\noptions timeout:1 attempts:3 rotate\n"
    settings = parse_resolv_conf(text)
    assert settings.servers == (("192.0.2.1", 53), ("::1", 53))
    assert (settings.timeout, settings.attempts) == (1.0, 3)
    assert parse_resolv_conf("options timeout:x").servers == (("127.0.0.1", 53),)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5353", ("127.0.0.1", 5353)),
        ("::1", ("::1", 53)),
        ("[::1]:54", ("::1", 54)),
    ],
)
def test_a_server_may_be_given_with_its_port(text: str, server: tuple[str, int]) -> None:
    assert parse_server(text) == server


@given(st.binary(max_size=200))
def test_garbage_is_a_protocol_error_and_nothing_else(tail: bytes) -> None:
    question = encode_question(b"example.org", "A")
    wire = encode_query(7, question, edns=False)
    response = wire[:2] + b"\x81\x80" + wire[4:6] + tail
    if answers_question(response, question) and len(response) >= 12:
        try:
            decode_answer(response, b"example.org", "A")
        except (ProtocolError, TemporaryFailure):
            pass


@given(st.binary(max_size=300))
def test_encoding_a_name_gives_dns_labels_or_an_error(name: bytes) -> None:
    try:
        wire = encode_name(name)
    except ProtocolError:
        return
    assert len(wire) <= 255
    assert wire.endswith(b"\0")
