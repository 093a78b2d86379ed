"""dnsbl: who is asked about, what a listing does, and what happens when a list does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluq import Defer, Disconnect, Recipient, Reject, Session, Transaction, Verdict
from pluq.config import Home
from pluq.dns import Resolver
from pluq.hookspecs import Login
from pluq.testing.conformance import Conformance
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.plugins import make_plugin
from pluq_dnsbl import LOOKUP_FAILED, Dnsbl
from pluq_dnsbl.entries import Action, Entry, parse_entry, query_name

LISTED = "7.2.0.192"
ZONE = {
    f"{LISTED}.block.example": [("A", "127.0.0.2"), ("TXT", "listed 192.0.2.7")],
    f"{LISTED}.white.example": [("A", "127.0.0.2"), ("TXT", "white")],
    f"{LISTED}.aonly.example": [("A", "127.0.0.3")],
    f"{LISTED}.broken.example": Fault.SERVFAIL,
}


@pytest.fixture
def server() -> Iterator[FakeDns]:
    with FakeDns(ZONE) as running:
        yield running


async def ask(
    server: FakeDns, session: Session, allowed: bool = True, **settings: Any
) -> tuple[Verdict | None, Transaction]:
    resolver = Resolver([server.address])
    plugin = make_plugin(Dnsbl, resolver=lambda: resolver, **settings)
    transaction = Transaction(b"s@x")
    verdict = await plugin.smtp_rcpt(session, transaction, Recipient(b"r@x", allowed))
    again = await plugin.smtp_rcpt(session, transaction, Recipient(b"r@x", allowed))
    assert again == verdict
    await resolver.close()
    return verdict, transaction


def client(**environment: str) -> Session:
    return Session(remote_ip="192.0.2.7", environment=environment)


def later(text: str) -> Disconnect:
    return Disconnect(Defer(451, None, text))


CASES = [
    (["block.example"], later("listed 192.0.2.7"), "delay"),
    (["-block.example"], Reject(553, None, "listed 192.0.2.7"), "reject"),
    (["clean.example"], None, "pass"),
    (["+white.example", "-block.example"], None, "accept"),
    (["=block.example", "-block.example"], None, "ignore"),
    (["block.example:see %IP%"], later("see 192.0.2.7"), "delay"),
    (["aonly.example:-go"], Reject(553, None, "go"), "reject"),
    (["-aonly.example"], None, "pass"),
    (["-broken.example"], None, "pass"),
    (["broken.example", "-block.example"], later("listed 192.0.2.7"), "delay"),
    (["-broken.example", "-block.example"], later("listed 192.0.2.7"), "delay"),
    (["+broken.example", "-block.example"], later("listed 192.0.2.7"), "delay"),
    (["+block.example:-text"], None, "accept"),
    (["=block.example:-text"], None, "ignore"),
    (["-block.example:"], None, "pass"),
]


@pytest.mark.parametrize(("lists", "verdict", "result"), CASES)
async def test_what_a_listing_does(server: FakeDns, lists: list[str], verdict: Verdict | None, result: str) -> None:
    found, transaction = await ask(server, client(), lists=tuple(lists))
    assert found == verdict
    assert transaction.queue_environment == {"RBLRESULT": result}


async def test_a_client_is_looked_up_once_for_all_its_recipients(server: FakeDns) -> None:
    await ask(server, client(), lists=("-block.example",))
    assert len(server.queries) == 1


async def test_a_site_may_fail_closed(server: FakeDns) -> None:
    found, _ = await ask(server, client(DNSBLFAILCLOSED="1"), lists=("-broken.example",))
    assert found == later(LOOKUP_FAILED)


@pytest.mark.parametrize(("line", "result"), [("+broken.example", "accept"), ("=broken.example", "ignore")])
async def test_failing_closed_refuses_by_no_list_that_cannot_refuse(server: FakeDns, line: str, result: str) -> None:
    found, transaction = await ask(server, client(DNSBLFAILCLOSED="1"), lists=(line, "-block.example"))
    assert (found, transaction.queue_environment) == (None, {"RBLRESULT": result})


@pytest.mark.parametrize("value", ["0", "", "yes"])
async def test_a_switch_is_a_number_as_in_qmail(server: FakeDns, value: str) -> None:
    assert (await ask(server, client(DNSBLFAILCLOSED=value), lists=("-broken.example",)))[0] is None


async def test_rblresult_says_nothing_where_nobody_was_asked(server: FakeDns) -> None:
    for session in (client(DNSBLSKIP=""), client(RELAYCLIENT=""), client(DNSBLLIST="")):
        _, transaction = await ask(server, session, lists=("-block.example",))
        assert transaction.queue_environment == {"RBLRESULT": None}


async def test_rblsmtpd_concerns_clients_that_may_relay_too(server: FakeDns) -> None:
    found, _ = await ask(server, client(RBLSMTPD="-go", RELAYCLIENT=""))
    assert found == Reject(553, None, "go")


async def test_the_text_of_a_listing_is_printable_and_bounded(server: FakeDns) -> None:
    found, _ = await ask(server, client(RBLSMTPD="-caf\u00e9\t" + "x" * 600))
    assert found == Reject(553, None, "caf??" + "x" * 495)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [("", None), ("-go away", Reject(553, None, "go away")), ("later %IP%", later("later 192.0.2.7"))],
)
async def test_rblsmtpd_decides_alone(server: FakeDns, value: str, verdict: Verdict | None) -> None:
    found, _ = await ask(server, client(RBLSMTPD=value), lists=("-block.example",))
    assert (found, server.queries) == (verdict, [])


async def test_nobody_is_looked_up_who_may_relay_or_logged_in_or_names_no_good_recipient(server: FakeDns) -> None:
    for session in (client(RELAYCLIENT=""), Session(remote_ip="192.0.2.7", login=Login(b"joe", "plain"))):
        assert (await ask(server, session, lists=("-block.example",)))[0] is None
    assert (await ask(server, client(), allowed=False, lists=("-block.example",)))[0] is None
    assert (await ask(server, client(DNSBLSKIP=""), lists=("-block.example",)))[0] is None
    assert server.queries == []


async def test_the_list_can_come_from_another_file(server: FakeDns, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("# no\n-block.example\n")
    found, _ = await ask(server, client(DNSBLLIST="other"), home=Home(str(tmp_path)))
    assert found == Reject(553, None, "listed 192.0.2.7")


def test_the_names_that_are_asked() -> None:
    assert query_name("192.0.2.7", "z.example") == "7.2.0.192.z.example"
    nibbles = "1." + "0." * 23 + "8.b.d.0.1.0.0.2"
    assert query_name("2001:db8::1", "z.example") == f"{nibbles}.z.example"
    assert query_name("unknown", "z.example") is None


@given(st.text(max_size=50))
def test_any_line_is_an_entry(line: str) -> None:
    assert isinstance(parse_entry(line).action, Action)


def test_signs_and_texts() -> None:
    assert parse_entry("-z:text") == Entry("z", Action.REJECT, "text")
    assert parse_entry("z:") == Entry("z", Action.DELAY, "")


class TestConformance(Conformance):
    plugin = Dnsbl
