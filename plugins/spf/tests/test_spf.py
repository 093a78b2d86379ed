"""spf: what each behavior refuses, what is written down, and how it ends when DNS fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pluq import Recipient, Reject, Session, Transaction, Verdict
from pluq.dns import Resolver
from pluq.hookspecs import Login, reply_line
from pluq.testing.conformance import Conformance
from pluq.testing.dns import FakeDns, Fault
from pluq.testing.plugins import make_plugin
from pluq_spf import DEFAULT_EXPLANATION, LOOKUP_FAILED, Spf
from pluq_spf.evaluate import MAX_QUERIES

ZONE = {
    "pass.example": [("TXT", "v=spf1 ip4:192.0.2.7 -all")],
    "fail.example": [("TXT", "v=spf1 -all")],
    "other.example": [("TXT", "v=spf1 ip4:198.51.100.1 -all")],
    "soft.example": [("TXT", "v=spf1 ~all")],
    "neutral.example": [("TXT", "v=spf1 ?all")],
    "none.example": [("A", "192.0.2.1")],
    "bad.example": [("TXT", "v=spf1 what -all")],
    "temp.example": Fault.SERVFAIL,
    "exp.example": [("TXT", "v=spf1 -all exp=why.example")],
    "why.example": [("TXT", "%{i} may not send for %{d}")],
    "evil.example": [("TXT", "v=spf1 -all exp=evilwhy.example")],
    "evilwhy.example": [("TXT", b"no\r\n250 ok")],
}
RESULTS = {"pass": 9, "fail": 3, "soft": 4, "neutral": 5, "none": 6, "bad": 6}


@pytest.fixture
def server() -> Iterator[FakeDns]:
    with FakeDns(ZONE) as running:
        yield running


async def ask(
    server: FakeDns, sender: bytes, session: Session | None = None, **settings: Any
) -> tuple[Verdict | None, Verdict | None, Transaction]:
    resolver = Resolver([server.address])
    plugin = make_plugin(Spf, resolver=lambda: resolver, **settings)
    session = session or Session(remote_ip="192.0.2.7", local_host="mx.example.org", helo=b"helo.example")
    transaction = Transaction(sender)
    at_mail = await plugin.smtp_mail(session, transaction)
    at_rcpt = plugin.smtp_rcpt(session, transaction, Recipient(b"joe@example.org"))
    await resolver.close()
    return at_mail, at_rcpt, transaction


@pytest.mark.parametrize("behavior", range(7))
@pytest.mark.parametrize("name", RESULTS)
async def test_each_behavior_refuses_what_it_says(server: FakeDns, name: str, behavior: int) -> None:
    at_mail, at_rcpt, _ = await ask(server, f"joe@{name}.example".encode(), behavior=behavior)
    assert at_mail is None
    refused = behavior >= RESULTS[name]
    assert at_rcpt == (Reject(550, "5.7.1", DEFAULT_EXPLANATION) if refused else None)


async def test_a_failing_lookup_defers_from_behavior_2_on(server: FakeDns) -> None:
    assert (await ask(server, b"joe@temp.example", behavior=1))[0] is None
    assert (await ask(server, b"joe@temp.example", behavior=2))[0] == LOOKUP_FAILED


async def test_what_was_found_is_written_below_received_and_told_to_the_queue_program(server: FakeDns) -> None:
    _, _, transaction = await ask(server, b"joe@pass.example", behavior=1)
    assert transaction.received_fields == [
        b"Received-SPF: pass (mx.example.org: SPF record at pass.example designates 192.0.2.7 as permitted sender)"
        b" client-ip=192.0.2.7; envelope-from=joe@pass.example;\n"
    ]
    assert transaction.queue_environment == {"SPFRESULT": "pass"}
    assert [(one.method, one.result, one.domain) for one in transaction.results] == [("spf", "pass", "pass.example")]


@pytest.mark.parametrize(
    ("record", "result", "source"),
    [
        ("v=spf1 include:pass.example -all", "pass", "pass.example"),
        ("v=spf1 redirect=pass.example", "pass", "pass.example"),
        ("v=spf1 include:other.example ?all", "neutral", "asked.example"),
        ("v=spf1 include:other.example include:pass.example -all", "pass", "pass.example"),
        ("v=spf1 redirect=soft.example", "softfail", "soft.example"),
        ("v=spf1 include:temp.example -all", "temperror", "lookup of temp.example"),
    ],
)
async def test_the_field_names_the_domain_whose_record_decided(
    server: FakeDns, record: str, result: str, source: str
) -> None:
    server.zone["asked.example"] = [("TXT", record)]
    _, _, transaction = await ask(server, b"joe@asked.example", behavior=1)
    field = transaction.received_fields[0].decode()
    assert field.startswith(f"Received-SPF: {result} ")
    assert source in field.partition(")")[0]


async def test_no_behavior_refuses_a_pass(server: FakeDns) -> None:
    assert (await ask(server, b"joe@pass.example", behavior=7))[1] is None


@pytest.mark.parametrize(("address", "local"), [("127.0.0.1", ""), ("::1", ""), ("192.0.2.7", "192.0.2.7")])
async def test_our_own_host_passes_without_a_record(server: FakeDns, address: str, local: str) -> None:
    session = Session(remote_ip=address, local_ip=local, local_host="mx.example.org", helo=b"c")
    _, at_rcpt, transaction = await ask(server, b"joe@fail.example", session, behavior=3)
    assert (at_rcpt, server.queries) == (None, [])
    assert b"pass (mx.example.org: local policy designates %b " % address.encode() in transaction.received_fields[0]


async def test_an_outcome_lasts_no_longer_than_the_answers_that_it_stands_on(server: FakeDns) -> None:
    results = []
    for record in (
        "v=spf1 ip4:192.0.2.7 -all",
        "v=spf1 ip4:192.0.2.7 -all",
        "v=spf1 include:soft.example ?all",
        "v=spf1 -all",
    ):
        server.zone["moving.example"] = [("TXT", record)]
        _, _, transaction = await ask(server, b"joe@moving.example", behavior=1)
        results.append(transaction.results[0].result)
    assert results == ["pass", "pass", "neutral", "fail"]


async def test_an_outcome_with_macros_is_no_other_sender_s(server: FakeDns) -> None:
    server.zone["macros.example"] = [("TXT", "v=spf1 exists:%{l}.users.example -all")]
    server.zone["joe.users.example"] = [("A", "127.0.0.2")]
    results = [
        (await ask(server, sender + b"@macros.example", behavior=1))[2].results[0].result
        for sender in (b"joe", b"ann", b"joe")
    ]
    assert results == ["pass", "fail", "pass"]


async def test_a_message_without_a_sender_is_judged_by_the_helo_name(server: FakeDns) -> None:
    session = Session(remote_ip="192.0.2.7", local_host="mx.example.org", helo=b"fail.example")
    _, at_rcpt, transaction = await ask(server, b"", session, behavior=3)
    assert isinstance(at_rcpt, Reject)
    assert transaction.received_fields[0].endswith(b"client-ip=192.0.2.7; helo=fail.example;\n")


async def test_a_client_that_has_not_greeted_goes_by_the_name_that_was_looked_up(server: FakeDns) -> None:
    session = Session(remote_ip="192.0.2.7", local_host="mx.example.org", remote_host="fail.example")
    _, at_rcpt, transaction = await ask(server, b"", session, behavior=3)
    assert isinstance(at_rcpt, Reject)
    assert transaction.received_fields[0].endswith(b"client-ip=192.0.2.7; helo=fail.example;\n")


@pytest.mark.parametrize("sender", [b"joe@home@fail.example", b"joe@fail.example."])
async def test_no_way_to_write_a_sender_leads_past_its_domain_s_policy(server: FakeDns, sender: bytes) -> None:
    _, at_rcpt, transaction = await ask(server, sender, behavior=3)
    assert isinstance(at_rcpt, Reject)
    assert transaction.results[0].domain == "fail.example"


async def test_a_sender_whose_domain_is_empty_has_no_policy_whatever_the_helo_name_has(server: FakeDns) -> None:
    session = Session(remote_ip="192.0.2.7", local_host="mx.example.org", helo=b"fail.example")
    _, at_rcpt, transaction = await ask(server, b"joe@", session, behavior=3)
    assert at_rcpt is None
    assert transaction.received_fields[0].startswith(b"Received-SPF: none (mx.example.org: domain at  does not")


@pytest.mark.parametrize("address", ["unknown", "", "192.0.2"])
async def test_without_an_address_nothing_is_looked_up_and_the_result_is_permerror(
    server: FakeDns, address: str
) -> None:
    session = Session(remote_ip=address, local_ip=address, local_host="mx.example.org", helo=b"c")
    at_mail, at_rcpt, transaction = await ask(server, b"joe@fail.example", session, behavior=3)
    assert (at_mail, at_rcpt, server.queries) == (None, None, [])
    assert transaction.received_fields[0].startswith(b"Received-SPF: permerror ")
    assert b" client-ip=0.0.0.0; " in transaction.received_fields[0]


async def test_a_failing_helo_name_counts_only_when_the_site_says_so(server: FakeDns) -> None:
    def session() -> Session:
        return Session(remote_ip="192.0.2.7", local_host="mx.example.org", helo=b"fail.example")

    assert (await ask(server, b"joe@pass.example", session(), behavior=3))[1] is None
    assert isinstance((await ask(server, b"joe@pass.example", session(), behavior=3, helo=True))[1], Reject)


async def test_clients_that_may_relay_or_logged_in_are_not_checked(server: FakeDns) -> None:
    for session in (Session(environment={"RELAYCLIENT": ""}), Session(login=Login(b"joe", "plain"))):
        at_mail, at_rcpt, transaction = await ask(server, b"joe@fail.example", session, behavior=6)
        assert (at_mail, at_rcpt, transaction.received_fields) == (None, None, [])
    assert server.queries == []


async def test_the_queue_program_sees_no_result_where_nothing_was_checked(server: FakeDns) -> None:
    for settings, environment in (({"behavior": 0}, {}), ({"behavior": 3}, {"RELAYCLIENT": ""})):
        session = Session(environment={"SPFRESULT": "pass", **environment})
        _, _, transaction = await ask(server, b"joe@fail.example", session, **settings)
        assert transaction.queue_environment == {"SPFRESULT": None}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("%{xr}: %{xs}%{xe}", "mx.example.org: SPF record at fail.example"),
        ("see http://x/?sender=%{S}&by=%{xR}", "see http://x/?sender=joe%40fail.example&by=mx.example.org"),
        ("%%{xr} %{xS}", "%{xr} SPF%20record%20at%20fail.example"),
    ],
)
async def test_an_explanation_may_say_who_we_are_and_what_decided(server: FakeDns, text: str, said: str) -> None:
    assert (await ask(server, b"joe@fail.example", behavior=3, explanation=text))[1] == Reject(550, "5.7.1", said)


async def test_the_domains_own_explanation_is_shown_and_cannot_inject_a_reply(server: FakeDns) -> None:
    _, at_rcpt, _ = await ask(server, b"joe@exp.example", behavior=3)
    assert at_rcpt == Reject(550, "5.7.1", "192.0.2.7 may not send for exp.example")
    _, at_rcpt, _ = await ask(server, b"joe@evil.example", behavior=3)
    assert isinstance(at_rcpt, Reject)
    assert reply_line(at_rcpt).count(b"\r\n") == 1


async def test_the_sites_own_rules_pass_what_a_policy_would_fail(server: FakeDns) -> None:
    _, at_rcpt, transaction = await ask(server, b"joe@other.example", behavior=3, rules="ip4:192.0.2.7")
    assert at_rcpt is None
    assert b"local policy designates 192.0.2.7" in transaction.received_fields[0]


async def test_a_domain_without_policy_is_judged_by_the_guess(server: FakeDns) -> None:
    _, at_rcpt, _ = await ask(server, b"joe@none.example", behavior=3, guess="-all")
    assert isinstance(at_rcpt, Reject)


@pytest.mark.parametrize("settings", [{"rules": "ip4:10.0.0.1"}, {"guess": "ip4:10.0.0.1"}])
async def test_rules_of_the_site_that_do_not_match_say_nothing_of_a_domain_without_policy(
    server: FakeDns, settings: dict[str, str]
) -> None:
    _, at_rcpt, transaction = await ask(server, b"joe@none.example", behavior=5, **settings)
    assert at_rcpt is None
    assert transaction.results[0].result == "none"


async def test_what_the_site_guesses_does_not_speak_for_the_domain(server: FakeDns) -> None:
    _, _, transaction = await ask(server, b"joe@none.example", behavior=1, guess="ip4:192.0.2.7")
    assert [(one.result, one.domain) for one in transaction.results] == [("pass", "")]


async def test_the_queries_for_one_message_are_bounded_whatever_a_policy_asks_for() -> None:
    many = {
        f"m{index}.evil.test": [("MX", (1, f"h{index}.{host}.evil.test")) for host in range(30)] for index in range(30)
    }
    record = "v=spf1 " + " ".join(f"mx:m{index}.evil.test" for index in range(30)) + " -all"
    with FakeDns({"evil.test": [("TXT", record)], **many}) as server:
        _, _, transaction = await ask(server, b"joe@evil.test", behavior=1)
        assert len(server.queries) <= MAX_QUERIES
    assert transaction.results[0].result == "permerror"


async def test_a_sender_with_odd_bytes_cannot_break_the_header(server: FakeDns) -> None:
    _, _, transaction = await ask(server, b'"a\nX: y"@none.example', behavior=1)
    (field,) = transaction.received_fields
    assert field.count(b"\n") == 1


class TestConformance(Conformance):
    plugin = Spf
